"""An organisation's blocklists by name, as rows, and matched: a request says which of them it is held against. The
matcher is the engine's, so a term is found however it is disguised."""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from appliance import audit, clock
from appliance.accounts.keys import Caller
from appliance.database import Connection, Row
from appliance.errors import InvalidRequest, NotFound
from appliance.text import normalize
from appliance.text.blocklist import Blocklist, Entry, Hit
from appliance.text.view import View

NAME = re.compile(r"[0-9A-Za-z._~-]{1,64}")
LISTS = 100
ITEMS = 10_000
AT_ONCE = 100
LONGEST = 128
LONGEST_DESCRIPTION = 1024

_KEPT = 64  # lists that stay built; the largest takes 0.1 s


class NamedList(msgspec.Struct, frozen=True):
    name: str
    description: str | None
    version: int
    """One more with every change of its items."""


class Item(msgspec.Struct, frozen=True):
    id: str
    text: str
    description: str | None = None


class Match(msgspec.Struct, frozen=True):
    list_name: str
    item_id: str
    text: str


class Page(msgspec.Struct, frozen=True):
    items: list[Item]
    has_more: bool


def get(conn: Connection, org_id: str, name: str) -> NamedList:
    """Raises NotFound."""
    return _list(_row(conn, org_id, name))


def every(conn: Connection, org_id: str) -> list[NamedList]:
    """By name."""
    rows = conn.execute("SELECT * FROM named_blocklist WHERE org_id = :org ORDER BY name", {"org": org_id})
    return [_list(row) for row in rows]


def sizes(conn: Connection) -> list[tuple[str, str, int]]:
    """Of every organisation: (its id, the list's name, how many items), by name."""
    rows = conn.execute(
        """
        SELECT named_blocklist.org_id, named_blocklist.name, count(named_blocklist_item.id) AS items
        FROM named_blocklist LEFT JOIN named_blocklist_item ON named_blocklist_item.list_id = named_blocklist.id
        GROUP BY named_blocklist.id
        ORDER BY named_blocklist.name, named_blocklist.org_id
        """
    )
    return [(row["org_id"], row["name"], row["items"]) for row in rows]


def put(conn: Connection, caller: Caller, name: str, description: str | None, *, keeps_description: bool) -> bool:
    """Make the list, or change its description; whether it is new. Raises InvalidRequest when there are too many."""
    given = {"org": caller.org_id, "name": name, "description": description, "now": clock.now_ms()}
    if conn.execute("SELECT 1 FROM named_blocklist WHERE org_id = :org AND name = :name", given).fetchone():
        if not keeps_description:
            conn.execute(
                "UPDATE named_blocklist SET description = :description WHERE org_id = :org AND name = :name", given
            )
            audit.record(conn, caller.actor, "named_list.change", name, org_id=caller.org_id)
        return False
    (count,) = conn.execute("SELECT count(*) FROM named_blocklist WHERE org_id = :org", given).fetchone()
    if count >= LISTS:
        raise InvalidRequest(f"There are {LISTS} blocklists already; delete one first")
    conn.execute(
        """
        INSERT INTO named_blocklist (org_id, name, description, created_at)
        VALUES (:org, :name, :description, :now)
        """,
        given,
    )
    audit.record(conn, caller.actor, "named_list.create", name, org_id=caller.org_id)
    return True


def delete(conn: Connection, caller: Caller, name: str) -> None:
    """With its items; one that is not there is gone already."""
    removed = conn.execute(
        "DELETE FROM named_blocklist WHERE org_id = :org AND name = :name", {"org": caller.org_id, "name": name}
    ).rowcount
    if removed:
        audit.record(conn, caller.actor, "named_list.delete", name, org_id=caller.org_id)


def add_items(conn: Connection, caller: Caller, name: str, items: Sequence[Item]) -> list[Item]:
    """The items as they stand now, in order; of a text that is on the list already the description is replaced and the
    id kept. All or none. Raises NotFound, and InvalidRequest when the list would be too long."""
    list_id = _row(conn, caller.org_id, name)["id"]
    for item in items:
        conn.execute(
            """
            INSERT INTO named_blocklist_item (id, org_id, list_id, text, description)
            VALUES (:id, :org, :list, :text, :description)
            ON CONFLICT (list_id, text) DO UPDATE SET description = excluded.description
            """,
            {**msgspec.structs.asdict(item), "org": caller.org_id, "list": list_id},
        )
    (count,) = conn.execute(
        "SELECT count(*) FROM named_blocklist_item WHERE list_id = :list", {"list": list_id}
    ).fetchone()
    if count > ITEMS:
        raise InvalidRequest(f"A blocklist holds {ITEMS} items at most")
    _changed(conn, caller, list_id, name, "named_list.add_items", len(items))
    found = "SELECT id, text, description FROM named_blocklist_item WHERE list_id = :list AND text = :text"
    return [_item(conn.execute(found, {"list": list_id, "text": item.text}).fetchone()) for item in items]


