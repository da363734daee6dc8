"""What the processes wrote, read back: from <home>/log, or from journald where they run as services.

Lines stay where they are; what is kept of each is its place, its moment, its level and its process, so that a hundred
thousand lines take 3 MB, are filtered in a moment, and each is read when it is seen.
"""

import contextlib
import mmap
import os
import shutil
import subprocess
import tempfile
import threading
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from appliance import clock
from appliance.settings import Settings

LEVELS = ("debug", "info", "warning", "error", "critical")
PROCESSES = ("api", "worker", "models", "up")
"""`up` is `customhouse up` itself; over services also `systemd`."""

_JOURNALD = Path("/run/systemd/journal")
_JOURNAL_LINES = 20_000
_UNITS = "customhouse*"
_PROCESS_OF = (("serve", "api"), ("api", "api"), ("work", "worker"), ("infer", "models"), ("model", "models"))
_PRIORITY = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")


class Entry(msgspec.Struct, frozen=True):
    """One line."""

    at: int
    level: str
    process: str
    logger: str
    event: str
    fields: dict[str, Any]
    traceback: str = ""

    @property
    def said(self) -> str:
        """The event and its fields, in one line."""
        return " ".join([self.event, *(f"{name}={value}" for name, value in self.fields.items())])


class Wanted(msgspec.Struct, frozen=True):
    """Which lines."""

    process: str = ""
    """Empty = all."""
    level: str = "debug"
    """And graver ones."""
    text: str = ""
    """In the line, whichever case."""
    request: str = ""
    """Lines of this request id only."""


class _Head(msgspec.Struct):
    time: str = ""
    level: str = "info"
    process: str = ""


class _Source:
    """One file that grows."""

    def __init__(self, file: IO[bytes], process: str) -> None:
        self.file = file
        self.process = process
        self.done = 0
        self.map: mmap.mmap | None = None

    def read(self) -> tuple[int, bytes]:
        """(where it begins, the whole lines that came since)."""
        size = os.fstat(self.file.fileno()).st_size
        if size <= self.done:
            return self.done, b""
        raw = os.pread(self.file.fileno(), size - self.done, self.done)
        raw = raw[: raw.rfind(b"\n") + 1]
        start, self.done = self.done, self.done + len(raw)
        return start, raw

    def line(self, offset: int, length: int) -> bytes:
        held = self.map
        if held is None or len(held) < offset + length:  # it has grown; several threads may find that at once
            self.map = held = mmap.mmap(self.file.fileno(), self.done, prot=mmap.PROT_READ)
        return held[offset : offset + length]


