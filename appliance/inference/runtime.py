"""What every open model can do, and the table that says which file opens which runtime. Nothing heavy is imported here.

An adapter is one file with one function `open_model(settings, manifest, folder)` and one class that satisfies `Model`.
It is handed what its manifest's task is asked: pictures, texts, a text under a prompt, or a picture with questions.
"""

import hashlib
import importlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import msgspec

from appliance.errors import Misconfigured, WeightsError
from appliance.inference import shelf
from appliance.inference.manifest import Manifest, Task
from appliance.inference.wire import Answer, Pixels, Question
from appliance.settings import Settings


class TextItem(msgspec.Struct, frozen=True):
    """What a text judge is asked: is `text` prohibited under the policy `prompt`? Its score's label is `prohibited`."""

    text: str
    prompt: str
    reason_above: float = 1.01
    """A probability that reaches this also gets one short generated reason; over 1 means never."""


class ImageItem(msgspec.Struct, frozen=True):
    """What a vision judge is asked: every question about one picture. Each question's id labels its score."""

    image: Pixels
    questions: tuple[Question, ...]


ItemT = TypeVar("ItemT", contravariant=True)


class Model(Protocol[ItemT]):
    """An open model. Classifiers and faces take Pixels, heads str, judges TextItem or ImageItem.

    One thread at a time calls `answer` and `close`, so an adapter needs no lock of its own.
    """

    @property
    def device(self) -> str:
        """The device really used: `cpu`, `cuda:0`. Never what was asked for."""
        ...

    @property
    def shortfall(self) -> str:
        """Why CUDA was asked for and is not used, as a clause after "because"; empty when all is as asked."""
        ...

    @property
    def digest(self) -> str:
        """`runtime.digest_of` the files it was opened from."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What it holds, of GPU memory on a GPU and of this process's memory otherwise."""
        ...

    @property
    def max_batch(self) -> int:
        """The most items that one call of `answer` may be handed."""
        ...

    def answer(self, items: Sequence[ItemT]) -> list[Answer]:
        """One answer an item, in order. Fills scores, reason and detail; the lane adds device, digest, ms and batch.

        What is wrong with one item is that item's `problem`. What is wrong with the model or the batch is raised: the
        lane then asks item by item, so that a bad one does not fail its neighbours.
        """
        ...

    def close(self) -> None:
        """Gives the memory back. Not used afterwards."""
        ...


OpenModel = Model[Any]
Opener = Callable[[Settings, Manifest, Path], OpenModel]

OPENERS: dict[tuple[str, Task], str] = {
    ("onnx", Task.IMAGE_CLASSIFICATION): "appliance.inference.onnx:open_model",
    ("faces", Task.FACE_AGE): "appliance.inference.faces:open_model",
    ("heads", Task.TEXT_HEADS): "appliance.inference.heads:open_model",
    ("llama", Task.TEXT_JUDGE): "appliance.inference.llama:open_model",
    ("llama", Task.VISION_JUDGE): "appliance.inference.vision:open_model",
}
"""(runtime, task) → the adapter's function. A manifest whose pair is not here is not the model process's to open."""


def can_open(manifest: Manifest) -> bool:
    return (manifest.runtime, manifest.task) in OPENERS


def open_model(settings: Settings, manifest: Manifest) -> OpenModel:
    """The model, opened from <home>/weights/<name> and asked one test question. Raises Misconfigured."""
    pair = (manifest.runtime, manifest.task)
    if pair not in OPENERS:
        raise Misconfigured(
            f"{manifest.name}: no adapter opens runtime {manifest.runtime!r} for task {manifest.task.value!r}"
        )
    folder = settings.weights_dir / manifest.name
    missing = missing_files(manifest, folder)
    if missing:
        raise Misconfigured(
            f"{manifest.name}: {missing[0]} is not there; run: customhouse models fetch {manifest.name}"
        )
    refuse_others(settings, manifest)
    module, _, function = OPENERS[pair].partition(":")
    opener = cast(Opener, getattr(importlib.import_module(module), function))
    model = opener(settings, manifest, folder)
    try:
        canary(manifest, model)
    except BaseException:
        model.close()
        raise
    return model


def missing_files(manifest: Manifest, folder: Path) -> list[Path]:
    """Which of the manifest's files are not on disk."""
    return [folder / file.name for file in manifest.files if not (folder / file.name).is_file()]


def digest_of(manifest: Manifest, folder: Path) -> str:
    """First 12 hex digits: the sha256 of a single file, or of its files' digests in the manifest's order."""
    digests = [_sha256(folder / file.name) for file in manifest.files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
    return whole.hex()[:12]


def refuse_others(settings: Settings, manifest: Manifest) -> None:
    """Only what the manifest, or the lock, calls by its digest is opened: a file that is torn, swapped or rotten may
    well open, and decides otherwise. Raises Misconfigured."""
    folder = settings.weights_dir / manifest.name
    try:
        lock = shelf.read_lock(settings.weights_dir)
    except WeightsError as error:
        raise Misconfigured(error.message) from error
    _digests.cache_clear()  # every byte is read again: a disk changes them without a new time
    for file in manifest.files:
        known = file.sha256 or (lock[file.source].sha256 if file.source in lock else "")
        if known and _sha256(folder / file.name).hex() != known:
            raise Misconfigured(
                f"{folder / file.name}: sha256 is not the one that is known of it: it is torn or was replaced; "
                f"run: customhouse models fetch {manifest.name}"
            )


def _sha256(path: Path) -> bytes:
    """Read once for a model that is opened, not once to check it and once to name it: 2 s a gigabyte."""
    status = path.stat()
    return _digests(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=64)
def _digests(path: Path, _size: int, _mtime_ns: int, _inode: int) -> bytes:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def canary(manifest: Manifest, model: OpenModel) -> None:
    """One real question. A model that cannot answer it is not put before callers. Raises Misconfigured."""
    grey = Pixels(width=64, height=64, rgb=bytes([127]) * (64 * 64 * 3))
    items: dict[Task, object] = {
        Task.IMAGE_CLASSIFICATION: grey,
        Task.FACE_AGE: grey,
        Task.TEXT_HEADS: "A cat sits on a mat.",
        Task.TEXT_JUDGE: TextItem(text="A cat sits on a mat.", prompt="Prohibited: nothing."),
        Task.VISION_JUDGE: ImageItem(image=grey, questions=(Question(id="cat", text="Is this a cat?"),)),
    }
    answers = model.answer([items[manifest.task]])
    if len(answers) != 1:
        raise Misconfigured(f"{manifest.name}: opened, but gave {len(answers)} answers to one test question")
    if answers[0].problem is not None:
        raise Misconfigured(f"{manifest.name}: opened, but failed a test question: {answers[0].problem.message}")
    if not answers[0].scores:
        raise Misconfigured(f"{manifest.name}: opened, but gave no score to a test question")
    for label, score in answers[0].scores.items():
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise Misconfigured(f"{manifest.name}: opened, but scored {label!r} {score}, which is no probability")
