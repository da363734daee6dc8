"""Labelled texts: the files that heads are trained and judged on, each read into one shape.

None of them is shipped. Only the prompts put together from models/text-heads/prompts.toml are ours.
"""

import csv
import email
import html
import json
import random
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import Misconfigured
from appliance.text.normalize import undisguised

PROHIBITED = "prohibited"
TOXICITY = "toxicity"
CATEGORIES = (
    "sexual",
    "hate",
    "violence",
    "harassment",
    "self-harm",
    "sexual/minors",
    "hate/threatening",
    "violence/graphic",
)
LABELS = (*CATEGORIES, TOXICITY, PROHIBITED)
PUT_TOGETHER = "comments"
"""Begins the source of texts drawn from templates of comments, a language after it."""


class Sample(msgspec.Struct, frozen=True):
    """A text and what people said of it. A label that is absent was not judged, and counts neither way."""

    text: str
    labels: dict[str, bool]
    source: str
    """The set it came from, by which results are told apart."""
    made_from: str = ""
    """The text that this is a disguise of: the two are never on both sides of a fold."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    templates: list[str]
    parts: dict[str, list[str]]
    draws: int
    labels: list[str] = []


class _Comments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    innocent: _Part
    flagged: dict[str, _Part]


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    flagged: list[str]


class _Prompts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    benign: _Part
    flagged: dict[str, _Part]
    development: _Listed
    unseen: _Listed


class Prompts(msgspec.Struct, frozen=True):
    """What models/text-heads/prompts.toml gives."""

    taught: list[Sample]
    development: list[Sample]
    """Never trained on, but choices were made looking at them."""
    unseen: list[Sample]


def read(reference: str) -> list[Sample]:
    """The samples of `KIND:PATH`, KIND being one of READERS, in the file's order. Raises Misconfigured."""
    kind, colon, path = reference.partition(":")
    if not colon or kind not in READERS:
        raise Misconfigured(f"{reference!r} is not KIND:PATH; KIND is one of {', '.join(READERS)}")
    try:
        found = list(READERS[kind](Path(path)))
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, ValueError, TypeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path}: not of the kind {kind!r} ({type(error).__name__}: {error})") from error
    if not found:
        raise Misconfigured(f"{path}: no samples in it")
    return found


def prompts(path: Path, seed: int) -> Prompts:
    """Generator prompts put together from parts, to train on; and those only to be judged. Raises Misconfigured."""
    try:
        parts = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Prompts)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path}: {error}") from error
    draw = random.Random(seed)  # noqa: S311 training data, no secret
    made = [Sample(text, dict.fromkeys(LABELS, False), "ordinary prompts") for text in _draw(parts.benign, draw)]
    for part in parts.flagged.values():
        labels = _flagged(part.labels)
        made += [Sample(text, labels, "flagged prompts") for text in _draw(part, draw)]
    return Prompts(
        taught=made,
        development=[
            Sample(text, {PROHIBITED: True}, "listed prompts, development") for text in parts.development.flagged
        ],
        unseen=[Sample(text, {PROHIBITED: True}, "listed prompts, unseen") for text in parts.unseen.flagged],
    )