class Book:
    """All lines, in the order of their moments. `refresh` reads what came since; one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.log_dir
        self._journal = None if self._has_files() else _Journal.open()
        self._sources: list[_Source] = []
        self._by_inode: dict[int, int] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._at = array("q")
        self._source = array("H")
        self._offset = array("Q")
        self._length = array("I")
        self._level = bytearray()
        self._process = bytearray()
        self._names: list[str] = list(PROCESSES)
        if self._journal is not None:
            self._sources.append(_Source(self._journal.spool, "systemd"))

    @property
    def where(self) -> str:
        """Where the lines come from, or why there are none."""
        if self._sources and self._journal is None:
            return str(self._folder)
        if self._journal is not None:
            return f"journald, units {_UNITS}"
        return (
            "Nothing is written to log/ in the state directory, and journald is not here. `customhouse up` writes "
            'files there; for processes that are started singly set log.files = "on".'
        )

    def __len__(self) -> int:
        return len(self._at)

    @property
    def processes(self) -> list[str]:
        """Those that have said something."""
        return [self._names[number] for number in sorted(set(self._process))]

    def refresh(self) -> int:
        """How many lines came. Raises nothing for files that go meanwhile."""
        with self._lock:
            if self._is_closed:  # whoever asked left meanwhile
                return 0
            self._find_files()
            fresh: list[tuple[int, int, int, int, int, int]] = []
            for number, source in enumerate(self._sources):
                fresh += self._index(number, source)
            fresh.sort(key=lambda one: one[0])
            for at, number, offset, length, level, process in fresh:
                self._at.append(at)
                self._source.append(number)
                self._offset.append(offset)
                self._length.append(length)
                self._level.append(level)
                self._process.append(process)
            return len(fresh)

    def entry(self, number: int) -> Entry:
        return _entry(self._raw(number), self._at[number], self._names[self._process[number]])

    def matching(self, wanted: Wanted, first: int = 0) -> Iterator[int]:
        """The numbers of those lines, from `first` on."""
        least = LEVELS.index(wanted.level)
        process = self._names.index(wanted.process) if wanted.process in self._names else None
        needle = wanted.text.lower().encode()
        if wanted.process and process is None:
            return
        for number in range(first, len(self._at)):
            if self._level[number] < least or (process is not None and self._process[number] != process):
                continue
            if needle and needle not in self._raw(number).lower():
                continue
            if wanted.request and not self._is_of(number, wanted.request):
                continue
            yield number

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._journal is not None:
                self._journal.close()
            for source in self._sources:
                source.file.close()

    def _raw(self, number: int) -> bytes:
        return self._sources[self._source[number]].line(self._offset[number], self._length[number])

    def _is_of(self, number: int, request: str) -> bool:
        if request.encode() not in self._raw(number):
            return False
        fields = self.entry(number).fields
        return fields.get("request_id") == request or request in str(fields.get("requests", "")).split(",")

    def _has_files(self) -> bool:
        return self._folder.is_dir() and any(self._folder.glob("*.log"))

    def _find_files(self) -> None:
        """A file that was put aside keeps its place: it is known by its inode."""
        if self._journal is not None:
            return
        for path in sorted(self._folder.glob("*.log*"), reverse=True):  # the older ones first
            process = path.name.partition(".log")[0]
            if path.suffix == ".lock" or process not in PROCESSES:
                continue
            with contextlib.suppress(OSError):
                inode = path.stat().st_ino
                if inode not in self._by_inode:
                    self._by_inode[inode] = len(self._sources)
                    self._sources.append(_Source(path.open("rb"), process))

    def _index(self, number: int, source: _Source) -> Iterator[tuple[int, int, int, int, int, int]]:
        offset, raw = source.read()
        decode = _HEAD.decode
        for line in raw.splitlines(keepends=True):
            try:
                head = decode(line)
                at = int(datetime.fromisoformat(head.time).timestamp() * 1000)
            except (msgspec.MsgspecError, ValueError):  # half a line of a full disk
                head, at = _Head(level="error"), self._at[-1] if self._at else 0
            level = LEVELS.index(head.level) if head.level in LEVELS else 1
            name = head.process or source.process
            if name not in self._names:
                self._names.append(name)
            yield at, number, offset, len(line), level, self._names.index(name)
            offset += len(line)


class View:
    """The lines of a book that are wanted: a list that grows at its end."""

    def __init__(self, book: Book, wanted: Wanted) -> None:
        self._book = book
        self.wanted = wanted
        self._numbers = array("I")
        self._looked = 0

    def extend(self) -> int:
        """Look at what the book has got since; how many of it are wanted."""
        until, before = len(self._book), len(self._numbers)
        if self._looked < until:
            self._numbers.extend(self._book.matching(self.wanted, self._looked))
            self._looked = until
        return len(self._numbers) - before

    def __len__(self) -> int:
        return len(self._numbers)

    def number_at(self, place: int) -> int:
        return self._numbers[place]

    def entries(self, first: int, count: int) -> list[Entry]:
        return [self._book.entry(number) for number in self._numbers[first : first + count]]

    def next_error(self, place: int, step: int) -> int | None:
        """The place of the next line that is an error, in that direction; None when there is none."""
        least = LEVELS.index("error")
        places = range(place + 1, len(self)) if step > 0 else range(place - 1, -1, -1)
        return next((one for one in places if self._book._level[self._numbers[one]] >= least), None)  # pyright: ignore[reportPrivateUsage]


class _Journal:
    """journalctl, followed into an unnamed file in our own form."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # as long as we are
        self._process = process
        self._copying = threading.Thread(target=self._copy, name="journal", daemon=True)
        self._copying.start()

    @classmethod
    def open(cls) -> "_Journal | None":
        program = shutil.which("journalctl")
        if program is None or not _JOURNALD.exists():
            return None
        arguments = ["--output=json", "--follow", f"--lines={_JOURNAL_LINES}", f"--unit={_UNITS}"]
        return cls(subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._copying.join()  # its end of the pipe is shut
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _copy(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(msgspec.MsgspecError):  # half a line, as it was ended
                os.write(self.spool.fileno(), from_journal(line))


def from_journal(line: bytes) -> bytes:
    """One line of `journalctl --output=json` as our own processes write theirs, and which process it is of."""
    raw: dict[str, Any] = msgspec.json.decode(line)
    message = raw.get("MESSAGE") or ""
    text = (
        bytes(msgspec.convert(message, list[int])).decode(errors="replace")
        if isinstance(message, list)
        else str(message)
    )
    unit = str(raw.get("_SYSTEMD_UNIT") or raw.get("UNIT") or "")
    is_ours = "_SYSTEMD_UNIT" in raw and unit.startswith("customhouse")
    process = next((name for part, name in _PROCESS_OF if part in unit), "systemd") if is_ours else "systemd"
    ours: dict[str, Any] = {}
    with contextlib.suppress(msgspec.MsgspecError):
        ours = msgspec.json.decode(text.encode(), type=dict[str, Any])
    if "event" not in ours:
        priority = str(raw.get("PRIORITY", "6"))
        ours = {
            "time": clock.rfc3339(int(raw.get("__REALTIME_TIMESTAMP", 0)) // 1000),
            "level": _PRIORITY[int(priority)] if priority.isdigit() and int(priority) < 8 else "info",
            "logger": unit or "systemd",
            "event": text,
        }
    return msgspec.json.encode({**ours, "process": process}) + b"\n"


_HEAD = msgspec.json.Decoder(_Head)
_KNOWN = ("time", "level", "logger", "event", "traceback", "process")


def _entry(raw: bytes, at: int, process: str) -> Entry:
    try:
        line: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError:
        return Entry(at, "error", process, "", raw.decode(errors="replace").rstrip(), {})
    return Entry(
        at=at,
        level=str(line.get("level", "info")),
        process=process,
        logger=str(line.get("logger", "")),
        event=str(line.get("event", "")),
        fields={name: value for name, value in line.items() if name not in _KNOWN},
        traceback=str(line.get("traceback", "")),
    )


def said_as_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """As a command prints them."""
    return [
        {
            "time": clock.rfc3339(one.at),
            "process": one.process,
            "level": one.level,
            "logger": one.logger,
            "event": one.event,
            **one.fields,
            **({"traceback": one.traceback} if one.traceback else {}),
        }
        for one in entries
    ]
