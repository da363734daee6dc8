"""Judging heads on texts they have not learnt from: held-out folds, other sets, ordinary prompts. And pipelines."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.text import figures, train
from appliance.text.blocklist import Blocklist
from appliance.text.corpora import PROHIBITED, PUT_TOGETHER
from appliance.text.figures import Measure
from appliance.text.train import FEWEST, Texts, Trained

Judged = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts → a language-model judge's probability that each is prohibited."""

FALSE_FLAGS = 0.01  # of ordinary prompts and prose: to refuse them is the worst failure
# Beside `prohibited`, these heads refuse by themselves, each at a fifth of the false flags that `prohibited` may cause.
# On the development prompts they find 87 of 100 together, `prohibited` alone 81, at the same false flags. The heads on
# hate, harassment and toxicity learnt from comments: they add false flags among letters and find no more prompts.
DECISIVE = ("sexual", "violence", "violence/graphic", "self-harm")
_SHARE = 0.2
_COMPARED_AT = 0.05  # false flags at which recall is compared between sets
_FALLBACK = (
    0.002  # ordinary prompts of our own making are easier than people's, so the threshold is set by fewer of them
)


LEVELS = (0.05, 0.01, 0.002)
"""Parts of everyday texts that reach a label's three levels: where a policy warns, reviews and blocks by default."""


class Figure(msgspec.Struct, frozen=True):
    """One measured thing, in words and with its interval."""

    data: str
    metric: str
    measure: Measure
    note: str = ""


class Row(msgspec.Struct, frozen=True):
    """One pipeline on one set: which part of the flagged and of the innocent texts it refuses; None: there are none."""

    data: str
    pipeline: str
    flagged: int
    innocent: int
    recall: float | None
    false_flags: float | None


class Report(msgspec.Struct, frozen=True):
    thresholds: dict[str, float]
    """Label → probability from which a prompt is refused; any one will do."""
    thresholds_from: str
    within: list[Figure]
    transfer: list[Figure]
    unseen: list[Figure]
    development: list[Figure]
    """By these sets choices were made: no independent figures."""
    ordinary: list[Figure]
    pipelines: list[Row]
    left_out: dict[str, int]
    levels: dict[str, list[float]]
    """Label → the probabilities that the parts LEVELS of everyday texts reach."""
    everyday: dict[str, dict[str, list[float]]]
    """Set of everyday texts → label → the parts that truly reach its levels, of the texts that did not set them."""


class _Scored(msgspec.Struct, frozen=True):
    """A set with the scores that count for it: held-out ones where the heads learnt from it."""

    name: str
    texts: list[str]
    truth: train.Truth
    scores: dict[str, NDArray[np.float64]]

    def refused(self, thresholds: Mapping[str, float]) -> NDArray[np.bool_]:
        return np.logical_or.reduce([self.scores[label] >= limit for label, limit in thresholds.items()])


def evaluate(
    trained: Trained,
    texts: Texts,
    unseen: Sequence[Texts],
    development: Sequence[Texts],
    ordinary: Sequence[Texts],
    everyday: Sequence[Texts],
    blocklist: Blocklist,
    judge: Judged | None = None,
    judged_each: int = 0,
) -> Report:
    """All figures. `texts` is what the heads were trained on; nothing else is. By `development` choices were made, so
    it is reported apart. Of `ordinary` one half sets the thresholds and the other is reported; of `everyday` likewise,
    for the levels. With a judge, the
    pipelines are compared on `judged_each` texts of every set."""
    labels = [label for label in (PROHIBITED, *DECISIVE) if label in trained.heads.labels]
    plain = [_scored(trained, each, labels) for each in ordinary]
    setting = [_half(one, True) for one in plain] or [_of(trained, texts, "ordinary prompts", labels)]
    thresholds = _thresholds(setting, labels, FALSE_FLAGS if plain else _FALLBACK)
    reported = [_half(one, False) for one in plain]
    sets = [_of(trained, texts, name, labels) for name in _sources(texts)]
    foreign = [_scored(trained, each, labels) for each in unseen]
    spoken = [_scored(trained, each, list(trained.heads.labels)) for each in everyday or ordinary]
    levels = _levels([_half(one, True) for one in spoken])
    return Report(
        thresholds=thresholds,
        thresholds_from=_said(setting, bool(plain)),
        within=_within(trained, texts),
        transfer=_transfer(texts),
        unseen=[
            figure
            for one, each in zip(foreign, unseen, strict=True)
            for figure in (*_against(one, thresholds), *_by_label(trained, one.name, each, but=PROHIBITED))
        ],
        development=[figure for one in development for figure in _against(_scored(trained, one, labels), thresholds)],
        ordinary=[
            Figure(one.name, "false flags", figures.rate(one.refused(thresholds)), f"{len(one.texts)} texts")
            for one in reported
        ],
        pipelines=[
            row
            for one in (*sets, *foreign, *reported)
            for row in _pipelines(one, thresholds, blocklist, judge, judged_each)
        ],
        left_out=trained.left_out,
        levels=levels,
        everyday={one.name: _reached(_half(one, False), levels) for one in spoken},
    )


