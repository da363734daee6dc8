"""The text engine: what 100 to 10,000 characters cost against 100 thousand terms, and two peers in one process."""

import csv
import importlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import msgspec

from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.settings import Settings
from appliance.text import keywords, language, normalize
from appliance.text.analyzers import ANALYZERS
from appliance.text.engine import Engine

TERMS = 100_000
_LENGTHS = (100, 500, 2_000, 10_000)
_ROUNDS = 150
_ORG = "bench"
_FIELDS = ("text", "prompt", "comment", "comment_text", "input")
_LABELS = ("label", "is_toxic", "toxic", "toxicity", "is_prohibited", "flagged")
_YES = ("1", "true", "yes", "toxic", "prohibited")
_SENTENCES = (
    "The ferry leaves at seven in the morning and comes back before it gets dark.",
    "My neighbour grows tomatoes on the balcony, and gives most of them away.",
    "We'd like to know whether the parcel has arrived, and who signed for it.",
    "Nobody in the office remembers where the old printer was bought.",
    "Her second novel is about a lighthouse keeper who can't swim.",
    "Please bring a warm coat, because the hall isn't heated in autumn.",
    "It took them three years to restore the clock above the market square.",
    "He plays the cello badly, but with so much joy that people stop to listen.",
)
_DISGUISES: dict[str, Callable[[str], str]] = {
    "plain": lambda word: word,
    "accented": lambda word: word.replace("e", "é"),
    "disguised": lambda word: {0: "\u200b".join(word), 1: ".".join(word), 2: word.replace("e", "3")}[len(word) % 3],
    "cyrillic_mixed": lambda word: word.replace("a", "а").replace("o", "о"),
}


def run(settings: Settings, labelled: Path | None = None) -> dict[str, Any]:
    """Microseconds; medians. Raises InvalidRequest for a labelled file that cannot be used."""
    told = None if labelled is None else read_labelled(labelled)
    with tempfile.TemporaryDirectory() as folder:
        house = House(msgspec.structs.replace(settings, home=Path(folder)))
        try:
            house.db.write(lambda conn: keywords.import_lines(conn, _terms(), org_id=None, actor="operator:bench"))
            engine = Engine(house)
            began = time.perf_counter()
            engine.lexicons.prepare(_ORG)
            figures: dict[str, Any] = {"terms": TERMS, "build_ms": round((time.perf_counter() - began) * 1000)}
            language.detect("once, to load the model")
            figures["engine_us"] = {
                kind: {str(length): _median(_analyzing(engine), _texts(length, kind)) for length in _LENGTHS}
                for kind in _DISGUISES
            }
            figures["parts_of_500_us"] = _parts(engine)
            figures["paired"] = _paired(engine, told)
        finally:
            house.close()
    return figures


def _analyzing(engine: Engine) -> Callable[[str], object]:
    return lambda text: engine.analyze(_ORG, text)


def _parts(engine: Engine) -> dict[str, float]:
    texts = _texts(500, "plain")
    views = [normalize.views(text) for text in texts]
    readings = [engine.read(_ORG, text) for text in texts]
    parts = {
        "normalise": _median(normalize.views, texts),
        "match": _median(lambda one: list(engine.lexicons.hits(_ORG, one)), views),
        "language": _median(language.detect, texts),
    }
    return parts | {f"analyzer {name}": _median(look, readings) for name, look in ANALYZERS.items()}


def _paired(engine: Engine, told: tuple[list[str], list[bool]] | None) -> dict[str, Any]:
    """Ours and two libraries that answer the same question in process, on the same texts, in one run."""
    found: dict[str, Any] = {}
    texts = told[0] if told else _texts(500, "plain") + _texts(500, "disguised")
    for name, judge in {"customhouse": _ours(engine), **_peers()}.items():
        judge(texts[0])
        scores: list[float] = []
        took: list[float] = []
        for text in texts:
            began = time.perf_counter()
            scores.append(judge(text))
            took.append(time.perf_counter() - began)
        found[name] = {"us_per_text": round(statistics.median(took) * 1e6, 1)}
        if told:
            found[name]["auc"] = round(auc(told[1], scores), 3)
    return found | {"texts": len(texts)}


