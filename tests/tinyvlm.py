"""A text model and an image encoder small enough to be written for a test: real architectures, random weights.

Their verdicts mean nothing. What is shared, what is batched, what leaks and what it costs can be proven on them.
"""

from pathlib import Path

import numpy as np
from gguf import GGUFReader

from appliance.bench import random_weights
from appliance.bench.random_weights import TextShape, TowerShape
from appliance.inference.manifest import File, Judge, Manifest, Task
from appliance.inference.wire import Pixels
from appliance.settings import Inference, Settings

TEXT = TextShape(width=64, layers=2, heads=4, kv_heads=2, head_width=16, inner=128, vocabulary=2500, context=4096)
TOWER = TowerShape(width=64, layers=2, heads=4, inner=128, side=56, patch=14)

TEXT_FILE, TOWER_FILE = "text.gguf", "mmproj.gguf"


def write_pair(home: Path, text: TextShape = TEXT, tower: TowerShape = TOWER) -> None:
    """Both files, where a house has its weights: <home>/weights/tiny."""
    folder = home / "weights" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    random_weights.text_model(folder / TEXT_FILE, text)
    random_weights.projector(folder / TOWER_FILE, tower, text.width)


def manifest(task: Task, judge: Judge | None = None) -> Manifest:
    names = [TEXT_FILE, TOWER_FILE] if task is Task.VISION_JUDGE else [TEXT_FILE]
    return Manifest(
        name="tiny",
        title="random weights",
        task=task,
        runtime="llama",
        licence="Apache-2.0",
        files=[File(name=name, source="file:") for name in names],
        judge=judge or Judge(),
    )


def settings(home: Path, **inference: object) -> Settings:
    """One thread: with more, threads that wait for one another slow these tiny models down."""
    given: dict[str, object] = {"device": "cpu", "threads": 1, "max_batch": 8, **inference}
    return Settings(home=home, inference=Inference(**given))  # pyright: ignore[reportArgumentType] checked by msgspec


def words(count: int, seed: int = 1) -> str:
    """A text of exactly `count` tokens: each word with the space before it is one entry of the vocabulary."""
    chance = np.random.default_rng(seed)
    common = random_weights.words()[:80]
    return "".join(f" {common[index]}" for index in chance.integers(len(common), size=count))


def picture(seed: int, width: int = 90, height: int = 60) -> Pixels:
    """Coloured noise."""
    chance = np.random.default_rng(seed)
    return Pixels(width=width, height=height, rgb=chance.integers(0, 256, width * height * 3, np.uint8).tobytes())


def edit(path: Path, field: str | None = None, value: int = 0, *, tensor: str | None = None) -> None:
    """Changes a written GGUF in place: the type of every control token, or a tensor's numbers to NaN."""
    reader = GGUFReader(path, "r+")
    if field is not None:
        for index in reader.fields[field].data:
            part = reader.fields[field].parts[index]
            if part[0] == 3:
                part[0] = value
    for each in reader.tensors:
        if each.name == tensor:
            each.data[:] = np.nan
    del reader
