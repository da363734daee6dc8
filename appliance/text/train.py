"""Training the text heads: logistic regressions on sentence embeddings, calibrated on folds that they have not seen.

scikit-learn's room. Only `customhouse train` needs it (the extra `train`); what is trained runs on numpy.
"""
# scikit-learn ships no types; what leaves this file is typed.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from appliance.errors import Misconfigured
from appliance.inference.heads import Head, Heads
from appliance.text.corpora import LABELS, PROHIBITED, Sample, as_read

FOLDS = 5
FEWEST = 20  # texts that carry a label; with fewer a head would be a guess, and is left out
# Strength of the regularisation (scikit-learn's C). On all sets together .3, 1, 3 and 10 recalled .83, .83, .79 and .75
# of the development prompts at 1 % false flags; 1 has the better within-set areas of the first two.
_C = 1.0
_DIGITS = 5  # kept of each weight: scores stay within 1e-5, and the last bits of another processor are left out

Embed = Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.intp]]]
"""Texts → a vector for every window, and the text that each belongs to: heads.Embedder.embed."""
Truth = NDArray[np.bool_]


class Texts:
    """Samples with their vectors: a text's score is the highest of its windows, in training as in service."""

    def __init__(self, samples: Sequence[Sample], vectors: NDArray[np.float32], owners: NDArray[np.intp]) -> None:
        self.samples = list(samples)
        self.vectors = vectors
        self.owners = owners

    @classmethod
    def embedded(cls, samples: Sequence[Sample], embed: Embed) -> Self:
        vectors, owners = embed([as_read(sample.text) for sample in samples])
        return cls(samples, vectors, owners)

    def __len__(self) -> int:
        return len(self.samples)

    def where(self, chosen: Callable[[Sample], bool]) -> "Texts":
        """Those samples alone."""
        kept = np.array([chosen(sample) for sample in self.samples], bool)
        places = np.cumsum(kept) - 1
        rows = kept[self.owners]
        samples = [sample for sample, is_kept in zip(self.samples, kept, strict=True) if is_kept]
        return Texts(samples, self.vectors[rows], places[self.owners[rows]].astype(np.intp))

    def logits(self, head: Head) -> NDArray[np.float64]:
        """Of each text, the highest of its windows."""
        each = self.vectors @ np.array(head.weights, np.float64) + head.bias
        found = np.full(len(self.samples), -np.inf)
        np.maximum.at(found, self.owners, each)
        return found

    def truth(self, label: str) -> Truth:
        """Of samples that were all judged on this label."""
        return np.array([sample.labels[label] for sample in self.samples], bool)


class Trained(msgspec.Struct, frozen=True):
    heads: Heads
    logits: dict[str, dict[str, float]]
    """Label → text → the calibrated logit that it got while it was held out: what the sets are judged by."""
    left_out: dict[str, int]
    """Labels without a head → how many texts carry them."""


def train(texts: Texts) -> Trained:
    """A head for every label that enough texts carry. The same texts give the same heads, byte for byte, with the same
    versions of numpy and scikit-learn. Raises Misconfigured when there is no head for `prohibited`."""
    heads: dict[str, Head] = {}
    logits: dict[str, dict[str, float]] = {}
    left_out: dict[str, int] = {}
    for label in LABELS:
        judged = texts.where(lambda sample, label=label: label in sample.labels)
        truth = judged.truth(label)
        if min(truth.sum(), (~truth).sum()) < FEWEST:
            left_out[label] = int(truth.sum())
            continue
        held_out = _held_out(judged, label)
        scale, shift = _calibration(held_out, truth)
        heads[label] = _rounded(fit(judged, label), scale, shift)
        calibrated = held_out * scale + shift
        logits[label] = {sample.text: float(z) for sample, z in zip(judged.samples, calibrated, strict=True)}
    if PROHIBITED not in heads:
        raise Misconfigured(
            f"only {left_out[PROHIBITED]} prohibited texts in all; {FEWEST} are the fewest to learn from"
        )
    return Trained(Heads(heads), logits, left_out)


def fit(texts: Texts, label: str) -> Head:
    """A head from samples that were all judged on `label`, both answers weighing the same. Not calibrated."""
    truth = texts.truth(label)[texts.owners]
    model = LogisticRegression(C=_C, class_weight="balanced", max_iter=5000, tol=1e-6)
    model.fit(texts.vectors.astype(np.float64), truth)
    weights = np.asarray(model.coef_, np.float64)[0]
    return Head([float(weight) for weight in weights], np.asarray(model.intercept_, np.float64).item())


def encoded(heads: Heads) -> bytes:
    """heads.json."""
    return msgspec.json.format(msgspec.json.encode(heads), indent=0) + b"\n"


def fold_of(sample: Sample) -> int:
    return zlib.crc32(as_read(sample.made_from or sample.text).casefold().encode("utf-8", "replace")) % FOLDS


def _held_out(texts: Texts, label: str) -> NDArray[np.float64]:
    """Each text's logit from a head that has not seen it, nor one that reads the same or was made from it."""
    folds = [fold_of(sample) for sample in texts.samples]
    by_text = {id(sample): fold for sample, fold in zip(texts.samples, folds, strict=True)}
    found = np.zeros(len(texts))
    for fold in range(FOLDS):
        head = fit(texts.where(lambda sample, fold=fold: by_text[id(sample)] != fold), label)
        mine = np.array(folds) == fold
        found[mine] = texts.where(lambda sample, fold=fold: by_text[id(sample)] == fold).logits(head)
    return found


def _calibration(logits: NDArray[np.float64], truth: Truth) -> tuple[float, float]:
    """Platt: the line that makes held-out logits probabilities. It never turns the order round."""
    model = LogisticRegression(C=1e6, max_iter=5000, tol=1e-8)
    model.fit(logits[:, None], truth)
    slope = np.asarray(model.coef_, np.float64).item()
    return max(1e-3, slope), np.asarray(model.intercept_, np.float64).item()


def _rounded(head: Head, scale: float, shift: float) -> Head:
    def short(value: Any) -> float:
        return round(float(value), _DIGITS)

    return Head([short(weight * scale) for weight in head.weights], short(head.bias * scale + shift))
