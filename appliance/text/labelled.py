"""An operator's labelled texts, CSV or JSON lines, as `customhouse evaluate` reads them.

A label is an analyzer (`harassment`, `spam` …), a label of the heads (`hate/threatening`), or `decision`: whether the
policy as a whole should have flagged the text. A label that a row leaves empty was not judged and counts neither way.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from appliance.errors import Misconfigured
from appliance.text.analysis import ANALYZERS

DECISION = "decision"
HEAD_LABELS = ("hate/threatening", "violence/graphic", "sexual/minors", "prohibited")
"""What the heads know beside the analyzers."""
LANGUAGE = "language"
LABELS = (*(name for name in ANALYZERS if name != LANGUAGE), *HEAD_LABELS, DECISION)

_ALIASES = {
    **{"S": "sexual", "H": "hate", "V": "violence", "HR": "harassment", "SH": "self-harm"},  # OpenAI's release
    **{"S3": "sexual/minors", "H2": "hate/threatening", "V2": "violence/graphic"},
    **dict.fromkeys(("is_toxic", "toxic"), "toxicity"),
    **dict.fromkeys(("flagged", "is_prohibited"), DECISION),
    **dict.fromkeys(("is_spam",), "spam"),
}
_TEXT_COLUMNS = ("text", "prompt", "input", "comment", "comment_text", "content", "tweet")
_TRUE = frozenset({"1", "true", "yes", "y", "t"})
_FALSE = frozenset({"0", "false", "no", "n", "f"})
_LONGEST = 10_000


class Labelled(msgspec.Struct, frozen=True):
    """One text and what people said of it."""

    place: int
    """Its line in the file: what a report names instead of the text."""
    text: str
    labels: dict[str, bool]
    language: str | None = None
    """As the file says; None = to be detected."""


class Columns(msgspec.Struct, frozen=True):
    """Where things stand in the file."""

    text: str | None = None
    """None: the first of the usual names that is there."""
    language: str | None = None
    """None: `language`, if it is there; else each text's is detected."""
    labels: dict[str, str] = {}
    """Column → label, or `label:VALUE` where one value of the column means yes and every other no. Columns that are
    named as a label is need not be here."""


def read(path: Path, columns: Columns) -> list[Labelled]:
    """The rows with a text and at least one label. Raises Misconfigured that names the line, and quotes no text."""
    try:
        with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
            rows = _json_lines(path, file) if path.suffix in (".jsonl", ".ndjson", ".json") else _csv(path, file)
            found = list(_read(path, rows, columns))
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: not UTF-8 (byte {error.start})") from error
    except csv.Error as error:
        raise Misconfigured(f"{path}: not CSV ({error})") from error
    if not found:
        raise Misconfigured(f"{path}: no row has a text and a label; labels are: {', '.join(LABELS)}")
    return found


def _read(path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]], columns: Columns) -> Iterator[Labelled]:
    wanted = {column: _wanted(column, named) for column, named in columns.labels.items()}
    for place, row in rows:
        text = row.get(_text_column(path, place, row, columns.text))
        if not isinstance(text, str) or not text.strip():
            continue
        if len(text) > _LONGEST:
            raise Misconfigured(f"{path}, line {place}: the text is over {_LONGEST:,} characters")
        labels: dict[str, bool] = {}
        for column, value in _flat(row).items():
            label, positive = wanted.get(column) or (_ALIASES.get(column, column), None)
            judged = _judged(path, place, column, value, positive) if label in LABELS else None
            if judged is not None:
                labels[label] = labels.get(label, False) or judged
        if labels:
            language = row.get(columns.language or LANGUAGE)
            yield Labelled(place, text, labels, str(language) if language else None)


def _wanted(column: str, named: str) -> tuple[str, str | None]:
    label, _, positive = named.partition(":")
    if label not in LABELS:
        raise Misconfigured(f"{column}={named}: there is no label {label!r}; there are: {', '.join(LABELS)}")
    return label, positive or None


def _text_column(path: Path, place: int, row: Mapping[str, Any], named: str | None) -> str:
    candidates: Sequence[str] = (named,) if named else _TEXT_COLUMNS
    for candidate in candidates:
        if candidate in row:
            return candidate
    raise Misconfigured(f"{path}, line {place}: no column {' or '.join(candidates)}; name it with --text")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with what stands below its `labels` beside the rest."""
    below = row.get("labels")
    return {**row, **cast("dict[str, Any]", below)} if isinstance(below, dict) else dict(row)


def _judged(path: Path, place: int, column: str, value: Any, positive: str | None) -> bool | None:
    if value is None or value == "":
        return None
    if positive is not None:
        return str(value) == positive
    if isinstance(value, bool):
        return value
    said = str(value).strip().lower()
    if said in _TRUE or said in _FALSE:
        return said in _TRUE
    try:
        return float(said) >= 0.5
    except ValueError:
        raise Misconfigured(
            f"{path}, line {place}: {column} is neither yes nor no; name the value that means yes with "
            f"--label {column}=LABEL:VALUE"
        ) from None


def _csv(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    for row in reader:
        yield reader.line_num, row


def _json_lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for place, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise Misconfigured(f"{path}, line {place}: not JSON; one object a line is read") from None
        if not isinstance(row, dict):
            raise Misconfigured(f"{path}, line {place}: not a JSON object")
        yield place, cast("dict[str, Any]", row)