def remove_items(conn: Connection, caller: Caller, name: str, ids: Iterable[str]) -> None:
    """Those that are there. Raises NotFound for the list."""
    list_id = _row(conn, caller.org_id, name)["id"]
    removed = 0
    for one in ids:
        removed += conn.execute(
            "DELETE FROM named_blocklist_item WHERE list_id = :list AND id = :id", {"list": list_id, "id": one}
        ).rowcount
    _changed(conn, caller, list_id, name, "named_list.remove_items", removed)


def item(conn: Connection, org_id: str, name: str, item_id: str) -> Item:
    """Raises NotFound, of the list or of the item."""
    row = conn.execute(
        "SELECT id, text, description FROM named_blocklist_item WHERE list_id = :list AND id = :id",
        {"list": _row(conn, org_id, name)["id"], "id": item_id},
    ).fetchone()
    if row is None:
        raise NotFound("There is no such item on this blocklist")
    return _item(row)


def page(conn: Connection, org_id: str, name: str, *, skip: int, most: int) -> Page:
    """In the order in which they were added. Raises NotFound."""
    rows = conn.execute(
        """
        SELECT id, text, description FROM named_blocklist_item
        WHERE list_id = :list
        ORDER BY seq
        LIMIT :most OFFSET :skip
        """,
        {"list": _row(conn, org_id, name)["id"], "most": most + 1, "skip": skip},
    ).fetchall()
    return Page([_item(row) for row in rows[:most]], len(rows) > most)


class Matcher:
    """One process's: builds a list when it is first asked for, and anew when it has changed."""

    def __init__(self) -> None:
        self._built: OrderedDict[tuple[str, str], tuple[int, int, Blocklist, dict[str, Item]]] = OrderedDict()
        self._lock = threading.Lock()

    def matches(self, conn: Connection, org_id: str, names: Sequence[str], text: str) -> list[Match]:
        """Every item of these lists that stands in the text, list by list, each once. Raises NotFound. Blocks: for a
        thread."""
        lists = [(name, *self._list(conn, org_id, name)) for name in names]
        views = normalize.views(text)
        found: dict[tuple[str, str], Match] = {}
        for name, built, items in lists:
            for hit in built.hits(views):
                of = items[hit.entry.term]
                found.setdefault((name, of.id), Match(name, of.id, of.text))
        return list(found.values())

    def hits(self, conn: Connection, org_id: str, name: str, views: list[View]) -> list[tuple[Item, Hit]]:
        """Every place of every item of one list. Raises NotFound. Blocks: for a thread."""
        built, items = self._list(conn, org_id, name)
        return [(items[hit.entry.term], hit) for hit in built.hits(views)]

    def _list(self, conn: Connection, org_id: str, name: str) -> tuple[Blocklist, dict[str, Item]]:
        row = _row(conn, org_id, name)
        state = (row["id"], row["version"])
        with self._lock:
            known = self._built.get((org_id, name))
            if known is not None and known[:2] == state:
                self._built.move_to_end((org_id, name))
                return known[2:]
        rows = conn.execute(
            "SELECT id, text, description FROM named_blocklist_item WHERE list_id = :list", {"list": row["id"]}
        )
        items = {one.text: one for one in map(_item, rows)}
        built = Blocklist.build(Entry(text) for text in items)
        with self._lock:
            self._built[org_id, name] = (*state, built, items)
            while len(self._built) > _KEPT:
                self._built.popitem(last=False)
        return built, items


def _row(conn: Connection, org_id: str, name: str) -> Row:
    row = conn.execute(
        "SELECT * FROM named_blocklist WHERE org_id = :org AND name = :name", {"org": org_id, "name": name}
    ).fetchone()
    if row is None:
        raise NotFound("There is no such blocklist")
    return row


def _changed(conn: Connection, caller: Caller, list_id: int, name: str, action: str, count: int) -> None:
    conn.execute("UPDATE named_blocklist SET version = version + 1 WHERE id = :id", {"id": list_id})
    audit.record(conn, caller.actor, action, name, org_id=caller.org_id, items=count)


def _list(row: Row) -> NamedList:
    return NamedList(row["name"], row["description"], row["version"])


def _item(row: Row) -> Item:
    return Item(row["id"], row["text"], row["description"])
