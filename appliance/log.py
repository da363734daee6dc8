"""Logging: short past-tense facts with fields, as text or JSON lines on standard error; no secret, no content.

Everybody logs through the standard library: `log.info("job closed", extra={"job": job_id, "ms": 812})`. A traceback is
written as its frames and the exception's class; the sentence stands there only for errors whose sentences are ours or
the operating system's, because others may quote what was submitted.
"""

import contextlib
import fcntl
import logging
import os
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import msgspec

from appliance import clock, tracing
from appliance.errors import CustomhouseError, Misconfigured
from appliance.settings import Log

_SECRETS = re.compile(
    r"\b((?:stars|omad_live|omad_test|whsec|sk_live|sk_test|rk_live|rk_test)_)[A-Za-z0-9+/=]{7,}"
    r"|\b(Bearer|Basic)\s+[^\s\"',]+",
    re.IGNORECASE,
)
_SECRET_FIELD = re.compile(r"authorization|api[-_]?key$|secret|password|pepper|cookie|\btoken$", re.IGNORECASE)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_SAFE_SENTENCES = (CustomhouseError, OSError, ImportError, AttributeError, NameError, RecursionError, MemoryError)
_SAFE_MODULES = ("sqlite3", "pysqlite3")

_CHATTY = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "asyncio": logging.WARNING,
    "_granian": logging.WARNING,
    "huey": logging.WARNING,
    "stripe": logging.WARNING,
}
"""httpx and httpcore would log whole addresses at info; stripe each request, and at debug what was sent."""


def configure(settings: Log, stream: TextIO | None = None, *, file: Path | None = None) -> None:
    """Send every logger of this process to `stream`, and to `file` when one is named. Called once, in the process's
    main; again replaces. Raises Misconfigured on a level that is none, or when the file cannot be written."""
    levels = logging.getLevelNamesMapping()
    if settings.level.upper() not in levels:
        raise Misconfigured(f"log.level is {settings.level!r}; it must be debug, info, warning or error")
    out = stream or sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    # Of no use in our lines, and a fifth of a line's cost.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines() if as_json else Text())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, Rotated):
            old.close()
    root.addHandler(handler)
    if file is not None:
        root.addHandler(Rotated(file, settings.file_mb * 1_000_000, settings.file_count))
    root.setLevel(levels[settings.level.upper()])
    for name, level in _CHATTY.items():
        logging.getLogger(name).setLevel(max(level, root.level))


def redact(text: str) -> str:
    """The text with every key, secret and credential in it cut to its kind."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] + ' '}…", text)


class Rotated(logging.Handler):
    """JSON lines at the end of a file that several processes may write; as it grows it becomes NAME.1, NAME.2, …

    Each line is one write. Who finds the file full puts it aside under a lock; another who still holds that one finds
    it full as well, sees that the name is somebody else's by then, and opens the new one.
    """

    def __init__(self, path: Path, most_bytes: int, count: int) -> None:
        super().__init__()
        self._path = path
        self._most = most_bytes
        self._count = count
        self.setFormatter(JsonLines())
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._file: int | None = self._opened()
        except OSError as error:
            raise Misconfigured(f"{path}: cannot be written ({error.strerror}); see log.files") from error

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._file is None:  # Granian sets logging up by a dictionary, which closes every handler there is
                self._file = self._opened()
            os.write(self._file, f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
            if os.fstat(self._file).st_size >= self._most:
                self._file = self._turned(self._file)
        except Exception:  # as every handler: what cannot be logged stops nobody
            self.handleError(record)

    def close(self) -> None:
        with self.lock or contextlib.nullcontext():
            if self._file is not None:
                os.close(self._file)
                self._file = None
        super().close()

    def _turned(self, full: int) -> int:
        """The file to go on with."""
        with open(self._path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._is_named(full):
                for number in range(self._count - 1, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        _aside(self._path, number - 1).replace(_aside(self._path, number))
                if self._count == 1:
                    self._path.unlink(missing_ok=True)
            os.close(full)
            return self._opened()

    def _is_named(self, full: int) -> bool:
        try:
            return self._path.stat().st_ino == os.fstat(full).st_ino
        except FileNotFoundError:
            return False

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _aside(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_name(f"{path.name}.{number}")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, the fields, and `traceback` when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": clock.rfc3339(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redact(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = redact(_traceback(record.exc_info))
        return msgspec.json.encode(line, enc_hook=str).decode()


class Text(logging.Formatter):
    """For a person: `12:00:01.500 INFO  job closed  job=… ms=812`."""

    def format(self, record: logging.LogRecord) -> str:
        time = clock.rfc3339(int(record.created * 1000))[11:23]
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{time} {record.levelname:<7} {redact(record.getMessage())}{' ' if fields else ''}{fields}"
        return f"{line}\n{redact(_traceback(record.exc_info))}" if record.exc_info else line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`, secrets out, and the request that its thread or task is at work for."""
    fields: dict[str, Any] = {}
    for name, value in vars(record).items():
        if name in _STANDARD or value is None:
            continue
        if _SECRET_FIELD.search(name):
            fields[name] = "…"
        elif isinstance(value, (bool, int, float)):
            fields[name] = value
        else:
            fields[name] = redact(str(value))
    if (request := tracing.request_id()) and "request_id" not in fields:
        fields["request_id"] = request
    return fields


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def _traceback(exc_info: _ExcInfo) -> str:
    """Frames, classes, and only those sentences that cannot quote content; the causes first, as Python prints them."""
    error = exc_info[1]
    parts: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        is_safe = isinstance(error, _SAFE_SENTENCES) or type(error).__module__.split(".")[0] in _SAFE_MODULES
        said = f": {error}" if is_safe else ""
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"{frames}{type(error).__module__}.{type(error).__qualname__}{said}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nwhich led to\n".join(reversed(parts))
