"""Regular expressions that cannot run for ever: RE2, whose time grows with the text only. google-re2's room."""
# google-re2 is a compiled module without types; what leaves this file is typed.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import re2

_MEMORY = 64 << 20  # of a set; RE2 takes what it needs only
MOST_STEPS = 1_000
"""Of one expression's program. The slowest text costs each step 3 ns at every character."""
_TOGETHER = 20_000  # steps in one set: a set's state then fits its memory many times over, so none is passed over


_PLACES = 50  # that one expression is shown at


class Screen:
    """Which of several expressions a text has anywhere, in one pass. Used by any number of threads."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._names = list(patterns)
        self._set = _set(patterns.values())
        self._found: dict[tuple[int, ...], frozenset[str]] = {}

    def of(self, text: str) -> frozenset[str]:
        """The names of those that are found."""
        key = tuple(cast("list[int]", self._set.Match(text) or ()))
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = frozenset(self._names[index] for index in key)
        return found


class Expressions:
    """Many expressions, each found wherever it stands. Case counts for nothing."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._each = [re2.compile(pattern, _options()) for pattern in patterns]
        self._sets: list[tuple[int, Any]] = []
        first = steps = 0
        for index, one in enumerate(self._each):
            if steps and steps + one.programsize > _TOGETHER:
                self._sets.append((first, _set(patterns[first:index])))
                first, steps = index, 0
            steps += one.programsize
        if steps:
            self._sets.append((first, _set(patterns[first:])))

    def places(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Each place as [start, end) and the number of the expression; an empty place is none."""
        for first, together in self._sets:
            for index in sorted(cast("list[int]", together.Match(text) or ())):
                for match in islice(self._each[first + index].finditer(text), _PLACES):
                    start, end = cast("tuple[int, int]", match.span())
                    if start < end:
                        yield start, end, first + index


def steps(pattern: str) -> int:
    """How large the program is that RE2 makes of a usable expression."""
    return cast(int, re2.compile(pattern, _options()).programsize)


def problem(pattern: str) -> str | None:
    """Why an expression cannot be used, or None."""
    try:
        made = re2.compile(pattern, _options())
    except UnicodeEncodeError:
        return "it has half a character (a lone surrogate)"
    except re2.error as error:
        said = error.args[0] if error.args else "it cannot be read"
        return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    if made.programsize > MOST_STEPS:
        return f"it is too large ({made.programsize} steps, {MOST_STEPS} at most): repeat fewer times"
    if made.search("") is not None:
        return "it is found in an empty text, so in every one"
    return None


def _options() -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    return options


def _set(patterns: Iterable[str]) -> Any:
    options = _options()
    options.max_mem = _MEMORY
    made = re2.Set.SearchSet(options)
    for pattern in patterns:
        made.Add(pattern)
    made.Compile()
    return made
