"""What a support bundle may say: numbers, and words that stand in our own source. All else is struck.

That is why no content leaves: a name, a text, an address or a key that somebody gave does not stand in our source,
wherever it turns up: in a log line, in an error, in a setting, in another program's answer.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from typing import cast

from appliance.doctor.context import SOURCE

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
_VERSION = re.compile(r"\d{1,4}(\.\d{1,8}){1,4}([+~-]\d[\d.]{0,11})?")
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,9})?")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_DEVICE = re.compile(r"cuda:\d{1,2}")
_SYSTEMD = (
    *("loaded", "not-found", "masked", "error", "enabled", "disabled", "static", "active", "inactive", "failed"),
    *("activating", "deactivating", "running", "dead", "exited", "auto-restart", "success", "exit-code", "signal"),
    *("timeout", "watchdog", "start-limit-hit", "core-dump", "oom-kill"),
)
_SQL_NAME = re.compile(r"[a-z_]+")
_FRAME = re.compile(r'File "[^"]*?/((?:appliance|tui)/[\w/]+\.py)", line (\d{1,5}), in (\w+)')
_FIELD = re.compile(r" (\w+)=(\S+)")
_TEXT_LINE = re.compile(r"(\d\d:\d\d:\d\d\.\d{3}) ([A-Z]+) +(.*)")


@functools.cache
def ours() -> frozenset[str]:
    """Every string that is written in our source, every name of the schema, and the names of the shipped models."""
    found: set[str] = set()
    for path in (SOURCE / "appliance").rglob("*.py"):
        found.add(".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"))  # a logger's name
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.keyword | ast.arg) and node.arg:
                found.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    for path in (SOURCE / "appliance" / "schema").glob("*.sql"):
        found |= set(_SQL_NAME.findall(path.read_text()))
    found |= set(_SYSTEMD)
    found |= {path.parent.name for path in (SOURCE / "models").glob("*/manifest.toml")}
    return frozenset(found)


def kept(value: object) -> object:
    """The value, or what is left when everything that is not ours is struck."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if is_ours(value) else struck(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return {str(name): kept(one) for name, one in pairs if isinstance(name, str) and is_ours(name)}
    if isinstance(value, list | tuple):
        return [kept(one) for one in cast("list[object]", value)]
    return struck(str(value))


def struck(text: str) -> str:
    return f"… ({len(text)} characters)"


def is_ours(text: str) -> bool:
    if text in ours():
        return True
    if _ADDRESS.fullmatch(text):  # somebody's, and it looks like a version
        return False
    return any(pattern.fullmatch(text) for pattern in (_UUID, _TIME, _VERSION, _NUMBER, _DEVICE))


# --- log lines --------------------------------------------------------------------------------------------------------


def log_line(line: str) -> dict[str, object]:
    """A line of the log, JSON or text, with what is ours of it."""
    import json

    try:
        said = json.loads(line)
    except ValueError:
        return _text_line(line)
    if not isinstance(said, dict):
        return {"struck": len(line)}
    found = cast("dict[str, object]", said)
    trace = found.pop("traceback", None)
    left = cast("dict[str, object]", kept(found))
    return {**left, "traceback": traceback(trace)} if isinstance(trace, str) else left


def _text_line(line: str) -> dict[str, object]:
    found = _TEXT_LINE.fullmatch(line.strip())
    if found is None:
        frames = traceback(line)
        return {"traceback": frames} if frames else {"struck": len(line)}
    message, _, rest = found[3].partition("  ")
    fields = {name: kept(value) for name, value in _FIELD.findall(f" {rest}") if is_ours(name)}
    return {"time": found[1], "level": kept(found[2].lower()), "event": kept(message.strip()), **fields}


def traceback(text: str) -> list[str]:
    """Its frames in our own files, by file, line and function; no sentence."""
    return [f"{file}:{line} {name}" for file, line, name in _FRAME.findall(text) if _is_there(file) and is_ours(name)]


def _is_there(file: str) -> bool:
    return ".." not in file and (SOURCE / file).is_file()
