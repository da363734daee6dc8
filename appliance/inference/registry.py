"""The open models of this process: which are loaded, their states and lanes, loading and unloading under traffic.

A model is replaced while it answers: the new one is opened and asked a test question first, then its lane is given it
between two batches, then the old one is closed. For that moment both are in memory. Where there is no room for two,
opening fails, the old one stays, and the operator unloads before loading: callers then get a passing problem meanwhile.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from appliance.categories import Category
from appliance.errors import Failure, Misconfigured, ModelUnavailable
from appliance.inference import manifest, runtime
from appliance.inference.batching import Expired, Figures, Lane, Stopped
from appliance.inference.manifest import Manifest, Task
from appliance.inference.runtime import OpenModel
from appliance.inference.wire import Answer, ModelState, ModelStatus, Problem
from appliance.settings import Settings

log = logging.getLogger(__name__)

Pending = Future[list[Answer | Exception]]
_NOTHING = Figures(queued=0, answered=0, batches={}, p50_ms=0.0, p99_ms=0.0, last_error=None)


class Unknown(Misconfigured):
    """No manifest of this name that the model process can open."""


class _Place:
    """One manifest's place: empty, or with an open model and its lane."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.changing = threading.Lock()
        """Held while it is loaded, reloaded or unloaded."""
        self.state = ModelState.UNLOADED
        self.model: OpenModel | None = None
        self.lane: Lane[Any, Answer] | None = None
        self.error: str | None = None


