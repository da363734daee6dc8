"""The settings, told to people: what holds and where it comes from, what it is for, what is wrong with a file."""

import difflib
import functools
import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from appliance.errors import Misconfigured
from appliance.settings import SHIPPED, Settings, as_path, file, load, merged, read


class Setting(msgspec.Struct, frozen=True):
    """One setting, as a process holds it. Values are as `shown` writes them: a secret in an address is not there."""

    name: str
    """server.port; at the top: home."""
    value: Any
    default: Any
    origin: Literal["default", "file", "environment", "credential"]
    source: str
    """The file's path, the variable's name, the credential's path; empty for a default."""
    hides_file: bool
    """The file says something else, which the environment goes before."""
    pending: Any
    """What a process started now would hold, where that differs; else None."""
    variable: str
    documentation: str
    used_by: tuple[str, ...]
    """The processes that have to be restarted for a change to hold."""

    @property
    def is_changed(self) -> bool:
        return self.value != self.default


class Problem(msgspec.Struct, frozen=True):
    """Something wrong with a settings file; `key` is empty when it is the whole of it."""

    key: str
    reason: str


USED_BY = {
    "": ("api", "worker", "model process"),
    "server": ("api",),
    "worker": ("worker",),
    "inference": ("api", "worker", "model process"),
    "media": ("api", "worker"),
    "uploads": ("api",),
    "webhooks": ("api", "worker"),
    "limits": ("api", "worker"),
    "billing": ("api", "worker"),
    "jobs": ("api", "worker"),
    "retention": ("api", "worker"),
    "log": ("api", "worker", "model process"),
    "tracing": ("api", "worker"),
    "backup": ("worker",),
    "admin": (),
}
"""Section → who reads it, once, at start; nobody = each command and the terminal UI, as they start."""

_SHOWN_FILE = SHIPPED / "config" / "customhouse.toml"
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def origins(held: Settings, config: Path | None = None, environ: Mapping[str, str] | None = None) -> list[Setting]:
    """Every setting as `held` has it. A file that cannot be read any more changes nothing of what is held: what is not
    the default then came from it as it was."""
    environ = os.environ if environ is None else environ
    path = config or file(environ)
    try:
        raw: dict[str, Any] | None = read(path) if path is not None and path.exists() else {}
        now: Settings | None = load(config, environ)
    except Misconfigured:
        raw, now = None, None
    told = documentation()
    found: list[Setting] = []
    for section, key, default in _every():
        value, name = _of(held, section, key), f"{section}.{key}" if section else key
        in_file = _in(raw or {}, section, key)
        variable = _variable(section, key)
        origin, source = _origin(environ, variable, value, str(path or ""), in_file, value != default)
        then = value if now is None else _of(now, section, key)
        found.append(
            Setting(
                name=name,
                value=shown(value),
                default=shown(default),
                origin=origin,
                source=source,
                hides_file=in_file and origin != "file",
                pending=None if then == value else shown(then),
                variable=variable,
                documentation=told.get(name, ""),
                used_by=USED_BY.get(section, USED_BY[""]),
            )
        )
    return found


def shown(value: object) -> Any:
    """A value as JSON has it, without the name and password that an address may carry."""
    if isinstance(value, str):
        return _USER_INFO.sub("***@", value)
    if isinstance(value, list):
        return [shown(one) for one in cast("list[object]", value)]
    return str(value) if isinstance(value, Path) else value


def as_shown(held: Settings) -> dict[str, Any]:
    """All of them, by section."""
    return {
        name: {key: shown(one) for key, one in msgspec.structs.asdict(value).items()}
        if isinstance(value, msgspec.Struct)
        else shown(value)
        for name, value in msgspec.structs.asdict(held).items()
    }