def _ours(engine: Engine) -> Callable[[str], float]:
    names = ("profanity", "pattern_toxicity", "nsfw", "blocklist")

    def judge(text: str) -> float:
        results = engine.analyze(_ORG, text).results
        passes = 1.0
        for name in names:
            passes *= 1.0 - results[name].score if name in results else 1.0
        return 1.0 - passes

    return judge


def _peers() -> dict[str, Callable[[str], float]]:
    """Those that are installed; dependencies of the tests only."""
    found: dict[str, Callable[[str], float]] = {}
    if find_spec("profanity_check") is not None:
        predict = cast(Any, importlib.import_module("profanity_check")).predict_prob
        found["alt-profanity-check"] = lambda text: float(predict([text])[0])
    if find_spec("better_profanity") is not None:
        profanity = cast(Any, importlib.import_module("better_profanity")).profanity
        profanity.load_censor_words()
        found["better-profanity"] = lambda text: float(profanity.contains_profanity(text))
    return found


def read_labelled(file: Path) -> tuple[list[str], list[bool]]:
    """Texts and whether each is one to be found, from CSV with a header, or JSON lines: the first column that has a
    known name, and as label the first that has one, else any number of columns of 0 and 1."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows: list[dict[str, Any]] = (
                [json.loads(line) for line in opened if line.strip()]
                if file.suffix in (".jsonl", ".ndjson")
                else list(csv.DictReader(opened))
            )
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidRequest(f"{file}: cannot be read ({error})") from error
    text_in = next((name for name in _FIELDS if rows and name in rows[0]), None)
    if text_in is None:
        raise InvalidRequest(f"{file}: needs a column named {', '.join(_FIELDS[:-1])} or {_FIELDS[-1]}")
    label_in = next((name for name in _LABELS if name in rows[0]), None)
    labels = [_is_yes([row[label_in]] if label_in else [row[k] for k in row if k != text_in]) for row in rows]
    if len(set(labels)) < 2:
        raise InvalidRequest(f"{file}: needs texts of both kinds, labelled in a column named {', '.join(_LABELS)}")
    return [str(row[text_in]) for row in rows], labels


def _is_yes(values: Iterable[object]) -> bool:
    return any(str(value).strip().lower() in _YES for value in values)


def auc(labels: list[bool], scores: list[float]) -> float:
    """The share of pairs that stand in the right order; equals count half."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks = [0.0] * len(scores)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and scores[order[end + 1]] == scores[order[at]]:
            end += 1
        for index in range(at, end + 1):
            ranks[order[index]] = (at + end) / 2 + 1
        at = end + 1
    wanted = sum(labels)
    above = sum(rank for rank, label in zip(ranks, labels, strict=True) if label)
    return (above - wanted * (wanted + 1) / 2) / (wanted * (len(labels) - wanted))


def _median(do: Callable[[Any], object], things: list[Any]) -> float:
    took: list[float] = []
    for index in range(max(_ROUNDS, len(things))):
        thing = things[index % len(things)]
        began = time.perf_counter()
        do(thing)
        took.append(time.perf_counter() - began)
    return round(statistics.median(took) * 1e6, 1)


def _texts(length: int, kind: str) -> list[str]:
    """Thirty texts of that many characters; in a disguised one every seventh word is disguised."""
    draw = random.Random(length)  # noqa: S311 - the same texts at every run
    made: list[str] = []
    for _ in range(30):
        words = " ".join(draw.choices(_SENTENCES, k=length // 60 + 2)).split()
        made.append(
            " ".join(_DISGUISES[kind](word) if not index % 7 else word for index, word in enumerate(words))[:length]
        )
    return made


def _terms() -> list[str]:
    """Made-up words of syllables, so that they begin as real ones do; none stands in the texts."""
    draw = random.Random(7)  # noqa: S311
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "ol")]
    found: set[str] = set()
    while len(found) < TERMS:
        found.add("".join(draw.choices(syllables, k=draw.randint(3, 6))) + "x")
    return sorted(found)
