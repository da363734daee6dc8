"""models/<name>/golden.json: what a model must answer to a few harmless inputs, and the check that it does.

It tells a wrong file, a wrong preprocessing, a wrong chat template or a broken device from one that works; not whether
the model is any good. Inputs are drawn by code, are mild words, or are the photographs in models/golden.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import Misconfigured
from appliance.inference.manifest import Manifest, Task
from appliance.inference.runtime import ImageItem, TextItem
from appliance.inference.wire import Answer, Pixels, Question

Ask = Callable[[Sequence[Any]], list[Answer]]
"""What an open model's `answer` is: one answer an item."""


class Between(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For models that nobody could run where their golden vectors were written: a side, not a figure."""

    at_least: float = 0.0
    at_most: float = 1.0


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input and the scores it must get."""

    scores: dict[str, float | Between] = {}
    detail: dict[str, float | Between] = {}
    """Figures beside the scores: how many faces, how old."""
    tolerance: float = 0.01
    """How far a score may be from its figure: another device, thread count or library version moves it."""
    image: str = ""
    """drawn:dunes · drawn:sky · drawn:noise · a file in models/golden"""
    text: str = ""
    prompt: str = ""
    """text-judge: the policy."""
    questions: tuple[Question, ...] = ()
    """vision-judge."""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    made_with: str
    cases: list[Case]


class Finding(msgspec.Struct, frozen=True):
    """One score of one case, against what it must be."""

    case: str
    label: str
    expected: str
    score: float | None
    holds: bool
    problem: str = ""


def read(models_dir: Path, name: str) -> Golden | None:
    """None where the model has no golden.json. Raises Misconfigured that names the file and the field."""
    path = models_dir / name / "golden.json"
    return parse(path) if path.exists() else None


def parse(path: Path) -> Golden:
    """The golden vectors in this file. Raises Misconfigured that names it and the field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Golden)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise Misconfigured(f"{path}: {error}") from error


def check(manifest: Manifest, golden: Golden, pictures: Path, ask: Ask) -> list[Finding]:
    """Every case asked of the model, together as a caller's batch would be. `pictures` is models/golden."""
    answers = ask([item(manifest, case, pictures) for case in golden.cases])
    return [finding for case, answer in zip(golden.cases, answers, strict=True) for finding in _compared(case, answer)]


def item(manifest: Manifest, case: Case, pictures: Path) -> Any:
    """What the model's task is asked: see runtime.Model."""
    match manifest.task:
        case Task.IMAGE_CLASSIFICATION | Task.FACE_AGE:
            return picture(case.image, pictures)
        case Task.VISION_JUDGE:
            return ImageItem(image=picture(case.image, pictures), questions=case.questions)
        case Task.TEXT_JUDGE:
            return TextItem(text=case.text, prompt=case.prompt)
        case Task.TEXT_HEADS | Task.LANGUAGE:
            return case.text


def _compared(case: Case, answer: Answer) -> list[Finding]:
    name = case.image or case.text
    problem = answer.problem.message if answer.problem else ""
    found: list[Finding] = []
    given = {**answer.detail, **answer.scores}
    for label, wanted in {**case.scores, **case.detail}.items():
        low, high = (
            (wanted.at_least, wanted.at_most)
            if isinstance(wanted, Between)
            else (wanted - case.tolerance, wanted + case.tolerance)
        )
        expected = f"{low:.4g} to {high:.4g}" if isinstance(wanted, Between) else f"{wanted:.4f} ± {case.tolerance:g}"
        score = given.get(label)
        holds = score is not None and math.isfinite(score) and low <= score <= high
        found.append(Finding(name, label, expected, score, holds, problem))
    return found


# --- pictures ---------------------------------------------------------------------------------------------------------


def picture(name: str, pictures: Path) -> Pixels:
    """A drawn picture, or one of the photographs. Raises Misconfigured."""
    kind, _, drawn = name.partition(":")
    if kind == "drawn" and drawn in _DRAWN:
        return _pixels(_DRAWN[drawn]())
    path = pictures / name
    try:
        decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror}); it is part of Customhouse") from error
    if decoded is None:
        raise Misconfigured(f"{path}: is no picture; it is part of Customhouse")
    return _pixels(decoded.astype(np.uint8, copy=False))


def _pixels(rgb: NDArray[np.uint8]) -> Pixels:
    return Pixels(width=rgb.shape[1], height=rgb.shape[0], rgb=rgb.tobytes())


_WIDTH, _HEIGHT = 320, 240


def _waves(low: tuple[int, int, int], high: tuple[int, int, int], stretch: float) -> NDArray[np.uint8]:
    """Smooth hills between two colours: scores move far when channels are swapped or the picture is cut wrongly."""
    row, column = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float64)
    hill = 0.5 + 0.5 * np.sin((column / 40 + np.sin(row / 37) * 1.7) / stretch) * np.cos(row / 53 / stretch)
    mixed = np.array(low) * (1 - hill[:, :, np.newaxis]) + np.array(high) * hill[:, :, np.newaxis]
    return mixed.astype(np.uint8)


def _dunes() -> NDArray[np.uint8]:
    return _waves((180, 120, 90), (250, 215, 190), 5 / 3)


def _sky() -> NDArray[np.uint8]:
    return _waves((40, 70, 120), (170, 200, 240), 1.0)


def _noise() -> NDArray[np.uint8]:
    """PCG64's raw numbers, which numpy promises not to change."""
    raw = np.random.PCG64(7).random_raw(_WIDTH * _HEIGHT * 3 // 8)
    return np.asarray(raw, "<u8").view(np.uint8).reshape(_HEIGHT, _WIDTH, 3)


_DRAWN: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "dunes": _dunes,
    "sky": _sky,
    "noise": _noise,
}
