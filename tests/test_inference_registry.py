"""Which models are opened, and what stands in the way, without a process around it."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from appliance import categories
from appliance.errors import Misconfigured, ModelRefused, ModelUnavailable
from appliance.inference import manifest, runtime
from appliance.inference.batching import Expired
from appliance.inference.manifest import Task
from appliance.inference.registry import Registry, Unknown, problem
from appliance.inference.wire import Answer, ModelState, Problem
from appliance.settings import Inference, Settings
from tests import tinyonnx
from tests.tinyonnx import picture

replace = msgspec.structs.replace
LOOKS = (Task.IMAGE_CLASSIFICATION,)


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Settings:
    """ "used" and "unused" are there, "missing" has no weights, "broken" is no graph; used and missing answer nsfw."""
    models = tmp_path / "models"
    for name in ("used", "unused"):
        tinyonnx.install(settings.home, models, name)
    tinyonnx.install(settings.home, models, "missing").unlink()
    tinyonnx.install(settings.home, models, "broken", b"not a graph")
    sources = "".join(
        f'[[nsfw.sources]]\nstep = "nsfw"\nmodel = "{name}"\nlabel = "bright"\nthreshold = 0.5\n'
        for name in ("used", "missing", "unheard-of")
    )
    (tmp_path / "categories.toml").write_text(tinyonnx.CATEGORIES + sources)
    return replace(settings, models_dir=models, categories_file=tmp_path / "categories.toml")


@pytest.fixture
def opened() -> Iterator[list[Registry]]:
    registries: list[Registry] = []
    yield registries
    for registry in registries:
        registry.close()


def start(house: Settings, opened: list[Registry], **inference: object) -> Registry:
    settings = replace(house, inference=replace(Inference(threads=1, device="cpu"), **inference))
    registry = Registry(settings, manifest.read_all(settings.models_dir))
    opened.append(registry)
    registry.open_wanted(categories.load(settings.categories_file))
    return registry


def answer(registry: Registry, name: str, side: int = 8) -> dict[str, float]:
    pending = registry.ask(name, LOOKS, [picture(200, side)], time.monotonic() + 60)
    assert not isinstance(pending, Problem)
    [found] = pending.result(60)
    if isinstance(found, Exception):
        raise found
    return found.scores


def states(registry: Registry) -> dict[str, str]:
    return {model.name: model.state.value for model in registry.statuses()}


def test_with_nothing_named_what_is_fetched_and_a_category_uses_is_loaded(house: Settings, opened: list[Registry]):
    registry = start(house, opened)
    assert states(registry) == {"broken": "unloaded", "missing": "absent", "unused": "unloaded", "used": "ready"}
    assert registry.degraded() == []


def test_what_is_named_is_loaded_and_nothing_else(house: Settings, opened: list[Registry]):
    registry = start(house, opened, models=["unused"])
    assert states(registry) == {"broken": "unloaded", "missing": "absent", "unused": "ready", "used": "unloaded"}


@pytest.mark.parametrize(
    ("inference", "says"),
    [
        ({"models": ["used", "missing"]}, "run: customhouse models fetch missing"),
        ({"models": ["unheard-of"]}, "No model is called unheard-of"),
        ({"models": ["broken"]}, "broken.*onnxruntime cannot open it"),
        ({"vision_judge": "missing"}, "run: customhouse models fetch missing"),
    ],
)
def test_a_named_model_that_cannot_be_opened_is_a_sentence(
    house: Settings, opened: list[Registry], inference: dict[str, object], says: str
):
    with pytest.raises(Misconfigured, match=says):
        start(house, opened, **inference)


def test_a_model_that_failed_says_so_until_it_loads(house: Settings, opened: list[Registry]):
    registry = start(house, opened)
    file = house.weights_dir / "unused" / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(Misconfigured):
        registry.load("unused")
    assert states(registry)["unused"] == "failed"
    assert len(registry.degraded()) == 1
    refused = registry.ask("unused", LOOKS, [picture(1)], time.monotonic() + 9)
    assert isinstance(refused, Problem)
    assert "could not be loaded" in refused.message
    file.write_bytes(whole)
    assert registry.load("unused").state is ModelState.READY
    assert registry.degraded() == []


def test_weights_that_were_replaced_under_it_are_refused_and_the_open_ones_stay(
    house: Settings, opened: list[Registry]
):
    """Found on 2026-11-21 by tests/faults: another model's file, which opens just as well, decided in its place."""
    registry = start(house, opened)
    file = house.weights_dir / "used" / "model.onnx"
    before = answer(registry, "used")
    file.write_bytes(tinyonnx.graph(inverted=True))
    with pytest.raises(Misconfigured, match="torn or was replaced; run: customhouse models fetch used"):
        registry.reload("used")
    assert answer(registry, "used") == before
    assert any("torn or was replaced" in sentence for sentence in registry.degraded())


