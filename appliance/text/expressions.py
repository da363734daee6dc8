"""Regular expressions that cannot run for ever: RE2, whose time grows with the text only. google-re2's room."""
# google-re2 is a compiled module without types; what leaves this file is typed.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Iterable, Mapping
from typing import Any, cast

import re2

_MEMORY = 64 << 20  # of a set; RE2 takes what it needs only


class Screen:
    """Which of several expressions a text has anywhere, in one pass. Used by any number of threads."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._names = list(patterns)
        self._set = compiled(patterns.values())
        self._found: dict[tuple[int, ...], frozenset[str]] = {}

    def of(self, text: str) -> frozenset[str]:
        """The names of those that are found."""
        key = tuple(cast("list[int]", self._set.Match(text) or ()))
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = frozenset(self._names[index] for index in key)
        return found


def compiled(patterns: Iterable[str]) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    made = re2.Set.SearchSet(options)
    for pattern in patterns:
        made.Add(pattern)
    made.Compile()
    return made
