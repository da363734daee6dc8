"""Training the spam model, and judging it on what it has not seen. scikit-learn's room, as `train` is.

Only `customhouse train spam` needs it (the extra `train`); what is trained runs on numpy.
"""
# scikit-learn ships no types; what leaves this file is typed.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import email
import html
import io
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from email.message import Message
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from appliance.errors import Misconfigured
from appliance.text import spam
from appliance.text.figures import Measure, auc, measured, rate, recall_at

_FOLDS = 5
# scikit-learn's C; 3, 10 and 30 recalled .79, .83 and .84 of the mail at 1 % false flags, and .46, .47 and .47 of the
# text messages when trained on all but them.
_C = 10.0
_FLAGGED, _CERTAIN = 0.6, 0.95
"""Scores at which one innocent text in a hundred, and one in a thousand, is to stand."""
_SUBJECT = re.compile(r"^(?:(?:re|fwd?):\s*|\[[^\]]*\]\s*)+", re.IGNORECASE)
_HIDDEN_HTML = re.compile(r"<(style|script).*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_PIECE = 25  # words of the middle of a letter that are also read alone: as short as what is said in a chat

Scores = NDArray[np.float64]


class Text(msgspec.Struct, frozen=True):
    text: str
    is_spam: bool
    source: str


class Figure(msgspec.Struct, frozen=True):
    data: str
    metric: str
    measure: Measure
    texts: int


class Trained(msgspec.Struct, frozen=True):
    weights: bytes
    """As .npy, float16."""
    figures: list[Figure]


def read(mail: Path, messages: Path) -> list[Text]:
    """The folders spam-* and *-ham-* of the SpamAssassin corpus, and the SMS Spam Collection's lines. Raises
    Misconfigured."""
    found = [one for folder in sorted(mail.glob("*-*")) if folder.is_dir() for one in _letters(folder)]
    if not found:
        raise Misconfigured(f"{mail}: no folders spam-1, easy-ham-1 … with .txt files in them")
    try:
        for line in messages.read_text(encoding="utf-8").splitlines():
            label, _, text = line.partition("\t")
            found.append(Text(html.unescape(text), {"spam": True, "ham": False}[label], "messages"))
    except (OSError, ValueError, KeyError) as error:
        raise Misconfigured(f"{messages}: not lines of ham or spam, a tab, and the text") from error
    return found


def train(taught: Sequence[Text], ordinary: Sequence[Text]) -> Trained:
    """The model of all `taught` texts, its scale set on folds that it has not seen. `ordinary`: innocent texts only
    looked at."""
    seen = _matrix(taught)
    truth = np.array([one.is_spam for one in taught])
    sources = np.array([one.source.split(",")[0] for one in taught])
    folds = np.array([_fold(one.text) for one in taught])
    unseen = np.zeros(len(taught))
    for fold in range(_FOLDS):
        fitted = _fit(seen, truth, folds != fold)
        unseen[folds == fold] = fitted.decision_function(seen[folds == fold])
    flagged, certain = (float(np.quantile(unseen[~truth], share)) for share in (0.99, 0.999))
    # a set whose innocent texts are all alike has no such step
    scale = (_logit(_CERTAIN) - _logit(_FLAGGED)) / max(certain - flagged, 0.1)
    shift = _logit(_FLAGGED) - scale * flagged
    whole = _fit(seen, truth, np.ones(len(taught), bool))
    weights = np.append(scale * np.ravel(whole.coef_), scale * np.ravel(whole.intercept_) + shift).astype(np.float16)

    figures: list[Figure] = []
    for name in ("mail", "messages"):
        here = sources == name
        figures += _judged(name, truth[here], scale * unseen[here] + shift)
        elsewhere = _fit(seen, truth, ~here).decision_function(seen[here])
        figures.append(
            Figure(f"{name}, trained without", "AUC", measured(truth[here], elsewhere, auc), int(here.sum()))
        )
    model = spam.Model(weights.astype(np.float32))
    for name in dict.fromkeys(one.source for one in ordinary):
        scores = np.array([model.score(one.text) for one in ordinary if one.source == name])
        figures += [
            Figure(name, f"false flags at {limit}", rate(scores >= limit), len(scores)) for limit in (0.6, 0.8, 0.95)
        ]
    return Trained(_encoded(weights), figures)


def markdown(figures: Sequence[Figure]) -> str:
    rows = [f"| {one.data} | {one.metric} | {one.measure} | {one.texts} |" for one in figures]
    return "\n".join(["| judged on | figure | value (95 %) | texts |", "| --- | --- | --- | --- |", *rows])


def _judged(name: str, truth: NDArray[np.bool_], scores: Scores) -> list[Figure]:
    count = len(truth)
    at: Callable[[NDArray[np.bool_], Scores], float] = lambda truth, scores: recall_at(truth, scores, 0.01)  # noqa: E731
    found = [
        Figure(f"{name}, held out", "AUC", measured(truth, scores, auc), count),
        Figure(f"{name}, held out", "recall at 1 % false flags", measured(truth, scores, at), count),
    ]
    for limit in (0.6, 0.8, 0.95):
        over = scores >= _logit(limit)
        found += [
            Figure(f"{name}, held out", f"recall at {limit}", rate(over[truth]), int(truth.sum())),
            Figure(f"{name}, held out", f"false flags at {limit}", rate(over[~truth]), int((~truth).sum())),
        ]
    return found


def _letters(folder: Path) -> Iterable[Text]:
    is_spam = folder.name.startswith("spam")
    for path in sorted(folder.glob("*.txt")):
        text = _said(email.message_from_bytes(path.read_bytes()))
        words = text.split()
        if len(words) < 4:
            continue
        yield Text(text, is_spam, "mail")
        if len(words) > 2 * _PIECE:
            middle = len(words) // 2
            yield Text(" ".join(words[middle : middle + _PIECE]), is_spam, "mail, a piece")


def _said(letter: Message) -> str:
    """Subject and body, without tags and quotations."""
    for part in letter.walk():
        if part.get_content_type() not in ("text/plain", "text/html"):
            continue
        data = part.get_payload(decode=True)
        if not isinstance(data, bytes):
            continue
        body = data.decode("utf-8", "replace")
        if part.get_content_type() == "text/html" or "<html" in body.lower():
            body = html.unescape(_HIDDEN_HTML.sub(" ", body))
        lines = (line for line in body.split("\n") if not line.startswith((">", "|")))
        subject = _SUBJECT.sub("", str(letter.get("subject") or ""))
        return " ".join(" ".join([subject, *lines]).split())
    return ""


def _fold(text: str) -> int:
    """By how a text begins, so that copies of one advertisement are in one fold."""
    return zlib.crc32(re.sub(r"\W+", " ", text.lower())[:60].encode("utf-8", "replace")) % _FOLDS


def _matrix(texts: Sequence[Text]) -> Any:
    rows, columns, values = [0], list[int](), list[float]()
    for one in texts:
        found = spam.features(one.text)
        columns += found
        values += [1 / len(found) ** 0.5] * len(found) if found else []
        rows.append(len(columns))
    return csr_matrix((values, columns, rows), shape=(len(texts), spam.BUCKETS))


def _fit(seen: Any, truth: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> LogisticRegression:
    return LogisticRegression(C=_C, max_iter=400, class_weight="balanced").fit(seen[chosen], truth[chosen])


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def _encoded(weights: NDArray[np.float16]) -> bytes:
    file = io.BytesIO()
    np.save(file, cast("Any", weights), allow_pickle=False)
    return file.getvalue()