def _levels(setting: Sequence[_Scored]) -> dict[str, list[float]]:
    """Each set weighs the same, however many texts it has."""
    if not setting:
        return {}
    weights = np.concatenate([np.full(len(one.texts), 1 / len(one.texts)) for one in setting]) / len(setting)
    found: dict[str, list[float]] = {}
    for label in setting[0].scores:
        scores = np.concatenate([one.scores[label] for one in setting])
        order = np.argsort(-scores)
        above = np.cumsum(weights[order])
        found[label] = [_short(float(scores[order[np.searchsorted(above, part)]])) for part in LEVELS]
    return found


def _short(probability: float) -> float:
    return min(0.9999, max(0.0001, round(probability, 4)))


def _reached(one: _Scored, levels: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {
        label: [round(float((one.scores[label] >= level).mean()), 4) for level in each]
        for label, each in levels.items()
    }


def _thresholds(setting: Sequence[_Scored], labels: Sequence[str], allowed: float) -> dict[str, float]:
    """The lowest thresholds, their false flags in proportion, by which no more texts than allowed are refused."""
    scores = {label: np.concatenate([one.scores[label] for one in setting]) for label in labels}
    low, high = 0.0, allowed
    found = _at(scores, low)
    for _ in range(30):
        middle = (low + high) / 2
        tried = _at(scores, middle)
        refused = np.logical_or.reduce([scores[label] >= limit for label, limit in tried.items()])
        if refused.mean() > allowed:
            high = middle
        else:
            low, found = middle, tried
    return found


def _at(scores: Mapping[str, NDArray[np.float64]], rate: float) -> dict[str, float]:
    """Thresholds by which `prohibited` refuses this part of the texts, rounded up to the next thousandth."""
    shares = {label: rate if label == PROHIBITED else rate * _SHARE for label in scores}
    quantiles = {label: float(np.quantile(each, 1 - shares[label])) for label, each in scores.items()}
    return {label: min(0.999, math.floor(value * 1000 + 1) / 1000) for label, value in quantiles.items()}


def _said(setting: Sequence[_Scored], are_peoples: bool) -> str:
    texts = sum(len(one.texts) for one in setting)
    if not are_peoples:
        return f"{texts} held-out ordinary prompts of our own making, of which {_FALLBACK:.1%} may be flagged"
    names = ", ".join(one.name for one in setting)
    return f"one half ({texts}) of {names}, of which {FALSE_FLAGS:.0%} may be flagged"


def _within(trained: Trained, texts: Texts) -> list[Figure]:
    """Each label on each labelled set, by the fold that had not seen the text."""
    return [
        figure
        for name in _sources(texts)
        if not _is_ours(name)
        for figure in _by_label(trained, name, texts.where(lambda sample, name=name: sample.source == name))
    ]


def _by_label(trained: Trained, name: str, texts: Texts, but: str = "") -> list[Figure]:
    """Each label that enough texts of a set carry, and enough do not."""
    found: list[Figure] = []
    for label in trained.heads.labels:
        one = texts.where(lambda sample, label=label: label in sample.labels)
        truth = one.truth(label)
        flagged = int(truth.sum())
        if label == but or min(flagged, len(truth) - flagged) < FEWEST:
            continue
        note, scores = f"{flagged} of {len(truth)} texts", _held_out(trained, one, label)
        found.append(Figure(name, f"{label} AUC", figures.measured(truth, scores, figures.auc), note))
        recall = figures.measured(truth, scores, _recall)
        found.append(Figure(name, f"{label} recall at 5 % false flags", recall, note))
    return found


def _is_ours(name: str) -> bool:
    return name.endswith(("prompts", "disguised")) or name.startswith(PUT_TOGETHER)


def _transfer(texts: Texts) -> list[Figure]:
    """Trained without a set, judged on it; and trained on one set alone, judged on another."""
    judged = texts.where(lambda sample: PROHIBITED in sample.labels)
    by_name = {name: judged.where(lambda sample, name=name: sample.source == name) for name in _sources(judged)}
    names = [name for name, one in by_name.items() if not _is_ours(name) and 0 < one.truth(PROHIBITED).sum() < len(one)]
    found: list[Figure] = []
    for name in names:
        target = by_name[name]
        others = judged.where(lambda sample, name=name: not sample.source.startswith(name))
        found.append(_judged_by(others, target, "trained on all other sets"))
        for other in names:
            if other != name:
                found.append(_judged_by(by_name[other], target, f"trained on {other} alone"))
    return found


def _judged_by(taught: Texts, target: Texts, note: str) -> Figure:
    scores = target.logits(train.fit(taught, PROHIBITED))
    measure = figures.measured(target.truth(PROHIBITED), scores, figures.auc)
    return Figure(_name(target), f"{PROHIBITED} AUC", measure, note)


def _against(one: _Scored, thresholds: Mapping[str, float]) -> list[Figure]:
    """An unseen set: the area where it has both kinds, and what the shipped threshold does to either."""
    refused = one.refused(thresholds)
    flagged, innocent = refused[one.truth], refused[~one.truth]
    found: list[Figure] = []
    if len(flagged) and len(innocent):
        measure = figures.measured(one.truth, one.scores[PROHIBITED], figures.auc)
        found.append(Figure(one.name, f"{PROHIBITED} AUC", measure, f"{len(flagged)} of {len(one.truth)} texts"))
    if len(flagged):
        found.append(Figure(one.name, "recall", figures.rate(flagged), f"{len(flagged)} texts"))
    if len(innocent):
        found.append(Figure(one.name, "false flags", figures.rate(innocent), f"{len(innocent)} texts"))
    return found


def _pipelines(
    one: _Scored, thresholds: Mapping[str, float], blocklist: Blocklist, judge: Judged | None, judged_each: int
) -> list[Row]:
    """What each pipeline refuses of one set. A blocklist hit ends it, as in service."""
    listed = np.array([blocklist.match(text) is not None for text in one.texts], bool)
    headed = one.refused(thresholds)
    rows = [
        _row(one.name, "blocklist", one.truth, listed),
        _row(one.name, "heads", one.truth, headed),
        _row(one.name, "blocklist, heads", one.truth, listed | headed),
    ]
    if judge is not None:
        order = sorted(range(len(one.texts)), key=lambda index: zlib.crc32(one.texts[index].encode("utf-8", "replace")))
        chosen = order[:judged_each]
        asked = judge([one.texts[index] for index in chosen]) >= 0.5
        truth, before = one.truth[chosen], (listed | headed)[chosen]
        rows.append(_row(one.name, "judge (sample)", truth, asked))
        rows.append(_row(one.name, "blocklist, heads (same sample)", truth, before))
        rows.append(_row(one.name, "blocklist, heads, judge (sample)", truth, before | asked))
    return rows


def _row(name: str, pipeline: str, truth: train.Truth, refused: NDArray[np.bool_]) -> Row:
    flagged, innocent = refused[truth], refused[~truth]
    return Row(
        data=name,
        pipeline=pipeline,
        flagged=len(flagged),
        innocent=len(innocent),
        recall=round(float(flagged.mean()), 4) if len(flagged) else None,
        false_flags=round(float(innocent.mean()), 4) if len(innocent) else None,
    )


def _scored(trained: Trained, texts: Texts, labels: Sequence[str]) -> _Scored:
    """A set by the scores that count for it: held-out ones for the labels that the heads learnt from it."""
    return _Scored(
        name=" + ".join(_sources(texts)),
        texts=[sample.text for sample in texts.samples],
        truth=texts.truth(PROHIBITED),
        scores={label: _held_out(trained, texts, label) for label in labels},
    )


def _of(trained: Trained, texts: Texts, name: str, labels: Sequence[str]) -> _Scored:
    return _scored(trained, texts.where(lambda sample: sample.source == name), labels)


def _held_out(trained: Trained, texts: Texts, label: str) -> NDArray[np.float64]:
    """Each text's probability from a head that has not seen it."""
    logits = texts.logits(trained.heads.labels[label])
    for index, sample in enumerate(texts.samples):
        logits[index] = trained.logits[label].get(sample.text, logits[index])
    return 1.0 / (1.0 + np.exp(-logits))


def _half(one: _Scored, is_first: bool) -> _Scored:
    chosen = np.array([_is_first_half(text) == is_first for text in one.texts], bool)
    return _Scored(
        name=one.name,
        texts=[text for text, is_chosen in zip(one.texts, chosen, strict=True) if is_chosen],
        truth=one.truth[chosen],
        scores={label: scores[chosen] for label, scores in one.scores.items()},
    )


def _sources(texts: Texts) -> list[str]:
    return list(dict.fromkeys(sample.source for sample in texts.samples))


def _name(texts: Texts) -> str:
    return " + ".join(_sources(texts))


def _recall(truth: train.Truth, scores: NDArray[np.float64]) -> float:
    return figures.recall_at(truth, scores, _COMPARED_AT)


def _is_first_half(text: str) -> bool:
    return zlib.crc32(text.encode("utf-8", "replace")) % 2 == 0