def disguised(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """The same texts as somebody writes them who would slip past: leetspeak, stretched and split words, shouting."""
    draw = random.Random(seed)  # noqa: S311
    return [
        Sample(draw.choice(_DISGUISES)(sample.text, draw), sample.labels, f"{sample.source}, disguised", sample.text)
        for sample in samples
    ]


def as_read(text: str) -> str:
    """What the heads are given of a text, in training and in service alike."""
    return undisguised(text)


# --- kinds ---------------------------------------------------------------------------------------------------------

_OPENAI = {
    "S": "sexual",
    "H": "hate",
    "V": "violence",
    "HR": "harassment",
    "SH": "self-harm",
    "S3": "sexual/minors",
    "H2": "hate/threatening",
    "V2": "violence/graphic",
}
_PYRIT_FLAGGED = 0.5


def _openai(path: Path) -> Iterable[Sample]:
    """OpenAI's moderation release (MIT): JSON lines of `prompt` and 0 or 1 for each label that was judged."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        labels = {label: bool(row[key]) for key, label in _OPENAI.items() if key in row}
        if labels:
            yield Sample(row["prompt"], {**labels, PROHIBITED: any(labels.values())}, "openai")


def _surge(path: Path) -> Iterable[Sample]:
    """Surge AI's toxicity set (MIT): CSV of `text` and `is_toxic`."""
    for row in _csv(path):
        is_toxic = {"Toxic": True, "Not Toxic": False}[row["is_toxic"]]
        yield Sample(row["text"], {TOXICITY: is_toxic, PROHIBITED: is_toxic}, "surge")


def _davidson(path: Path) -> Iterable[Sample]:
    """Davidson et al., hate speech (MIT): CSV of `tweet` and `class`, 0 hate, 1 offensive, 2 neither."""
    for row in _csv(path):
        kind = int(row["class"])
        labels = {"hate": kind == 0, TOXICITY: kind != 2, PROHIBITED: kind != 2}
        yield Sample(html.unescape(row["tweet"]), labels, "davidson")


def _hatecheck(path: Path) -> Iterable[Sample]:
    """HateCheck and Multilingual HateCheck (CC-BY-4.0): CSV of `test_case` and `label_gold`, written to be hard."""
    for row in _csv(path):
        is_hate = {"hateful": True, "non-hateful": False}[row["label_gold"]]
        yield Sample(row["test_case"], {"hate": is_hate, PROHIBITED: is_hate}, path.stem)


def _xstest(path: Path) -> Iterable[Sample]:
    """XSTest (CC-BY-4.0): CSV of `prompt` and `label`, safe questions that sound unsafe, and unsafe ones."""
    for row in _csv(path):
        yield Sample(row["prompt"], {PROHIBITED: {"unsafe": True, "safe": False}[row["label"]]}, "xstest")


def _pyrit(path: Path) -> Iterable[Sample]:
    """PyRIT's human-scored answers (MIT): CSV of `assistant_response` and `human_score_1`; slightly harmful ones, under
    one half but not 0, are left out."""
    for row in _csv(path):
        score = float(row.get("human_score_1") or row["human_score"])
        if not 0 < score < _PYRIT_FLAGGED:
            yield Sample(row["assistant_response"], {PROHIBITED: score > 0}, f"pyrit {path.stem}")


def _mail(path: Path) -> Iterable[Sample]:
    """A folder of ordinary letters, e.g. easy-ham-1 of the SpamAssassin corpus (PDDL, contents CC0): their paragraphs
    of plain prose. Nobody has judged them: a rude one among hundreds is taken for innocent too."""
    for file in sorted(path.glob("*.txt")):
        letter = email.message_from_bytes(file.read_bytes())
        body = letter.get_payload()
        if not isinstance(body, str) or letter.get_content_type() != "text/plain":
            continue
        for paragraph in re.split(r"\n\s*\n", body):
            text = " ".join(paragraph.split())
            if _PROSE.fullmatch(text) and not _LETTERHEAD.search(text):
                yield Sample(text, dict.fromkeys(LABELS, False), f"mail {path.name}")


# no quotations, tables, code or addresses, and nothing of a mailing list's own
_PROSE = re.compile(r"[A-Z](?:[A-Za-z ]|[.,;:'\"?!()\-0-9](?![.,;:\-*_=]{2})){59,499}")
_LETTERHEAD = re.compile(r"wrote|writes|mailing|unsubscribe|list|www|http|begin pgp", re.IGNORECASE)


def _lines(path: Path) -> Iterable[Sample]:
    """Ordinary texts, one a line; of a tab-separated line the first column, and # begins a remark."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("\t", 1)[0].strip()
        if text and not text.startswith("#"):
            yield Sample(text, dict.fromkeys(LABELS, False), path.stem)


def _jsonl(path: Path) -> Iterable[Sample]:
    """Our own form, for an operator's data: JSON lines of `text` and `labels` {label: true or false}."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        labels = msgspec.convert(row["labels"], dict[str, bool])
        unknown = set(labels) - set(LABELS)
        if unknown:
            raise ValueError(f"unknown label {min(unknown)!r}; known are {', '.join(LABELS)}")
        judged = {PROHIBITED: any(labels.values()), **labels}
        yield Sample(msgspec.convert(row["text"], str), judged, str(row.get("source", path.stem)))


def _parallel(path: Path) -> Iterable[Sample]:
    """The same sentences in several languages: tab-separated, a heading `labels en es …`, labels joined by commas. A
    text without labels is innocent in every respect."""
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    _, *languages = next(lines).split("\t")
    for line in lines:
        said, *texts = line.split("\t")
        labels: dict[str, bool] = _flagged(said.split(",")) if said else dict.fromkeys(LABELS, False)
        for language, text in zip(languages, texts, strict=True):
            yield Sample(text, labels, f"{path.stem} {language}")


def _templates(path: Path) -> Iterable[Sample]:
    """Comments put together from parts, by language: what models/text-heads-multilingual/comments.toml is."""
    languages = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[str, _Comments])
    for language, parts in languages.items():
        draw = random.Random(language)  # noqa: S311 training data, no secret
        source = f"{PUT_TOGETHER} {language}"
        for text in _draw(parts.innocent, draw):
            yield Sample(text, dict.fromkeys(LABELS, False), source)
        for part in parts.flagged.values():
            labels = _flagged(part.labels)
            for text in _draw(part, draw):
                yield Sample(text, labels, source)


