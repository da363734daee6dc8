"""(b) one batch of single passes ÷ chat completions · (c) 8 questions about a picture ÷ 1.

The chat completions are llama-cpp-python's own, on the same file and threads, with the cache that it keeps of a
prompt's beginning: what an ordinary integration would do.
"""
# llama_cpp's chat interface and quantiser, for the comparison only; what crosses is typed here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportArgumentType=false

import ctypes
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from appliance import categories
from appliance.bench import random_weights
from appliance.bench.random_weights import TowerShape
from appliance.errors import Misconfigured
from appliance.inference import llama, manifest
from appliance.inference import vision as vision_judge
from appliance.inference.llama_core import Engine
from appliance.inference.manifest import File, Judge, Manifest, Task
from appliance.inference.runtime import ImageItem, TextItem, missing_files
from appliance.inference.vision import VisionJudge
from appliance.inference.wire import Pixels, Question
from appliance.settings import Settings

MODEL = "smollm2-135m"
TOWER = TowerShape(width=768, layers=12, heads=12, inner=3072, side=224, patch=16)
POLICY = (
    "Prohibited: sexual content, nudity, graphic violence or gore, hate against people for what they are, threats, "
    "harassment, encouragement of self-harm, instructions for weapons or drugs. "
    "Allowed: everything else, such as landscapes, animals, food, buildings, portraits, history, sport and fiction."
)
_SUBJECTS = ("a lighthouse", "an old sailor", "a market in the rain", "two cats", "a paper dragon", "a quiet library")
_MANNERS = ("at dawn, oil painting", "in muted colours", "as a woodcut", "by lamplight, wide angle", "on a wet evening")
PROMPTS = tuple(f"{subject} {manner}" for subject, manner in itertools.product(_SUBJECTS, _MANNERS))
THINGS = ("a weapon", "blood", "drugs", "a fight", "a logo", "money", "a child", "nudity")
"""Eight short questions, as an operator's own categories would be put."""

_VERDICT: dict[str, object] = {
    "type": "object",
    "properties": {"is_prohibited": {"type": "boolean"}, "reason": {"type": "string", "maxLength": 160}},
    "required": ["is_prohibited", "reason"],
}
_BARE: dict[str, object] = {
    "type": "object",
    "properties": {"is_prohibited": {"type": "boolean"}},
    "required": ["is_prohibited"],
}
_SCHEMAS: dict[str, dict[str, object] | None] = {
    "ratio": _VERDICT,
    "ratio_to_a_bare_boolean": _BARE,
    "ratio_to_any_json": None,
}
"""What the completion must keep to. None: any JSON, which this small model goes on with up to the limit."""


def text(settings: Settings, rounds: int = 5) -> dict[str, object]:
    """(b): time of a chat completion of {is_prohibited, reason} under a grammar ÷ time of a text in a batch."""
    told, folder = _starter(settings)
    shipped = _against_chat(settings, told, folder, rounds)
    with tempfile.TemporaryDirectory(prefix="customhouse-bench-") as scratch:
        # llama.cpp has no kernel for batches of the shipped Q4_1 on a CPU: the same as Q8_0 shows what that costs.
        _requantize(folder / told.files[0].name, Path(scratch) / told.files[0].name)
        as_q8 = _against_chat(settings, told, Path(scratch), rounds)
    return {**shipped, "aim": ">= 15", "the_same_as_q8_0": as_q8}


def vision(settings: Settings, rounds: int = 7) -> dict[str, object]:
    """(c): 8 questions about one picture ÷ 1, a tower of 12 layers at 224 px before the starter's language model."""
    told, folder = _starter(settings)
    with tempfile.TemporaryDirectory(prefix="customhouse-bench-") as scratch:
        pair = Path(scratch)
        (pair / "text.gguf").symlink_to((folder / told.files[0].name).resolve())
        engine = Engine(pair / "text.gguf")
        width = engine.width
        engine.close()
        random_weights.projector(pair / "mmproj.gguf", TOWER, width, kind="F16")
        judge = vision_judge.open_model(settings, pair_manifest(), pair)
        try:
            short = [Question(id=thing, text=f"Does this image show {thing}?") for thing in THINGS]
            configured = categories.load(settings.categories_file)
            own = [Question(id=slug, text=configured[slug].question) for slug in categories.BUILT_IN]
            mixed = [*own, *short][:8]
            return {
                **_eight_to_one(judge, short, rounds),
                "aim": "<= 1.3",
                "with_the_built_in_questions": _eight_to_one(judge, mixed, rounds),
                "image_tokens": TOWER.image_tokens,
                "device": judge.device,
            }
        finally:
            judge.close()


