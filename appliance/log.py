"""Logging: short past-tense facts with fields, as text or JSON lines on standard error; no secret, no content.

Everybody logs through the standard library: `log.info("job closed", extra={"job": job_id, "ms": 812})`. A traceback is
written as its frames and the exception's class; the sentence stands there only for errors whose sentences are ours or
the operating system's, because others may quote what was submitted.
"""

import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

import msgspec

from appliance import clock
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


def configure(settings: Log, stream: TextIO | None = None) -> None:
    """Send every logger of this process to `stream`. Called once, in the process's main; again replaces. Raises
    Misconfigured on a level that is none."""
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
    root.addHandler(handler)
    root.setLevel(levels[settings.level.upper()])
    for name, level in _CHATTY.items():
        logging.getLogger(name).setLevel(max(level, root.level))


def redact(text: str) -> str:
    """The text with every key, secret and credential in it cut to its kind."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] + ' '}…", text)


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
    """What was given as `extra`, secrets out."""
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
