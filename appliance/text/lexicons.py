"""The blocklist in force for an organisation: the shipped lexicons, the operator's terms for everybody, and its own."""

import threading
import tomllib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.database import Connection
from appliance.errors import Misconfigured
from appliance.house import House
from appliance.text import expressions, keywords, normalize
from appliance.text.analysis import RULES
from appliance.text.blocklist import Blocklist, Entry, Hit, Kind, Match, Severity
from appliance.text.view import View

_AT_ONCE = 500  # terms that are built where they are asked for: 3 ms
_KEPT = 256  # organisations whose lists stay built; the shared one, which may be large, is built once for all


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[lists]] of config/lexicons/LANGUAGE.toml."""

    terms: list[str]
    category: str
    severity: Severity = "high"
    match: Kind = "word"
    analyzer: str | None = None
    """One of analysis.RULES that goes by lists (profanity, nsfw, spam …); absent: the blocklist, which ends a
    prompt."""
    needs_language: bool = False
    """The terms count only in a text that is surely of this language (`bite` in French): elsewhere they are words like
    any other. Without it a term counts in every text, for the language of a short one is not known."""


class _Passed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[allow]]: phrases inside which nothing of the analyzers' lists is counted, in any text (`moby dick`).
    [[innocent]]: words of this language that other languages' lists have: not counted in a text that is surely of this
    language (`dick` in German). Neither touches the blocklist."""

    terms: list[str]


class _Lexicon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lists: list[_List] = []
    allow: list[_Passed] = []
    innocent: list[_Passed] = []


def read_all(folder: Path) -> list[Entry]:
    """Every entry of every lexicon in the folder. Raises Misconfigured that names the file and what is wrong."""
    if not folder.is_dir():
        raise Misconfigured(f"{folder}: no such folder; lexicons_dir must be one, if an empty one")
    found: list[Entry] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            lexicon = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Lexicon)
        except OSError as error:
            raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, msgspec.ValidationError) as error:
            raise Misconfigured(f"{path}: {error}") from error
        for one in lexicon.lists:
            if one.analyzer is not None and one.analyzer not in RULES:
                raise Misconfigured(f"{path}: {one.analyzer!r} is no analyzer; it is one of {', '.join(RULES)}")
            for term in one.terms if one.match == "regex" else ():
                if (problem := expressions.problem(term)) is not None:
                    raise Misconfigured(f"{path}: {term!r} cannot be used: {problem}")
        found += _entries(lexicon, path.stem)
    return found


def _entries(lexicon: _Lexicon, language: str) -> list[Entry]:
    found = [
        Entry(
            term,
            one.match,
            one.category,
            one.severity,
            one.analyzer,
            "block",
            language,
            needs_language=one.needs_language,
        )
        for one in lexicon.lists
        for term in one.terms
    ]
    found += [Entry(term, effect="allow", language=language) for one in lexicon.allow for term in one.terms]
    found += [Entry(term, effect="innocent", language=language) for one in lexicon.innocent for term in one.terms]
    return found


class Lexicons:
    """One process's lists, each built again when its rows have changed. Used by any number of threads."""

    def __init__(self, house: House) -> None:
        self._db = house.db
        self._shipped = Blocklist.build(read_all(house.settings.lexicons_dir))
        self._built: OrderedDict[str | None, tuple[int, Blocklist]] = OrderedDict()
        self._lock = threading.Lock()
        self._building: set[str | None] = set()

    def match(self, org_id: str, text: str) -> Match | None:
        """The first term of the text that this organisation's prompts may not have; its own terms are tried last. A
        change of a list counts from the next call on: who calls this can wait for a long one to be built."""
        views = normalize.views(text)
        found = (one.find(views) for one in self._lists(org_id, is_patient=True))
        return next((match for match in found if match is not None), None)

    def hits(self, org_id: str, views: list[View]) -> Iterator[Hit]:
        """Every entry of every list that holds for this organisation, wherever it stands. For an event loop: while a
        list of more than 500 terms is built again, in a thread and in about a second, the former one answers."""
        for one in self._lists(org_id, is_patient=False):
            yield from one.hits(views)

    def by_list(self, org_id: str | None, views: list[View]) -> Iterator[tuple[str, Hit]]:
        """The same with the list that it stands on: shipped, everyone or own. Waits for a list to be built."""
        for whose, one in zip(("shipped", "everyone", "own"), self._lists(org_id or "", is_patient=True), strict=True):
            for hit in one.hits(views):
                yield whose, hit

    def are_ready(self, org_id: str) -> bool:
        """Whether `hits` will find every list built, if not the newest: else one may have to be built first."""
        with self._lock:
            return None in self._built and org_id in self._built

    def standing(self, org_id: str) -> dict[str | None, int]:
        """The versions of the operator's lists (None: everybody's) that `hits` answers by at this moment, or by newer
        ones: the former, while a long list is built again. Builds nothing here; the lists a rebuild is due for begin
        it."""
        conn = self._db.reader()
        newest = keywords.versions(conn, org_id)
        return {whose: self._standing(conn, whose, version) for whose, version in newest.items()}

    def prepare(self, org_id: str) -> None:
        """Build what there is no list of yet. For a thread."""
        for _ in self._lists(org_id, is_patient=True):
            pass

    def _lists(self, org_id: str, *, is_patient: bool) -> Iterator[Blocklist]:
        yield self._shipped
        conn = self._db.reader()
        versions = keywords.versions(conn, org_id)
        for whose in (None, org_id):
            yield self._list(conn, whose, versions.get(whose, 0), is_patient)

    def _list(self, conn: Connection, whose: str | None, version: int, is_patient: bool) -> Blocklist:
        with self._lock:
            built = self._built.get(whose)
            if built is not None:
                self._built.move_to_end(whose)
                if built[0] == version:
                    return built[1]
        if built is None or is_patient or not keywords.has_more(conn, whose, _AT_ONCE):
            return self._build(conn, whose, version)
        self._begin(whose)
        return built[1]

    def _standing(self, conn: Connection, whose: str | None, version: int) -> int:
        with self._lock:
            built = self._built.get(whose)
        if built is None or built[0] == version or not keywords.has_more(conn, whose, _AT_ONCE):
            return version
        self._begin(whose)
        return built[0]

    def _begin(self, whose: str | None) -> None:
        """To build it again in a thread, once at a time."""
        with self._lock:
            if whose not in self._building:
                self._building.add(whose)
                threading.Thread(target=self._rebuild, args=(whose,), name="lexicons", daemon=True).start()

    def _rebuild(self, whose: str | None) -> None:
        try:
            conn = self._db.reader()
            self._build(conn, whose, keywords.versions(conn, whose or "").get(whose, 0))
        finally:
            with self._lock:
                self._building.discard(whose)

    def _build(self, conn: Connection, whose: str | None, version: int) -> Blocklist:
        # outside the lock: others need not wait for a hundred thousand terms. The version was read before the rows: a
        # change in between makes the next caller build it once more
        entries = (
            [Entry(one.keyword, one.match, one.category) for one in keywords.every(conn, whose) if one.enabled]
            if version
            else []
        )
        blocklist = Blocklist.build(entries)
        with self._lock:
            self._built[whose] = (version, blocklist)
            self._built.move_to_end(whose)
            while len(self._built) > _KEPT:
                self._built.popitem(last=False)
        return blocklist
