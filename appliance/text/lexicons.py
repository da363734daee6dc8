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
from appliance.text import keywords, normalize
from appliance.text.blocklist import Blocklist, Entry, Hit, Kind, Match, Severity
from appliance.text.view import View

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
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise Misconfigured(f"{path}: {error}") from error
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
        self._shipped = read_all(house.settings.lexicons_dir)
        self._built: OrderedDict[str | None, tuple[int, Blocklist]] = OrderedDict()
        self._lock = threading.Lock()

    def match(self, org_id: str, text: str) -> Match | None:
        """The first term of the text that this organisation's prompts may not have; its own terms are tried last."""
        conn = self._db.reader()
        views = normalize.views(text)
        return self._list(conn, None).find(views) or self._list(conn, org_id).find(views)

    def hits(self, org_id: str, views: list[View]) -> Iterator[Hit]:
        """Every entry of every list that holds for this organisation, wherever it stands."""
        conn = self._db.reader()
        yield from self._list(conn, None).hits(views)
        yield from self._list(conn, org_id).hits(views)

    def _list(self, conn: Connection, org_id: str | None) -> Blocklist:
        version = keywords.version(conn, org_id)
        with self._lock:
            built = self._built.get(org_id)
            if built is not None and built[0] == version:
                self._built.move_to_end(org_id)
                return built[1]
        # built outside the lock: a hundred thousand terms take a second, and the others need not wait for them.
        # The version was read before the rows: a change in between makes the next caller build it once more.
        entries = [Entry(one.keyword, one.match, one.category) for one in keywords.every(conn, org_id) if one.enabled]
        blocklist = Blocklist.build([*(self._shipped if org_id is None else []), *entries])
        with self._lock:
            self._built[org_id] = (version, blocklist)
            self._built.move_to_end(org_id)
            while len(self._built) > _KEPT:
                self._built.popitem(last=False)
        return blocklist
