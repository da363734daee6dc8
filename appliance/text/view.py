"""A form of a text with the way back: every character of a view stands for a piece of the original."""

import re
from collections.abc import Callable, Iterable

import msgspec


class View(msgspec.Struct, frozen=True):
    """A form of the text; character i stands for [starts[i], ends[i]) of the original."""

    text: str
    starts: list[int] | range
    ends: list[int] | range
    disguise: str = ""
    """What was undone to get here, one of normalize.DISGUISES; empty: nothing but case, width and what cannot be
    seen."""
    is_spaced: bool = True
    """Hyphens and the like are spaces, as in the terms of lists. One view may have them: it is for expressions."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the original of [start, end) here."""
        return self.starts[start], self.ends[end - 1]


def rewritten(view: View, pieces: Iterable[tuple[int, int, str]]) -> View:
    """The view with each [start, end) replaced by some of its own characters, or by one space; offsets stay true."""
    texts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for begin, end, new in pieces:
        texts += (view.text[at:begin], new)
        places = _places(view.text[begin:end], new, begin)
        starts += [*view.starts[at:begin], *(view.starts[i] for i in places)]
        # what is left out after the last character belongs to it, so that a term's span covers its disguise
        ends += [*view.ends[at:begin], *(view.ends[i] for i in places[:-1]), view.ends[end - 1]]
        at = end
    if not texts:
        return view
    return View("".join([*texts, view.text[at:]]), [*starts, *view.starts[at:]], [*ends, *view.ends[at:]])


def replaced(view: View, pattern: re.Pattern[str], change: Callable[[re.Match[str]], str]) -> View:
    """`rewritten` for every match that `change` changes."""
    made = ((match.start(), match.end(), match.group(), change(match)) for match in pattern.finditer(view.text))
    return rewritten(view, ((start, end, new) for start, end, old, new in made if new != old))


def _places(old: str, new: str, offset: int) -> list[int]:
    """Where each character of `new` stands in `old`, read from left to right."""
    if len(new) == 1:
        return [offset + max(old.find(new), 0)]
    found: list[int] = []
    at = 0
    for character in new:
        there = old.find(character, at)
        at = at if there < 0 else there
        found.append(offset + at)
        at = min(at + 1, len(old) - 1)
    return found