def pair_manifest() -> Manifest:
    """Of a text.gguf and its mmproj.gguf."""
    return Manifest(
        name="bench",
        title="for measuring",
        task=Task.VISION_JUDGE,
        runtime="llama",
        licence="",
        files=[File(name="text.gguf", source="file:"), File(name="mmproj.gguf", source="file:")],
        judge=Judge(),
    )


def noise(seed: int, width: int = 640, height: int = 480) -> Pixels:
    """A picture that no other run of the encoder has seen."""
    chance = np.random.default_rng(seed)
    return Pixels(width=width, height=height, rgb=chance.integers(0, 256, width * height * 3, np.uint8).tobytes())


def _starter(settings: Settings) -> tuple[Manifest, Path]:
    told, folder = manifest.read(settings.models_dir / MODEL), settings.weights_dir / MODEL
    if missing_files(told, folder):
        raise Misconfigured(f"{MODEL} is not there; run: customhouse models fetch {MODEL}")
    return told, folder


def _against_chat(settings: Settings, told: Manifest, folder: Path, rounds: int) -> dict[str, object]:
    """Taken in turns, so that what else the machine does meets both."""
    judge = llama.open_model(settings, told, folder)
    chat = _Chat(folder / told.files[0].name, settings)
    items = [TextItem(text=prompt, prompt=POLICY) for prompt in PROMPTS][: judge.max_batch]
    batch: list[float] = []
    chats: dict[str, list[float]] = {name: [] for name in _SCHEMAS}
    try:
        judge.answer(items)
        chat.ask(PROMPTS[0], _VERDICT)
        for number in range(rounds):
            batch.append(_timed(lambda: judge.answer(items)) / len(items))
            for (name, schema), prompt in itertools.product(_SCHEMAS.items(), PROMPTS[number * 2 : number * 2 + 2]):
                chats[name].append(_timed(lambda prompt=prompt, schema=schema: chat.ask(prompt, schema)))
        before = judge.decoded_tokens
        judge.answer(items)
        read = judge.decoded_tokens - before
    finally:
        chat.close()
        judge.close()
    one = statistics.median(batch)
    return {
        "batch_ms_per_text": round(one * 1000, 1),
        "chat_ms_per_text": round(statistics.median(chats["ratio"]) * 1000, 1),
        **{name: round(statistics.median(took) / one, 1) for name, took in chats.items()},
        "batch": len(items),
        "tokens_per_text": round(read / len(items), 1),
        "device": judge.device,
    }


class _Chat:
    """The ordinary way: a chat completion a text."""

    def __init__(self, path: Path, settings: Settings) -> None:
        threads = settings.inference.threads or len(os.sched_getaffinity(0))
        layers = -1 if settings.inference.device != "cpu" else 0
        self._llama: Any = llama_cpp.Llama(
            str(path),
            n_ctx=settings.inference.context_tokens,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=layers,
            verbose=False,
        )

    def ask(self, prompt: str, schema: dict[str, object] | None) -> None:
        self._llama.create_chat_completion(
            messages=[
                {"role": "system", "content": f"Answer in JSON whether this policy prohibits the text.\n\n{POLICY}"},
                {"role": "user", "content": f"Text:\n{prompt}\nIs it prohibited?"},
            ],
            response_format={"type": "json_object", **({"schema": schema} if schema else {})},
            temperature=0.0,
            max_tokens=96,
        )

    def close(self) -> None:
        self._llama.close()


def _requantize(source: Path, target: Path) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)) != 0:
        raise Misconfigured(f"{source}: llama.cpp could not write it as Q8_0")


def _eight_to_one(judge: VisionJudge, asked: list[Question], rounds: int) -> dict[str, object]:
    """Taken in turns, on pictures of their own."""
    ones: list[float] = []
    eights: list[float] = []
    ratios: list[float] = []
    read = 0
    for number in range(rounds + 1):
        image = noise(number)
        one = ImageItem(image=image, questions=(asked[number % len(asked)],))
        eight = ImageItem(image=image, questions=tuple(asked))
        took_one = _timed(lambda one=one: judge.answer([one]))
        before = judge.decoded_tokens
        took_eight = _timed(lambda eight=eight: judge.answer([eight]))
        read = judge.decoded_tokens - before
        if number:  # the first is for warming up
            ones.append(took_one)
            eights.append(took_eight)
            ratios.append(took_eight / took_one)
    return {
        "one_ms": round(statistics.median(ones) * 1000, 1),
        "eight_ms": round(statistics.median(eights) * 1000, 1),
        "ratio": round(statistics.median(ratios), 2),
        "question_tokens": read,
    }


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