def test_weights_that_are_fetched_later_can_be_loaded_without_a_restart(house: Settings, opened: list[Registry]):
    registry = start(house, opened)
    tinyonnx.install(house.home, house.models_dir, "missing")
    assert states(registry)["missing"] == "unloaded"
    assert registry.load("missing").state is ModelState.READY


def test_a_loading_model_is_a_passing_problem(house: Settings, opened: list[Registry], monkeypatch: pytest.MonkeyPatch):
    registry = start(house, opened)
    during: list[object] = []
    real = registry._opened

    def watched(place: object) -> object:
        during.append(registry.ask("unused", LOOKS, [picture(1)], time.monotonic() + 9))
        during.append(states(registry)["unused"])
        return real(place)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(registry, "_opened", watched)
    registry.load("unused")
    assert during == [Problem("MODEL_UNAVAILABLE", "unused is loading.", passing=True), "loading"]


def test_unknown_names_are_refused(house: Settings, opened: list[Registry]):
    registry = start(house, opened)
    with pytest.raises(Unknown, match="see: customhouse models list"):
        registry.load("unheard-of")


def test_what_failed_becomes_a_problem_of_the_contract():
    assert problem(Expired("too late")) == Problem("PROVIDER_TIMEOUT", "too late", passing=True)
    assert problem(ModelRefused("no", permanent=True)) == Problem("MODEL_REFUSED", "no", passing=False)
    assert problem(KeyError("secret text")) == Problem("MODEL_REFUSED", "The model failed (KeyError).", passing=True)


class Lost:
    """An open model whose GPU goes away: all that CUDA then says is an error, to everybody, for ever."""

    device, shortfall, digest, memory_bytes, max_batch = "cuda:0", "", "abc", 1, 4

    def __init__(self) -> None:
        self.is_lost = False

    def answer(self, items: Sequence[object]) -> list[Answer]:
        if self.is_lost:
            raise ModelRefused("onnxruntime: CUDA failure 719: unspecified launch failure", permanent=False)
        if any(getattr(item, "width", 0) == 13 for item in items):
            raise ModelRefused("this one is bad", permanent=False)
        return [Answer(scores={"bright": 0.5}) for _ in items]

    def close(self) -> None:
        return None


def test_a_gpu_that_is_lost_is_a_passing_problem_and_the_process_is_to_leave(
    house: Settings, opened: list[Registry], monkeypatch: pytest.MonkeyPatch
):
    """Found on 2026-11-21 by tests/faults: the process stayed, every batch failed, and each job failed for good after
    five tries, until somebody started it again."""
    model = Lost()
    registry = Registry(house, manifest.read_all(house.models_dir))
    opened.append(registry)
    monkeypatch.setattr(runtime, "open_model", lambda *_: model)
    registry.load("used")
    with pytest.raises(ModelRefused, match="this one is bad"):
        answer(registry, "used", side=13)
    assert registry.lost == ""
    model.is_lost = True
    with pytest.raises(ModelUnavailable, match="answers no more on cuda:0"):
        answer(registry, "used")
    assert registry.lost == "used"
    assert any("answers no more on cuda:0" in sentence for sentence in registry.degraded())
