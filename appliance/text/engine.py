"""The engine: every rule on one text, the same for every surface. Pure but for the operator's lists, which are rows."""

from collections.abc import Iterable

from appliance.house import House
from appliance.text import language, normalize
from appliance.text.analysis import Analysis
from appliance.text.analyzers import ANALYZERS
from appliance.text.blocklist import Hit
from appliance.text.lexicons import Lexicons
from appliance.text.reading import Reading

LONGEST = 50_000
"""Characters read of one text. Every surface refuses longer ones; whatever calls the engine, its work is bounded."""


class Engine:
    """One process's; used by any number of threads."""

    def __init__(self, house: House) -> None:
        self._lexicons = Lexicons(house)

    @property
    def lexicons(self) -> Lexicons:
        """The lists in force, for who needs no more than them."""
        return self._lexicons

    def analyze(self, org_id: str, text: str, spoken: str = "auto") -> Analysis:
        """What the rules say. `spoken` is the language the caller names, or auto."""
        reading = self.read(org_id, text, spoken)
        return Analysis(reading.language, {name: look(reading) for name, look in ANALYZERS.items()})

    def read(self, org_id: str, text: str, spoken: str = "auto") -> Reading:
        """The text as the analyzers get it."""
        text = text[:LONGEST]
        views = normalize.views(text)
        bare = Reading(text, views, [], language.detect(text), spoken)
        hits = counted(self._lexicons.hits(org_id, views), bare.tongue)
        return Reading(text, views, hits, bare.language, spoken)


def counted(hits: Iterable[Hit], tongue: str) -> list[Hit]:
    """The hits that count in a text of this language, in the order of the text; of one entry at one place the one with
    the slightest disguise. An allowed phrase, or an innocent word, excuses what shipped lists of analyzers find inside
    it: never the blocklist, and never the language's own lists."""
    found: dict[tuple[int, int, str, str | None], Hit] = {}
    allowed: list[Hit] = []
    innocent: list[Hit] = []
    for hit in hits:
        entry = hit.entry
        if entry.effect == "allow":
            allowed.append(hit)
        elif entry.effect == "innocent":
            if entry.language == tongue:
                innocent.append(hit)
        elif not (entry.needs_language and entry.language != tongue):
            found.setdefault((hit.start, hit.end, entry.term, entry.analyzer), hit)
    counting = sorted(found.values(), key=_place)
    if allowed:
        covered = _inside(counting, allowed)
        counting = [hit for hit in counting if hit.entry.analyzer is None or _place(hit) not in covered]
    if innocent:
        covered = _inside(counting, innocent)
        counting = [
            hit
            for hit in counting
            if hit.entry.analyzer is None or hit.entry.language == tongue or _place(hit) not in covered
        ]
    return counting


def _inside(hits: list[Hit], phrases: list[Hit]) -> set[tuple[int, int]]:
    """The places of those hits, in order, that stand inside one of the phrases; in one sweep, for there may be
    thousands of both."""
    waiting = sorted(phrases, key=_place, reverse=True)
    covered: set[tuple[int, int]] = set()
    reach = 0
    for hit in hits:
        while waiting and waiting[-1].start <= hit.start:
            reach = max(reach, waiting.pop().end)
        if hit.end <= reach:
            covered.add((hit.start, hit.end))
    return covered


def _place(hit: Hit) -> tuple[int, int]:
    return hit.start, hit.end
