"""How well scores tell flagged texts from innocent ones: figures for each label and language, with their uncertainty.

Pure: labels and scores in, a report out. No text is in it; the worst misses are named by line and hash.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.text import figures
from appliance.text.figures import Measure, Scores, Truth
from appliance.text.labelled import DECISION, Labelled

EVERY = "all"
"""All languages together."""
FEWEST = 20
"""Flagged texts, and innocent ones, below which a language has no figures of its own: an interval would span it all."""
FALSE_FLAGS = 0.05
_BINS = 10
_RESAMPLES = 300
_WORST = 5


class At(msgspec.Struct, frozen=True):
    """What one threshold does."""

    name: str
    """warn, review, block, or suggested."""
    threshold: float | None
    """None for `decision`, where the policy as a whole says so."""
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    precision: Measure | None
    """None when it flags nothing."""
    recall: Measure
    false_flags: Measure


class Bin(msgspec.Struct, frozen=True):
    """Of the texts with a score in [low, high): the mean score, and the part that is flagged."""

    low: float
    high: float
    texts: int
    score: float
    flagged: float


class Miss(msgspec.Struct, frozen=True):
    """A text that the scores have most wrong."""

    place: int
    hash: str
    """sha256: of the text in UTF-8."""
    score: float


class Figures(msgspec.Struct, frozen=True):
    """One label in one language."""

    label: str
    language: str
    texts: int
    flagged: int
    auc: Measure | None
    """None where either kind is missing."""
    recall_at_5_false_flags: Measure | None
    calibration_error: float
    """Expected calibration error: the mean gap between score and part flagged, over ten bins by score."""
    brier: float
    bins: list[Bin]
    at: list[At]
    missed: list[Miss]
    """Flagged, and below every threshold (any, where there is none): the lowest scores first."""
    false_alarms: list[Miss]
    """Innocent, and at a threshold (any, where there is none): the highest scores first."""


class Suggestion(msgspec.Struct, frozen=True):
    """Thresholds by which so many innocent texts are flagged and no more; None: there are too few innocent texts to
    tell so small a part."""

    label: str
    innocent: int
    warn: float | None
    review: float | None
    block: float | None


class Report(msgspec.Struct, frozen=True):
    figures: list[Figures]
    too_few: list[str]
    """Sentences: labels and languages that are left out."""
    suggested: list[Suggestion] = []


def evaluate(
    rows: Sequence[Labelled],
    languages: Sequence[str],
    scores: Mapping[str, Scores],
    thresholds: Mapping[str, Mapping[str, float]],
    actions: Mapping[str, NDArray[np.bool_]],
) -> Report:
    """Every label that the rows have and `scores` answers (NaN: that text was not scored). `thresholds`: label →
    name → score. `actions`: name → whether the policy as a whole went so far, for the label `decision`."""
    found: list[Figures] = []
    too_few: list[str] = []
    spoken = np.array(languages)
    for label in sorted({label for row in rows for label in row.labels}):
        if label not in scores:
            too_few.append(f"{label}: nothing that is installed answers it")
            continue
        judged = np.array([label in row.labels for row in rows], bool) & ~np.isnan(scores[label])
        for language in (EVERY, *sorted(set(spoken[judged].tolist()))):
            chosen: list[int] = np.flatnonzero(judged if language == EVERY else judged & (spoken == language)).tolist()
            truth = np.array([rows[index].labels[label] for index in chosen], bool)
            if language != EVERY and min(int(truth.sum()), int((~truth).sum())) < FEWEST:
                too_few.append(f"{label}, {language}: {int(truth.sum())} flagged of {len(truth)} texts")
                continue
            if not len(truth):
                continue
            limits = (
                [(name, None, reached[chosen]) for name, reached in actions.items()]
                if label == DECISION
                else [
                    (name, limit, scores[label][chosen] >= limit) for name, limit in thresholds.get(label, {}).items()
                ]
            )
            found.append(_figures(label, language, [rows[i] for i in chosen], truth, scores[label][chosen], limits))
    return Report(found, too_few)


def suggest(rows: Sequence[Labelled], scores: Mapping[str, Scores], allowed: Mapping[str, float]) -> list[Suggestion]:
    """For each label with a score: the lowest thresholds that flag no more than these parts of its innocent texts.
    `allowed`: warn, review and block → part."""
    found: list[Suggestion] = []
    for label in sorted({label for row in rows for label in row.labels} & set(scores) - {DECISION}):
        innocent = np.array(
            [scores[label][i] for i, row in enumerate(rows) if row.labels.get(label) is False], np.float64
        )
        innocent = innocent[~np.isnan(innocent)]
        limits = {name: _limit(innocent, part) for name, part in allowed.items()}
        found.append(Suggestion(label, len(innocent), limits["warn"], limits["review"], limits["block"]))
    return found


def hash_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _figures(
    label: str,
    language: str,
    rows: Sequence[Labelled],
    truth: Truth,
    scores: Scores,
    limits: Sequence[tuple[str, float | None, NDArray[np.bool_]]],
) -> Figures:
    has_both = 0 < truth.sum() < len(truth)
    bins = [] if label == DECISION else _bins(truth, scores)
    reached = np.logical_or.reduce([each for _, _, each in limits]) if limits else ~truth
    return Figures(
        label=label,
        language=language,
        texts=len(truth),
        flagged=int(truth.sum()),
        auc=figures.measured(truth, scores, figures.auc, _RESAMPLES) if has_both else None,
        recall_at_5_false_flags=figures.measured(truth, scores, _recall, _RESAMPLES) if has_both else None,
        calibration_error=round(sum(one.texts * abs(one.score - one.flagged) for one in bins) / len(truth), 4),
        brier=0.0 if label == DECISION else round(float(((scores - truth) ** 2).mean()), 4),
        bins=bins,
        at=[_at(name, limit, truth, reached) for name, limit, reached in limits],
        missed=_worst(rows, scores, np.flatnonzero(truth & ~reached), is_lowest=True),
        false_alarms=_worst(rows, scores, np.flatnonzero(~truth & reached), is_lowest=False),
    )


def _at(name: str, threshold: float | None, truth: Truth, reached: NDArray[np.bool_]) -> At:
    return At(
        name=name,
        threshold=threshold,
        true_positives=int((truth & reached).sum()),
        false_positives=int((~truth & reached).sum()),
        true_negatives=int((~truth & ~reached).sum()),
        false_negatives=int((truth & ~reached).sum()),
        precision=figures.rate(truth[reached]) if reached.any() else None,
        recall=figures.rate(reached[truth]),
        false_flags=figures.rate(reached[~truth]),
    )


def _bins(truth: Truth, scores: Scores) -> list[Bin]:
    places = np.clip((scores * _BINS).astype(int), 0, _BINS - 1)
    found: list[Bin] = []
    for place in range(_BINS):
        own = places == place
        if own.any():
            flagged, score = round(float(truth[own].mean()), 4), round(float(scores[own].mean()), 4)
            found.append(Bin(place / _BINS, (place + 1) / _BINS, int(own.sum()), score, flagged))
    return found


def _worst(rows: Sequence[Labelled], scores: Scores, among: NDArray[np.intp], *, is_lowest: bool) -> list[Miss]:
    ranked = np.argsort(scores[among] if is_lowest else -scores[among], kind="stable")
    order: list[int] = among[ranked][:_WORST].tolist()
    return [Miss(rows[i].place, hash_of(rows[i].text), round(float(scores[i]), 4)) for i in order]


def _limit(innocent: Scores, part: float) -> float | None:
    """The lowest threshold, in thousandths, that no more than this part of the innocent reach."""
    if len(innocent) * part < 1:
        return None
    kept = np.sort(innocent)[::-1][: math.floor(len(innocent) * part) + 1]
    limit = math.floor(float(kept[-1]) * 1000 + 1) / 1000  # over the first that must not be flagged
    return limit if limit <= 1 else None


def _recall(truth: Truth, scores: Scores) -> float:
    return figures.recall_at(truth, scores, FALSE_FLAGS)
