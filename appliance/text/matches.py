"""A sentence held against every list there is: what was found, on which list, where, under which disguise, and whether
it counts. For somebody who asks why."""

import msgspec

from appliance.database import Connection
from appliance.text import language, named_lists, normalize
from appliance.text.blocklist import Hit
from appliance.text.engine import LONGEST, counted
from appliance.text.language import Language
from appliance.text.lexicons import Lexicons
from appliance.text.named_lists import Matcher
from appliance.text.reading import Reading


class Found(msgspec.Struct, frozen=True):
    """One term at one place."""

    list: str
    """shipped, everyone, own, or the name of one of the organisation's named lists."""
    term: str
    match: str
    language: str
    """Of the pack that it comes from; empty: nobody's."""
    category: str | None
    severity: str
    analyzer: str | None
    """Which analyzer hears of it; None: the blocklist, which ends a prompt."""
    effect: str
    start: int
    end: int
    """[start, end) in the original text, in characters."""
    seen: str
    """What stands there."""
    undone: str
    """What had to be undone to find it; empty when it stands there letter by letter."""
    counts: bool
    why: str
    """Why it does not count, or what its counting comes to."""


class Explained(msgspec.Struct, frozen=True):
    language: Language
    found: list[Found]
    """In the order of the text."""
    is_refused: bool
    """Whether a prompt would end at the blocklist."""
    read: int
    """Characters that were looked at."""


def explain(
    conn: Connection, lexicons: Lexicons, matcher: Matcher, org_id: str | None, text: str, spoken: str = "auto"
) -> Explained:
    """Every match of every list that holds for the organisation, or with None for everybody. Blocks: for a thread."""
    text = text[:LONGEST]
    views = normalize.views(text)
    said = language.detect(text)
    tongue = Reading(text, views, [], said, spoken).tongue
    hits = list(lexicons.by_list(org_id, views))
    kept = {_key(hit) for hit in counted([hit for _, hit in hits], tongue)}
    found: dict[tuple[object, ...], Found] = {}
    for whose, hit in hits:
        # views come with the slightest disguise first
        found.setdefault((whose, hit.entry.effect, *_key(hit)), _told(whose, hit, text, kept, tongue))
    for one in named_lists.every(conn, org_id) if org_id is not None else ():
        for item, hit in matcher.hits(conn, org_id or "", one.name, views):
            why = "counts where a request names this list"
            told = _found(one.name, hit, text, counts=True, why=why)
            found.setdefault((one.name, item.id, hit.start, hit.end), told)
    ordered = sorted(found.values(), key=lambda one: (one.start, one.end, one.list, one.term))
    is_refused = any(hit.entry.analyzer is None and hit.entry.effect == "block" for _, hit in hits)
    return Explained(said, ordered, is_refused, len(text))


def _told(whose: str, hit: Hit, text: str, kept: set[tuple[int, int, str, str | None]], tongue: str) -> Found:
    entry = hit.entry
    if entry.effect != "block":
        where = "" if entry.effect == "allow" else f" in a text of {entry.language}"
        return _found(whose, hit, text, counts=False, why=f"excuses what stands inside it{where}")
    if _key(hit) in kept:
        why = "ends a prompt" if entry.analyzer is None else f"heard by the analyzer {entry.analyzer}"
        return _found(whose, hit, text, counts=True, why=why)
    if entry.needs_language and entry.language != tongue:
        # the prompts' own check asks no language: what is on the blocklist itself ends a prompt in any
        if entry.analyzer is None:
            return _found(whose, hit, text, counts=True, why="ends a prompt")
        return _found(whose, hit, text, counts=False, why=f"counts only in a text of {entry.language}")
    return _found(whose, hit, text, counts=False, why="stands inside a phrase that is allowed")


def _found(whose: str, hit: Hit, text: str, *, counts: bool, why: str) -> Found:
    entry = hit.entry
    seen = text[hit.start : hit.end]
    undone = hit.disguise or ("" if seen == entry.term or entry.match == "regex" else "case")
    if undone == "case" and seen.casefold() != entry.term.casefold():
        undone = "spelling"  # width, hyphens, marks that the list has too, what cannot be seen
    return Found(
        whose,
        entry.term,
        entry.match,
        entry.language,
        entry.category,
        entry.severity,
        entry.analyzer,
        entry.effect,
        hit.start,
        hit.end,
        seen,
        undone,
        counts,
        why,
    )


def _key(hit: Hit) -> tuple[int, int, str, str | None]:
    return hit.start, hit.end, hit.entry.term, hit.entry.analyzer