def _germeval(path: Path) -> Iterable[Sample]:
    """GermEval 2018 (CC-BY-4.0): tab-separated tweet, OTHER or OFFENSE, and its kind. What it calls abuse is aimed at a
    group."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text, judged, kind = line.split("\t")
        is_offensive = {"OFFENSE": True, "OTHER": False}[judged]
        labels = {"hate": kind == "ABUSE", TOXICITY: is_offensive, PROHIBITED: is_offensive}
        yield Sample(text.replace("|LBR|", " "), labels, path.stem)


def _mlma(path: Path) -> Iterable[Sample]:
    """MLMA hate speech (MIT): CSV of `tweet` and `sentiment`, kinds joined by underscores. Only what is normal alone is
    innocent, and what is abusive, hateful or offensive is toxic; the rest is left out."""
    for row in _csv(path):
        kinds = set(row["sentiment"].split("_"))
        is_toxic = bool(kinds & {"abusive", "hateful", "offensive"})
        if is_toxic is not (kinds == {"normal"}) and not (is_toxic and "normal" in kinds):
            labels = {"hate": "hateful" in kinds, TOXICITY: is_toxic, PROHIBITED: is_toxic}
            yield Sample(row["tweet"], labels, f"mlma {path.stem}")


def _offendes(path: Path) -> Iterable[Sample]:
    """OffendES: tab-separated `comment` and `label`; offensive to a person or a group, expletive, or neither."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            is_offensive = {"OFP": True, "OFG": True, "NOE": False, "NO": False}[row["label"]]
            yield Sample(row["comment"], {TOXICITY: is_offensive, PROHIBITED: is_offensive}, "offendes")


READERS: dict[str, Callable[[Path], Iterable[Sample]]] = {
    "openai": _openai,
    "surge": _surge,
    "davidson": _davidson,
    "hatecheck": _hatecheck,
    "xstest": _xstest,
    "pyrit": _pyrit,
    "mail": _mail,
    "lines": _lines,
    "jsonl": _jsonl,
    "parallel": _parallel,
    "templates": _templates,
    "germeval": _germeval,
    "mlma": _mlma,
    "offendes": _offendes,
}


def _csv(path: Path) -> Iterable[dict[str, str]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        # PyRIT's files begin with a remark
        yield from csv.DictReader(line for line in file if not line.startswith("# dataset_version"))


# --- prompts put together ------------------------------------------------------------------------------------------

_SLOT = re.compile(r"\{(\w+)\}")


def _draw(part: _Part, draw: random.Random) -> list[str]:
    """As many different prompts as the section asks for, fewer when its parts give no more."""
    found: dict[str, None] = {}
    for _ in range(part.draws * 20):
        if len(found) == part.draws:
            break
        template = draw.choice(part.templates)
        found[_SLOT.sub(lambda slot: draw.choice(part.parts[slot.group(1)]), template)] = None
    return list(found)


def _flagged(labels: list[str]) -> dict[str, bool]:
    """Every category judged, except that what is hateful may well harass too, and nobody asked if it is toxic."""
    judged = {label: label in labels for label in (*CATEGORIES, PROHIBITED)} | {PROHIBITED: True}
    judged |= {TOXICITY: True} if TOXICITY in labels else {}
    kin = ("hate", "harassment", "hate/threatening") if set(labels) & {"hate", "harassment"} else ()
    return {label: value for label, value in judged.items() if value or label not in kin}


# --- disguises -----------------------------------------------------------------------------------------------------


def _leet(text: str, draw: random.Random) -> str:
    table = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7"}
    return "".join(draw.choice(table[c]) if c in table and draw.random() < 0.6 else c for c in text)


def _stretched(text: str, draw: random.Random) -> str:
    return "".join(c * draw.choice((1, 1, 1, 3)) if c.isalpha() else c for c in text)


def _split(text: str, draw: random.Random) -> str:
    sign = draw.choice([".", "-", "*", "_"])
    return " ".join(sign.join(word) if draw.random() < 0.4 else word for word in text.split())


def _shouted(text: str, draw: random.Random) -> str:
    return "".join(c.upper() if draw.random() < 0.5 else c for c in text)


def _mistyped(text: str, draw: random.Random) -> str:
    words = text.split()
    for index, word in enumerate(words):
        if len(word) > 4 and draw.random() < 0.4:
            at = draw.randrange(1, len(word) - 2)
            words[index] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def _hidden(text: str, draw: random.Random) -> str:
    return "".join(c + "\u200b" if draw.random() < 0.3 else c for c in text)


_DISGUISES: list[Callable[[str, random.Random], str]] = [_leet, _stretched, _split, _shouted, _mistyped, _hidden]
