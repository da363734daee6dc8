"""A table to a file: every row of its source, a window at a time. Knows no screen; `Place.action_export` asks.

What others wrote stands in the cells. A spreadsheet would run one that begins like a formula, so an apostrophe goes
before it; the file is the person's own, 0600, whole or not there.
"""

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

_AT_ONCE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

FORMATS = ("csv", "json")


class _Line(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def cells(self) -> Sequence[object]: ...


Window = Callable[[int, int], Sequence[_Line]]
"""So many lines from the nth on; none after the last."""


class AlreadyThere(Exception):
    """The file exists, and nobody said that it may be replaced."""


def place(given: str) -> Path:
    """Where it goes: ~ is the person's home."""
    return Path(given).expanduser().absolute()


def kind_of(path: Path) -> str:
    return "json" if path.suffix.lower() == ".json" else "csv"


def lines(window: Window) -> Iterator[_Line]:
    """All of them. What comes in meanwhile may be missing; what it pushes down is not written twice."""
    seen: set[str] = set()
    first = 0
    while found := window(first, _AT_ONCE):
        fresh = [one for one in found if one.key not in seen]
        if not fresh:
            return  # only what was pushed down over the end
        seen = {one.key for one in found}  # a window apart at most: the newest push the others down
        yield from fresh
        first += len(found)


def write(path: Path, kind: str, titles: Sequence[str], rows: Iterable[_Line], *, replace: bool = False) -> int:
    """How many rows were written. Raises AlreadyThere and OSError; then nothing is left behind."""
    if path.exists() and not replace:
        raise AlreadyThere(str(path))
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            count = _WRITERS[kind](file, titles, rows)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            fresh.replace(path)
        else:
            _link(fresh, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
    return count


def _link(fresh: Path, path: Path) -> None:
    """Under its name, unless somebody took the name meanwhile."""
    try:
        os.link(fresh, path)
    except FileExistsError as error:
        raise AlreadyThere(str(path)) from error


def _csv(file: io.TextIOBase, titles: Sequence[str], rows: Iterable[_Line]) -> int:
    file.write("\ufeff")  # makes spreadsheets read UTF-8
    writer = csv.writer(file)
    writer.writerow(["key", *titles])
    count = 0
    for row in rows:
        writer.writerow([guarded(row.key), *(guarded(str(cell)) for cell in row.cells)])
        count += 1
    return count


def _json(file: io.TextIOBase, titles: Sequence[str], rows: Iterable[_Line]) -> int:
    file.write("[")
    count = 0
    for row in rows:
        cells = dict(zip(titles, (str(cell) for cell in row.cells), strict=False))
        file.write((",\n" if count else "\n") + json.dumps({"key": row.key, **cells}, ensure_ascii=False))
        count += 1
    file.write("\n]\n")
    return count


_WRITERS: dict[str, Callable[[io.TextIOBase, Sequence[str], Iterable[_Line]], int]] = {"csv": _csv, "json": _json}


def guarded(cell: str) -> str:
    """What a spreadsheet would take for a formula is text; a number stays one."""
    if not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
