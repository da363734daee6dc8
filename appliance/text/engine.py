"""The engine: every rule on one text, the same for every surface. Pure but for the operator's lists, which are rows."""

from collections.abc import Iterable

from appliance.house import House
from appliance.text import language, normalize
from appliance.text.analysis import Analysis
from appliance.text.analyzers import ANALYZERS
from appliance.text.blocklist import Hit
from appliance.text.lexicons import Lexicons
from appliance.text.reading import Reading


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
        views = normalize.views(text)
        bare = Reading(text, views, [], language.detect(text), spoken)
        hits = counted(self._lexicons.hits(org_id, views), bare.tongue)
        return Reading(text, views, hits, bare.language, spoken)


def counted(hits: Iterable[Hit], tongue: str) -> list[Hit]:
    """The hits that count in a text of this language, in the order of the text; of one entry at one place the one with
    the slightest disguise."""
    found: dict[tuple[int, int, str, str | None], Hit] = {}
    passed: list[Hit] = []
    for hit in hits:
        entry = hit.entry
        if entry.effect == "allow" or (entry.effect == "innocent" and entry.language == tongue):
            passed.append(hit)
        elif entry.effect == "block" and not (entry.needs_language and entry.language != tongue):
            found.setdefault((hit.start, hit.end, entry.term, entry.analyzer), hit)
    return sorted(
        (hit for hit in found.values() if not any(_covers(one, hit) for one in passed)),
        key=lambda hit: (hit.start, hit.end),
    )


def _covers(passed: Hit, hit: Hit) -> bool:
    if not passed.start <= hit.start < hit.end <= passed.end:
        return False
    if passed.entry.effect == "innocent" and hit.entry.language == passed.entry.language:
        return False  # its own language's lists know what they say
    # a shipped phrase excuses what shipped lists of analyzers say; the operator's excuses anything
    return not passed.entry.language or (bool(hit.entry.language) and hit.entry.analyzer is not None)
