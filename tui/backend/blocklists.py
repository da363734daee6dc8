"""The lists of terms: everybody's, organisations' own, named ones, and the shipped ones, which are only read."""

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import InvalidRequest
from appliance.text import keywords, lexicons, matches, named_lists
from appliance.text.blocklist import Entry
from appliance.text.keywords import Checked, Imported, Keyword
from appliance.text.lexicons import Lexicons
from appliance.text.matches import Explained, Found
from appliance.text.named_lists import Item, Matcher
from tui.backend.desk import Desk

__all__ = ["KINDS", "Checked", "Entry", "Explained", "Found", "Item", "Keyword", "Listing", "Tester"]

KINDS = ("word", "substring", "regex")


class Listing(msgspec.Struct, frozen=True):
    """One list. `kind`: everyone, own, named or shipped."""

    kind: str
    org_id: str | None
    org: str
    name: str
    """Of a named list, or the language of a shipped one."""
    terms: int

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.org_id or ''}/{self.name}"

    @property
    def may_change(self) -> bool:
        return self.kind in ("everyone", "own")

    @property
    def title(self) -> str:
        match self.kind:
            case "everyone":
                return "Everybody's"
            case "own":
                return f"{self.org}'s own"
            case "named":
                return f"{self.org}: {self.name}"
            case _:
                return f"Shipped: {self.name}"


def lists(desk: Desk) -> list[Listing]:
    """Everybody's, then organisations' own ones (also the empty ones), then named ones, then the shipped."""

    def read(conn: Connection) -> list[Listing]:
        orgs = organisations.every(conn)
        names = {one.id: one.name for one in orgs}
        sizes = keywords.sizes(conn)
        found = [Listing("everyone", None, "", "", sizes.get(None, (0, 0))[0])]
        found += [Listing("own", one.id, one.name, "", sizes.get(one.id, (0, 0))[0]) for one in orgs]
        found += [Listing("named", org, names[org], name, size) for org, name, size in named_lists.sizes(conn)]
        return found

    shipped = Counter(entry.language for entry in lexicons.read_all(desk.settings.lexicons_dir))
    return [*desk.read(read), *(Listing("shipped", None, "", code, size) for code, size in sorted(shipped.items()))]


def count(desk: Desk, org_id: str | None, needle: str) -> int:
    """How many of a list's terms have `needle`."""
    return desk.read(lambda conn: keywords.count(conn, org_id, needle))


def search(desk: Desk, org_id: str | None, needle: str, first: int, count: int) -> list[Keyword]:
    """Some of them."""
    return desk.read(lambda conn: keywords.found(conn, org_id, needle, limit=count, offset=first))


def shipped(desk: Desk, code: str, needle: str) -> list[Entry]:
    wanted = needle.casefold()
    return [
        one
        for one in lexicons.read_all(desk.settings.lexicons_dir)
        if one.language == code and (wanted in one.term.casefold() or wanted in (one.category or ""))
    ]


def named(desk: Desk, one: Listing, needle: str) -> list[Item]:
    wanted = needle.casefold()

    def read(conn: Connection) -> list[Item]:
        return named_lists.page(conn, one.org_id or "", one.name, skip=0, most=named_lists.ITEMS).items

    return [item for item in desk.read(read) if wanted in item.text.casefold()]


def add(desk: Desk, org_id: str | None, term: str, match: str, category: str, reason: str) -> Keyword:
    return desk.change(
        lambda conn: keywords.add(
            conn, term, org_id=org_id, match=match, category=category or None, actor=desk.actor, reason=reason
        )
    )


def remove(desk: Desk, one: Keyword, reason: str) -> None:
    desk.change(
        lambda conn: keywords.remove(conn, one.id, org_id=one.org_id, actor=desk.actor, reason=reason),
    )


def put_back(desk: Desk, one: Keyword, reason: str) -> Keyword:
    """A term that was removed, as it was."""

    def act(conn: Connection) -> Keyword:
        made = keywords.add(
            conn,
            one.keyword,
            org_id=one.org_id,
            match=one.match,
            category=one.category,
            actor=desk.actor,
            reason=reason,
        )
        if one.enabled:
            return made
        return keywords.change(conn, made.id, enabled=False, actor=desk.actor, reason=reason)

    return desk.change(act)


def switch(desk: Desk, one: Keyword, is_on: bool, reason: str) -> Keyword:
    return desk.change(
        lambda conn: keywords.change(conn, one.id, enabled=is_on, actor=desk.actor, reason=reason),
    )


def get(desk: Desk, keyword_id: str) -> Keyword:
    return desk.read(lambda conn: keywords.get(conn, keyword_id))


def read_file(path: str) -> list[str]:
    """The lines of a file to import. Raises Refused."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path}: not UTF-8 at byte {error.start}") from error


def check(desk: Desk, org_id: str | None, lines: Sequence[str], match: str, category: str) -> Checked:
    return desk.read(
        lambda conn: keywords.check_lines(conn, lines, org_id=org_id, match=match, category=category or None)
    )


def import_(desk: Desk, org_id: str | None, lines: Sequence[str], match: str, category: str, reason: str) -> Imported:
    """All that can be used."""
    return desk.change(
        lambda conn: keywords.import_lines(
            conn,
            lines,
            org_id=org_id,
            match=match,
            category=category or None,
            actor=desk.actor,
            reason=reason,
            skips_refused=True,
        )
    )


def export(desk: Desk, org_id: str | None, path: str) -> int:
    """Write a list to a new file, as `import` reads it; how many lines. Raises Refused."""
    to = Path(path).expanduser()
    try:
        with to.open("x", encoding="utf-8") as file:
            return desk.read(
                lambda conn: sum(file.write(line + "\n") > 0 for line in keywords.export_lines(conn, org_id))
            )
    except FileExistsError as error:
        raise InvalidRequest(f"{to} is there already; name another file") from error
    except OSError as error:
        raise InvalidRequest(f"{to}: cannot be written ({error.strerror})") from error


class Tester:
    """Holds sentences against every list. The lists are built with the first; call it in a thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._lexicons: Lexicons | None = None
        self._matcher = Matcher()

    def explain(self, org_id: str | None, text: str) -> Explained:
        with self._lock:
            self._lexicons = self._lexicons or Lexicons(self._desk.house)
        return self._desk.read(lambda conn: matches.explain(conn, self._lexicons_(), self._matcher, org_id, text))

    def _lexicons_(self) -> Lexicons:
        assert self._lexicons is not None
        return self._lexicons