def problems(text: str, path: Path, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """What is wrong with a file of this text: every key that is none or holds no such value; else what the checks of
    all together say, the environment over it. Empty = a process would start with it."""
    environ = os.environ if environ is None else environ
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return [Problem("", f"not valid TOML: {error}")]
    found = list(_wrong_keys(raw))
    if found:
        return found
    try:
        merged(raw, path, environ)
    except Misconfigured as error:
        key, _, reason = error.message.partition(" ")
        is_key = key.rstrip(":") in _names()
        return [Problem(key.rstrip(":"), reason) if is_key else Problem("", error.message.removeprefix(f"{path}: "))]
    return []


@functools.cache
def documentation() -> dict[str, str]:
    """Name → what stands above it in config/customhouse.toml, which a test holds complete; empty without that file."""
    try:
        lines = _SHOWN_FILE.read_text().splitlines()
    except OSError:
        return {}
    told: dict[str, str] = {}
    section, above = "", list[str]()
    for line in lines:
        if head := re.fullmatch(r"\[([a-z]+)\]", line):
            section, above = f"{head[1]}.", []
        elif key := re.match(r"(?:# )?([a-z][a-z_0-9]*) = ", line):
            told.setdefault(section + key[1], " ".join(above))
            above = []
        elif line.startswith("#"):
            above.append(line.lstrip("# "))
        else:
            above = []
    return told


def editor(environ: Mapping[str, str] | None = None) -> list[str]:
    """The command that a person edits with: VISUAL, EDITOR, else vi."""
    environ = os.environ if environ is None else environ
    return shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "") or ["vi"]


def _every() -> Iterator[tuple[str, str, Any]]:
    """(section, key, default) of each; the section is empty at the top."""
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.default, msgspec.Struct):
            for key, default in msgspec.structs.asdict(field.default).items():
                yield field.name, key, default
        else:
            yield "", field.name, field.default


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(f"{section}.{key}" if section else key for section, key, _ in _every())


def _of(held: Settings, section: str, key: str) -> Any:
    return getattr(getattr(held, section) if section else held, key)


def _in(raw: dict[str, Any], section: str, key: str) -> bool:
    below: object = raw.get(section) if section else raw
    return isinstance(below, dict) and key in below


def _variable(section: str, key: str) -> str:
    return f"CUSTOMHOUSE_{section.upper()}_{key.upper()}" if section else f"CUSTOMHOUSE_{key.upper()}"


def _origin(
    environ: Mapping[str, str], variable: str, value: object, path: str, in_file: bool, is_changed: bool
) -> tuple[Literal["default", "file", "environment", "credential"], str]:
    if variable in environ:
        return "environment", variable
    if in_file:
        return "file", path
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if folder and isinstance(value, str) and Path(value).parent == Path(folder):
        return "credential", str(value)
    return ("file", path) if is_changed else ("default", "")


def _wrong_keys(raw: dict[str, Any]) -> Iterator[Problem]:
    """Keys that name no setting, and values that are of no use to theirs."""
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.default, msgspec.Struct) and field.name in raw:
            section: object = raw[field.name]
            if not isinstance(section, dict):
                yield Problem(field.name, f"must be a section: [{field.name}]")
                continue
            kinds = {one.name: one.type for one in msgspec.structs.fields(type(field.default))}
            yield from _wrong_in(f"{field.name}.", cast("dict[str, Any]", section), kinds)
    top = {one.name: one.type for one in msgspec.structs.fields(Settings)}
    sections = {name for name, kind in top.items() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    yield from _wrong_in("", {key: value for key, value in raw.items() if key not in sections}, top)


def _wrong_in(start: str, given: dict[str, Any], kinds: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in given.items():
        if key not in kinds:
            near = difflib.get_close_matches(start + key, _names(), 1, 0.6)
            yield Problem(start + key, "there is no such setting" + (f"; is {near[0]} meant?" if near else ""))
            continue
        try:
            msgspec.convert(value, kinds[key], strict=False, dec_hook=as_path)
        except msgspec.ValidationError as error:
            yield Problem(start + key, str(error))
