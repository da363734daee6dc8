"""What heads are worth: areas, rates and their uncertainty, from labels and scores. numpy only."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]

_RESAMPLES = 1000


class Measure(msgspec.Struct, frozen=True):
    """A figure with the ends of its 95 % interval: from resampling the texts 1,000 times."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def auc(truth: Truth, scores: Scores) -> float:
    """The chance that a flagged text scores over an innocent one, ties counting half. NaN when either has none."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def recall_at(truth: Truth, scores: Scores, false_flags: float) -> float:
    """The part of the flagged texts found when this part of the innocent ones is flagged too. NaN as `auc`."""
    if truth.all() or not truth.any():
        return float("nan")
    return float((scores[truth] > np.quantile(scores[~truth], 1 - false_flags)).mean())


def measured(
    truth: Truth, scores: Scores, figure: Callable[[Truth, Scores], float], resamples: int = _RESAMPLES
) -> Measure:
    """A figure with its interval; flagged and innocent texts are resampled apart, so that no draw lacks either."""
    draw = np.random.default_rng(0)
    kinds = [each for each in (np.flatnonzero(truth), np.flatnonzero(~truth)) if len(each)]
    found: list[float] = []
    for _ in range(resamples):
        chosen: NDArray[Any] = np.concatenate([draw.choice(kind, len(kind)) for kind in kinds])
        found.append(figure(truth[chosen], scores[chosen]))
    low, high = np.quantile(found, [0.025, 0.975])
    return Measure(figure(truth, scores), float(low), float(high))


def rate(flagged: NDArray[np.bool_]) -> Measure:
    """The part that is flagged, with Wilson's interval, which holds where none or all are."""
    n, z = len(flagged), 1.96
    if not n:
        return Measure(float("nan"), float("nan"), float("nan"))
    p = float(flagged.mean())
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return Measure(p, max(0.0, middle - half), min(1.0, middle + half))
