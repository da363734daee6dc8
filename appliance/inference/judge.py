"""What both judges do with a model's answer: where it is read, and how it becomes a calibrated probability."""

import math

import numpy as np
from numpy.typing import NDArray

from appliance.errors import Misconfigured
from appliance.inference.llama_core import Engine
from appliance.inference.manifest import Judge, Manifest
from appliance.inference.wire import Problem

NO_VERDICT = Problem(
    code="MODEL_REFUSED", message="The model gave no verdict that can be read; check its weights", passing=False
)


class Ballot:
    """The tokens that mean yes and no, and the log-odds between them. Raises Misconfigured when they overlap."""

    def __init__(self, engine: Engine, judge: Judge) -> None:
        self._judge = judge
        self.yes = spellings(engine, judge.yes)
        self.no = spellings(engine, judge.no)
        if not self.yes or not self.no or set(self.yes) & set(self.no):
            raise Misconfigured(
                f"{engine.path.name}: judge.yes {judge.yes!r} and judge.no {judge.no!r} begin with the same token; "
                "choose answers that differ in their first letters"
            )

    def log_odds(self, logits: NDArray[np.float32]) -> float:
        """ln P(yes) − ln P(no), summed over their spellings. NaN when the model's numbers are broken."""
        return _sum(logits[self.yes]) - _sum(logits[self.no])

    def probability(self, log_odds: float) -> float:
        """Calibrated: the manifest's bias subtracted, divided by its temperature."""
        x = (log_odds - self._judge.bias) / self._judge.temperature
        return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def judge_of(manifest: Manifest) -> Judge:
    """The manifest's judge section, checked. Raises Misconfigured."""
    judge = manifest.judge or Judge()
    if not judge.temperature > 0:
        raise Misconfigured(f"{manifest.name}: judge.temperature is {judge.temperature}; it must be over 0")
    return judge


def spellings(engine: Engine, word: str) -> list[int]:
    """First tokens of a word as a model may answer it: with and without a space, capitalised or not.

    Only the word as it is written may be longer than one token: of `unsafe` spelled `uns|afe` the first counts, but
    the first letters of a variant that nobody says would also begin other words.
    """
    found: dict[int, None] = {}
    for space in ("", " "):
        tokens = engine.tokenize(space + word, special=False)
        if tokens and engine.piece(tokens[0]).strip():
            found[tokens[0]] = None
        for variant in (word.lower(), word.capitalize(), word.upper()):
            tokens = engine.tokenize(space + variant, special=False)
            if len(tokens) == 1:
                found[tokens[0]] = None
    return list(found)


def _sum(logits: NDArray[np.float32]) -> float:
    top = float(logits.max())
    return top + math.log(float(np.exp(logits.astype(np.float64) - top).sum())) if math.isfinite(top) else math.nan
