"""The blocklist: terms looked for in every view of a text, and where in the original the first of them stands."""
# pyahocorasick is a compiled module without types; what leaves this file is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

import ahocorasick
import msgspec

from appliance.text import normalize
from appliance.text.expressions import Expressions
from appliance.text.view import View

_SHORTEST_SOUNDED = 4  # letters of a term that is found by its sound: Russian асс is an ace


Kind = Literal["word", "substring", "regex"]
Severity = Literal["low", "medium", "high", "critical"]
Effect = Literal["block", "allow", "innocent"]


class Entry(msgspec.Struct, frozen=True):
    """One term. `word`: it stands alone, so Scunthorpe passes; `substring`: wherever it is, inside words too; `regex`:
    an expression of RE2, for the plain text."""

    term: str
    match: Kind = "word"
    category: str | None = None
    severity: Severity = "high"
    analyzer: str | None = None
    """Whose list it is on; None: the blocklist, which ends a prompt."""
    effect: Effect = "block"
    """allow: what is found inside it is not counted. innocent: the same, in a text of its language only."""
    language: str = ""
    """Of the pack that it comes from; empty: the operator's."""
    needs_language: bool = False
    """Counts only in a text of its language: elsewhere it is a word like any other."""


class Match(msgspec.Struct, frozen=True):
    """The entry that was found, as it stands in the list, and [start, end) in the original text."""

    term: str
    category: str | None
    severity: str
    start: int
    end: int


class Hit(msgspec.Struct, frozen=True):
    """One entry at one place: [start, end) in the original text."""

    entry: Entry
    start: int
    end: int
    disguise: str = ""
    """The disguise that had to be undone to find it (normalize.DISGUISES); empty when it stood there plainly."""


class Blocklist:
    """Built once, then read by any number of threads."""

    def __init__(self, automaton: Any, entries: list[Entry], expressions: list[Entry]) -> None:
        self._automaton = automaton
        self._entries = entries
        self._expressions = expressions
        self._compiled = Expressions([entry.term for entry in expressions])

    @classmethod
    def build(cls, entries: Iterable[Entry]) -> Self:
        """100 thousand terms take about a second. An entry of which nothing can be seen is left out."""
        kept: list[Entry] = []
        places: dict[str, list[int]] = {}
        expressions: list[Entry] = []
        for entry in entries:
            if entry.match == "regex":
                expressions.append(entry)
                continue
            spellings = normalize.spellings(entry.term)
            for spelling in spellings:
                places.setdefault(spelling, []).append(len(kept))
            if spellings:
                kept.append(entry)
        automaton = ahocorasick.Automaton()
        for spelling, indexes in places.items():
            automaton.add_word(spelling, (len(spelling), indexes))
        automaton.make_automaton()
        return cls(automaton, kept, expressions)

    def __len__(self) -> int:
        return len(self._entries) + len(self._expressions)

    def match(self, text: str) -> Match | None:
        """The first term of the text, or None."""
        return self.find(normalize.views(text))

    def find(self, views: Iterable[View]) -> Match | None:
        """`match` for a text whose views are made already: several lists then share them. The view nearest to the
        original comes first; in it the term that ends first, and of those the longest."""
        for hit in self.hits(views):
            if hit.entry.analyzer is None and hit.entry.effect == "block":
                return Match(hit.entry.term, hit.entry.category, hit.entry.severity, hit.start, hit.end)
        return None

    def hits(self, views: Iterable[View]) -> Iterator[Hit]:
        """Every entry wherever it stands, view by view; one that several views show comes as often."""
        for view in views:
            # as it stands and bared of look-alikes: further forms join and change letters, which an expression may
            # be about
            if self._expressions and view.disguise in ("", "marks"):
                for start, end, index in self._compiled.places(view.text):
                    yield Hit(self._expressions[index], *view.span(start, end), view.disguise)
            if not self._entries or not view.is_spaced:
                continue
            text = view.text
            shortest = _SHORTEST_SOUNDED if view.disguise == "transliteration" else 0
            for last, (length, indexes) in self._automaton.iter(text):
                if length < shortest:
                    continue
                end = last + 1
                start = end - length
                is_word = _stands_alone(text, start, end)
                for index in indexes:
                    entry = self._entries[index]
                    if is_word or entry.match == "substring":
                        yield Hit(entry, *view.span(start, end), view.disguise)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """No letter goes on into a neighbouring letter, nor a digit into a digit: Essex is one word, `essex1` has two."""
    return (start == 0 or not _go_on(text[start - 1], text[start])) and (
        end == len(text) or not _go_on(text[end - 1], text[end])
    )


def _go_on(left: str, right: str) -> bool:
    if left.isascii() and right.isascii():  # nearly every one, and three times as fast
        return (left.isalpha() and right.isalpha()) or (left.isdigit() and right.isdigit())
    if left.isdigit() and right.isdigit():
        return True
    return _is_letter(left) and _is_letter(right) and not (_is_unspaced(left) or _is_unspaced(right))


def _is_letter(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character) in ("Mn", "Mc")


def _is_unspaced(character: str) -> bool:
    """Scripts that write without spaces, where no boundary can be seen: Thai to Khmer, kana, Han, Hangul."""
    point = ord(character)
    return (
        0x0E00 <= point <= 0x0EFF or 0x1000 <= point <= 0x109F or 0x1780 <= point <= 0x17FF or 0x3040 <= point <= 0xD7AF
    )