class Registry:
    """All models that have a manifest. Threads may share it."""

    def __init__(self, settings: Settings, manifests: Mapping[str, Manifest]) -> None:
        self._settings = settings
        self._places = {name: _Place(each) for name, each in manifests.items() if runtime.can_open(each)}
        self._learning = threading.Lock()
        self.lost = ""
        """A model that answered and does not answer even its test question any more: its device is gone, or there is
        no memory left. Nothing in this process brings it back; a new process opens it on what is there then."""

    def open_wanted(self, categories: Mapping[str, Category]) -> None:
        """Load what the settings name, or what is fetched and the categories use. Raises Misconfigured when a model
        that the settings name is not there, or one that is there cannot be opened."""
        settings = self._settings.inference
        judges = [name for name in (settings.text_judge, settings.vision_judge) if name]
        wanted = settings.models or [name for name in self._used_by(categories) if self._is_fetched(name)]
        for name in dict.fromkeys([*wanted, *judges]):
            self.load(name)

    def ask(self, name: str, task: Iterable[Task], items: Sequence[Any], deadline: float) -> Pending | Problem:
        """The answers to come, or why there will be none. Raises Busy when the model's queue is full."""
        place = self._places.get(name)
        if place is None or place.manifest.task not in task:
            return _unavailable(f"No model of the right kind is called {name}; see: customhouse models list")
        lane = place.lane
        if lane is None or place.state is not ModelState.READY:
            return self._why_not(place)
        try:
            return lane.submit(items, deadline)
        except Stopped:  # unloaded this very moment
            return self._why_not(place)

    def load(self, name: str) -> ModelStatus:
        """Ready afterwards. Raises Unknown, or Misconfigured when it cannot be opened."""
        place = self._place(name)
        with place.changing:
            if place.model is None:
                self._open(place)
        return self._status(place)

    def reload(self, name: str) -> ModelStatus:
        """Opened anew from disk; the old one answers until the new one has passed its test. Raises as load does; the
        old one then stays."""
        place = self._place(name)
        with place.changing:
            if place.model is None or place.lane is None:
                self._open(place)
            else:
                old, new = place.model, self._opened(place)
                place.model, place.error = new, None
                place.lane.swap(self._asker(place, new), new.max_batch)
                old.close()
                log.info("model reloaded", extra={"model": name, "device": new.device, "digest": new.digest})
        return self._status(place)

    def unload(self, name: str) -> ModelStatus:
        """Its queue is answered, then its memory given back."""
        place = self._place(name)
        with place.changing:
            if place.model is not None and place.lane is not None:
                place.state = ModelState.UNLOADED
                place.lane.stop()
                place.model.close()
                place.model = place.lane = None
                log.info("model unloaded", extra={"model": name})
        return self._status(place)

    def close(self) -> None:
        for name in self._places:
            self.unload(name)

    def statuses(self) -> list[ModelStatus]:
        return [self._status(place) for place in self._places.values()]

    def stuck(self) -> list[str]:
        """The models whose lane does not move any more."""
        limit_s = self._settings.inference.stuck_s
        lanes = [(name, place.lane) for name, place in self._places.items()]
        return [name for name, lane in lanes if lane is not None and lane.is_stuck(limit_s)]

    def degraded(self) -> list[str]:
        """Sentences: models that do not run as they should."""
        sentences: list[str] = []
        for name, place in self._places.items():
            model = place.model
            if model is not None and (why := self._shortfall(model)):
                asked = "cuda asked for" if self._settings.inference.device == "cuda" else "a GPU is here"
                sentences.append(f"{name}: {asked}, not used, because {why}")
            if place.error is not None:
                sentences.append(f"{name}: {place.error}")
        return sentences

    def _used_by(self, categories: Mapping[str, Category]) -> list[str]:
        """The models that are some category's source, and the text heads, which answer for prompts."""
        sources = [source.model for category in categories.values() for source in category.sources]
        heads = [name for name, place in self._places.items() if place.manifest.task is Task.TEXT_HEADS]
        return [name for name in dict.fromkeys([*sources, *heads]) if name in self._places]

    def _is_fetched(self, name: str) -> bool:
        return not runtime.missing_files(self._places[name].manifest, self._settings.weights_dir / name)

    def _place(self, name: str) -> _Place:
        if name not in self._places and not self._learn(name):
            raise Unknown(f"No model is called {name}; see: customhouse models list")
        return self._places[name]

    def _learn(self, name: str) -> bool:
        """A manifest that was added since we began. Raises Misconfigured when it cannot be read."""
        folder = self._settings.models_dir / name
        if folder.parent != self._settings.models_dir or not (folder / "manifest.toml").is_file():
            return False
        found = manifest.read(folder)
        with self._learning:
            if runtime.can_open(found) and name not in self._places:
                self._places = {**self._places, name: _Place(found)}  # anew: others may be walking through the former
        return name in self._places

    def _open(self, place: _Place) -> None:
        """Into an empty place."""
        place.state, place.error = ModelState.LOADING, None
        try:
            model = self._opened(place)
        except Misconfigured:
            place.state = ModelState.FAILED if self._is_fetched(place.manifest.name) else ModelState.UNLOADED
            raise
        settings = self._settings.inference
        place.model = model
        place.lane = Lane(
            place.manifest.name,
            self._asker(place, model),
            max_batch=model.max_batch,
            wait_s=settings.batch_wait_ms / 1000,
            queue_limit=settings.queue_limit,
        )
        place.state = ModelState.READY

    def _opened(self, place: _Place) -> OpenModel:
        """Opened and tested. Whatever an adapter raises becomes Misconfigured: a file may be anything."""
        name, begun = place.manifest.name, time.monotonic()
        try:
            self._read_again(place)
            model = runtime.open_model(self._settings, place.manifest)
        except Misconfigured as error:
            place.error = error.message
            raise
        except Exception as error:
            place.error = f"it cannot be opened ({type(error).__name__}: {error})"
            log.exception("model not opened", extra={"model": name})
            raise Misconfigured(f"{name}: {place.error}") from error
        log.info(
            "model opened",
            extra={
                "model": name,
                "device": model.device,
                "digest": model.digest,
                "memory_mb": model.memory_bytes // 1_000_000,
                "ms": round((time.monotonic() - begun) * 1000),
            },
        )
        return model

    def _read_again(self, place: _Place) -> None:
        """Other weights come with another manifest, which knows their digest. Raises Misconfigured."""
        folder = self._settings.models_dir / place.manifest.name
        if (folder / "manifest.toml").is_file():
            found = manifest.read(folder)
            if found.task is place.manifest.task and runtime.can_open(found):
                place.manifest = found

    def _asker(self, place: _Place, model: OpenModel) -> Callable[[Sequence[Any]], list[Answer]]:
        """The model's `answer`, its answers marked with what can be traced: device, digest, time and batch."""

        def ask(items: Sequence[Any]) -> list[Answer]:
            begun = time.perf_counter()
            try:
                answers = model.answer(items)
            except Exception as error:
                raise self._seen_to(place, model, error) from error
            each_ms = (time.perf_counter() - begun) * 1000 / len(items)
            marks = {"device": model.device, "digest": model.digest, "ms": each_ms, "batch": len(items)}
            return [msgspec.structs.replace(answer, **marks) for answer in answers]

        return ask

    def _seen_to(self, place: _Place, model: OpenModel, error: Exception) -> Exception:
        """What callers are told: of what they asked, or that the model is lost, which passes. In the lane's thread."""
        name = place.manifest.name
        if not self.lost:
            try:
                runtime.canary(place.manifest, model)
                return error
            except Exception:
                self.lost = name
                place.error = f"it answers no more on {model.device} ({type(error).__name__})"
                log.exception("model lost", extra={"model": name, "device": model.device})
        if place.error is None:
            return error
        return ModelUnavailable(f"{name}: {place.error}; it is opened anew.", permanent=False)

    def _why_not(self, place: _Place) -> Problem:
        name = place.manifest.name
        match self._state(place):
            case ModelState.LOADING | ModelState.READY:  # ready: it became so after we looked
                return _unavailable(f"{name} is loading.", passing=True)
            case ModelState.ABSENT:
                return _unavailable(f"{name} is not installed; run: customhouse models fetch {name}")
            case ModelState.UNLOADED:
                return _unavailable(f"{name} is not loaded; load it, or restart the model process")
            case ModelState.FAILED:
                return _unavailable(f"{name} could not be loaded: {place.error}")

    def _state(self, place: _Place) -> ModelState:
        """As stored, except that weights may be fetched or removed beside us at any time."""
        if place.state in (ModelState.UNLOADED, ModelState.FAILED) and not self._is_fetched(place.manifest.name):
            return ModelState.ABSENT
        return place.state

    def _shortfall(self, model: OpenModel) -> str:
        if self._settings.inference.device == "cuda" and model.device == "cpu":
            return model.shortfall or "its runtime did not say why"
        return model.shortfall

    def _status(self, place: _Place) -> ModelStatus:
        model, lane = place.model, place.lane
        figures = lane.figures() if lane is not None else _NOTHING
        device = model.device if model is not None else ""
        return ModelStatus(
            name=place.manifest.name,
            task=place.manifest.task.value,
            state=self._state(place),
            device=device,
            wanted_device="cuda:0" if model is not None and self._shortfall(model) else device,
            digest=model.digest if model is not None else "",
            memory_bytes=model.memory_bytes if model is not None else 0,
            queued=figures.queued,
            answered=figures.answered,
            batches={str(size): times for size, times in figures.batches.items()},
            p50_ms=figures.p50_ms,
            p99_ms=figures.p99_ms,
            last_error=place.error or figures.last_error,
        )


def problem(error: Exception) -> Problem:
    """What a caller is told of an item that failed. A fault unknown to us may pass: the caller's tries are few."""
    match error:
        case Expired():
            return Problem(code="PROVIDER_TIMEOUT", message=error.message, passing=True)
        case Failure():
            return Problem(code=error.error_code, message=error.message, passing=not error.permanent)
        case _:
            return Problem(code="MODEL_REFUSED", message=f"The model failed ({type(error).__name__}).", passing=True)


def _unavailable(message: str, *, passing: bool = False) -> Problem:
    return Problem(code="MODEL_UNAVAILABLE", message=message, passing=passing)
