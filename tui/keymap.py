"""Every binding that has an id: what can be remapped, and whether a person's keys are usable."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from textual.binding import Binding
from textual.keys import Keys

import tui
from tui import places

_MODIFIERS = ("ctrl", "shift", "alt", "super", "meta", "hyper")
_NAMES = frozenset(
    [one.value for one in Keys]
    + ["space", "comma", "full_stop", "colon", "semicolon", "slash", "question_mark", "minus", "plus", "tab", "enter"]
    + [f"f{n}" for n in range(1, 25)]
)


@dataclass(frozen=True)
class Known:
    id: str
    keys: str
    label: str
    tells: str


def known() -> list[Known]:
    """All of them, by id. Imports every screen, which takes a moment."""
    found: dict[str, Known] = {}
    for kind in _classes():
        for one in cast("list[object]", kind.__dict__.get("BINDINGS", ())):
            if isinstance(one, Binding) and one.id:
                found.setdefault(one.id, Known(one.id, one.key, one.description, one.tooltip))
    return [found[name] for name in sorted(found)]


def wrong(keys: Mapping[str, str]) -> list[str]:
    """What is not usable of them, a sentence each."""
    if not keys:
        return []
    ids = [one.id for one in known()]
    found: list[str] = []
    for name, given in keys.items():
        if name not in ids:
            near = get_close_matches(name, ids, 1)
            meant = f"; did you mean {near[0]}?" if near else "; customhouse tui --keys lists them"
            found.append(f"keys: there is no {name}{meant}")
        found += [f"keys: {name} = {given!r}: {key!r} is no key" for key in given.split(",") if not _is_key(key)]
    return found


def _is_key(key: str) -> bool:
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    return all(one in _MODIFIERS for one in modifiers) and (len(last) == 1 or last in _NAMES)


def _classes() -> Iterator[type]:
    modules = [f"tui.screens.{one.name}" for one in places.ALL]
    modules += [f"tui.{one}" for one in ("app", "place", "help", "jump", "goto")]
    widgets = importlib.import_module("tui.widgets")
    modules += [f"tui.widgets.{one.name}" for one in pkgutil.iter_modules(widgets.__path__)]
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            continue
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__.startswith(f"{tui.__name__}."):
                yield value
