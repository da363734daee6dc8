"""What judges of 0.6B, 4B and 8B dimensions cost on a GPU: random weights, absolute figures.

The weights are written to a scratch folder beside the state directory and deleted again. Requests differ in length and
content. Latency is what a caller waits inside the judge; the queue and the socket come on top.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import numpy as np

from appliance.bench import random_weights
from appliance.bench.judges import POLICY, THINGS, noise, pair_manifest
from appliance.bench.random_weights import TextShape, TowerShape
from appliance.errors import Misconfigured
from appliance.inference import llama, vision
from appliance.inference.manifest import Task
from appliance.inference.runtime import ImageItem, TextItem
from appliance.inference.wire import Answer, Question
from appliance.settings import Settings


class Size(msgspec.Struct, frozen=True):
    text: TextShape
    tower: TowerShape
    kind: str = "Q8_0"


_VOCABULARY = 151_936
_TOWER = TowerShape(width=1152, layers=27, heads=16, inner=4304, side=384, patch=14)
SIZES: Mapping[str, Size] = {
    "0.6B": Size(TextShape(1024, 28, 16, 8, 128, 3072, _VOCABULARY), _TOWER),
    "4B": Size(TextShape(2560, 36, 32, 8, 128, 9728, _VOCABULARY), _TOWER),
    "8B": Size(TextShape(4096, 36, 32, 8, 128, 12288, _VOCABULARY, tied=False), _TOWER),
}
"""Qwen3's dimensions, a SigLIP so400m tower."""

ItemT = TypeVar("ItemT")
ItemC = TypeVar("ItemC", contravariant=True)


class _Judge(Protocol[ItemC]):
    def answer(self, items: Sequence[ItemC]) -> list[Answer]: ...


def gpu(
    settings: Settings,
    sizes: Mapping[str, Size] = SIZES,
    *,
    texts: int = 100_000,
    images: int = 5_000,
    seconds: float = 150.0,
    anywhere: bool = False,
) -> dict[str, object]:
    """Verdicts a second, p50, p99 and memory of both judges, size by size.

    Each measurement ends after so many requests or seconds. Refuses to run on a CPU, where the sizes would take days,
    unless `anywhere`.
    """
    figures: dict[str, object] = {}
    for name, size in sizes.items():
        with tempfile.TemporaryDirectory(prefix="customhouse-bench-", dir=_roomy(settings, size)) as scratch:
            folder = Path(scratch)
            begun = time.perf_counter()
            random_weights.text_model(folder / "text.gguf", size.text, kind=size.kind)
            # The tower as F16: Q8_0 wants rows of whole blocks of 32, and 4304 is none.
            random_weights.projector(folder / "mmproj.gguf", size.tower, size.text.width, kind="F16")
            wrote = time.perf_counter() - begun
            figures[name] = {
                "weights": size.kind,
                "wrote_s": round(wrote, 1),
                "text": _text(settings, folder, texts, seconds, anywhere=anywhere),
                "vision": _vision(settings, folder, images, seconds, anywhere=anywhere),
            }
    return figures


def _roomy(settings: Settings, size: Size) -> Path:
    """The state directory's disk. Raises Misconfigured when the weights do not fit."""
    shape = size.text
    layer = shape.width * shape.head_width * (2 * shape.heads + 2 * shape.kv_heads) + 3 * shape.width * shape.inner
    weights = shape.layers * layer + shape.vocabulary * shape.width * (1 if shape.tied else 2)
    needed = weights * {"F32": 4.0, "F16": 2.0, "Q8_0": 1.0625}[size.kind] + 2e9
    settings.home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home).free
    if free < needed:
        raise Misconfigured(
            f"{settings.home}: {needed / 1e9:.0f} GB are needed for random weights, {free / 1e9:.0f} are free"
        )
    return settings.home


def _text(settings: Settings, folder: Path, count: int, seconds: float, *, anywhere: bool) -> dict[str, object]:
    told = msgspec.structs.replace(pair_manifest(), task=Task.TEXT_JUDGE)
    begun = time.perf_counter()
    judge = llama.open_model(settings, told, folder)
    try:
        _insist(judge.device, judge.shortfall, anywhere=anywhere)
        opened = time.perf_counter() - begun
        requests = _texts()
        lone = _measure(judge, requests, batch=1, count=count // 50, seconds=seconds / 5)
        full = _measure(judge, requests, batch=judge.max_batch, count=count, seconds=seconds)
        return {
            "device": judge.device,
            "opened_s": round(opened, 1),
            "memory_mb": round(judge.memory_bytes / 1e6),
            "one_at_a_time": lone,
            f"batches_of_{judge.max_batch}": full,
        }
    finally:
        judge.close()


def _vision(settings: Settings, folder: Path, count: int, seconds: float, *, anywhere: bool) -> dict[str, object]:
    judge = vision.open_model(settings, pair_manifest(), folder)
    try:
        _insist(judge.device, judge.shortfall, anywhere=anywhere)
        figures = _measure(judge, _images(), batch=1, count=count, seconds=seconds)
        return {
            "device": judge.device,
            "memory_mb": round(judge.memory_bytes / 1e6),
            "questions_each": len(THINGS),
            **figures,
        }
    finally:
        judge.close()


def _insist(device: str, shortfall: str, *, anywhere: bool) -> None:
    if device == "cpu" and not anywhere:
        raise Misconfigured(f"this measures a GPU, and the judge is on the CPU: {shortfall or 'no GPU is there'}")


def _texts() -> Iterator[TextItem]:
    """Without end: 5 to 200 words, most of them short, as prompts are."""
    chance = random.Random(11)  # noqa: S311 a repeatable choice is meant
    known = random_weights.words()
    while True:
        length = min(200, 5 + int(chance.expovariate(1 / 25)))
        yield TextItem(text=" ".join(chance.choices(known, k=length)), prompt=POLICY)


def _images() -> Iterator[ImageItem]:
    """Without end: 64 pictures of noise, each with its eight questions."""
    pictures = [noise(seed) for seed in range(64)]
    asked = tuple(Question(id=thing, text=f"Does this image show {thing}?") for thing in THINGS)
    while True:
        yield from (ImageItem(image=picture, questions=asked) for picture in pictures)


def _measure(
    judge: _Judge[ItemT], requests: Iterator[ItemT], *, batch: int, count: int, seconds: float
) -> dict[str, object]:
    """Rates and waits of `count` requests, or of as many as the seconds allow; the first few batches warm up."""
    for _ in range(3):
        judge.answer([next(requests) for _ in range(batch)])
    waits: list[float] = []
    verdicts = problems = answered = 0
    begun = time.perf_counter()
    while answered < count and time.perf_counter() - begun < seconds:
        items = [next(requests) for _ in range(batch)]
        start = time.perf_counter()
        answers = judge.answer(items)
        waits.append(time.perf_counter() - start)
        answered += len(items)
        verdicts += sum(len(answer.scores) for answer in answers)
        problems += sum(answer.problem is not None for answer in answers)
    busy = sum(waits)
    p50, p99 = np.percentile(np.asarray(waits), [50, 99]) * 1000
    return {
        "requests": answered,
        "verdicts_per_s": round(verdicts / busy, 1),
        "requests_per_s": round(answered / busy, 1),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "problems": problems,
    }
