"""What a person likes: theme, motion, keys. In a file of their own, $XDG_CONFIG_HOME/customhouse/tui.toml; the box has
no say in it, and a file that cannot be read never keeps anybody out."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tui import themes

_MOTIONS = ("full", "reduced")
_THEME = re.compile(r"(?m)^theme\s*=.*$")


@dataclass(frozen=True)
class Preferences:
    theme: str = "dark"
    motion: str = "full"
    """full | reduced: then nothing slides or fades."""
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    """Keys by the id of a binding: `customhouse tui --keys` lists the ids."""
    wrong: tuple[str, ...] = ()
    """What is wrong with the file, a sentence each; the rest of it holds."""


def where(environ: Mapping[str, str] = os.environ) -> Path:
    """The file, there or not."""
    given = environ.get("XDG_CONFIG_HOME", "")
    folder = Path(given) if given.startswith("/") else Path(environ.get("HOME") or "/") / ".config"
    return folder / "customhouse" / "tui.toml"


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Preferences:
    """The file, then CUSTOMHOUSE_TUI_THEME and CUSTOMHOUSE_TUI_MOTION, then NO_COLOR. Raises nothing."""
    wrong: list[str] = []
    raw: dict[str, Any] = {}
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        wrong.append(f"{path}: cannot be read ({error}); as if it were not there")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        wrong.append(f"{path}: not valid TOML: {error}; as if it were not there")
    for name in raw:
        if name not in ("theme", "motion", "keys"):
            wrong.append(f"{path}: {name} is not known; there are theme, motion and [keys]")
    theme = _one_of(environ.get("CUSTOMHOUSE_TUI_THEME") or raw.get("theme"), tuple(themes.BY_NAME), "theme", wrong)
    motion = _one_of(environ.get("CUSTOMHOUSE_TUI_MOTION") or raw.get("motion"), _MOTIONS, "motion", wrong)
    if environ.get("NO_COLOR"):
        theme = "none"
    return Preferences(theme, motion, _keys(raw.get("keys", {}), path, wrong), tuple(wrong))


def remember_theme(path: Path, name: str) -> None:
    """Write that one line, and leave the others as they are. Raises OSError."""
    said = f'theme = "{name}"'
    words = path.read_text() if path.exists() else ""
    top, table, rest = _split(words)
    top = _THEME.sub(said, top) if _THEME.search(top) else f"{said}\n{top}"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(top + table + rest)
    fresh.replace(path)


def _split(words: str) -> tuple[str, str, str]:
    """Before the first table, its line, and after."""
    found = re.search(r"(?m)^\s*\[", words)
    return (words[: found.start()], "", words[found.start() :]) if found else (words, "", "")


def _one_of(value: object, allowed: tuple[str, ...], name: str, wrong: list[str]) -> str:
    if value is None:
        return allowed[0]
    if isinstance(value, str) and value in allowed:
        return value
    wrong.append(f"{name} is {value!r}; it must be {', '.join(allowed[:-1])} or {allowed[-1]}")
    return allowed[0]


def _keys(raw: object, path: Path, wrong: list[str]) -> dict[str, str]:
    if not isinstance(raw, dict):
        wrong.append(f'{path}: keys must be a table: [keys], then lines such as "app.quit" = "ctrl+x"')
        return {}
    found: dict[str, str] = {}
    for name, keys in _leaves(cast("dict[str, object]", raw)):
        if isinstance(keys, str) and keys.strip():
            found[name] = ",".join(one.strip() for one in keys.split(","))
        else:
            wrong.append(f'{path}: keys of {name} must be a text such as "x" or "ctrl+x,f8"')
    return found


def _leaves(table: dict[str, object], before: str = "") -> list[tuple[str, object]]:
    """`app.quit = "x"` without quotes is a table in TOML; it is meant as the id."""
    found: list[tuple[str, object]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _leaves(cast("dict[str, object]", value), f"{before}{name}.")
        else:
            found.append((f"{before}{name}", value))
    return found
