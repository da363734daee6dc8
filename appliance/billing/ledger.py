"""The ledger: money in, money out, never edited. Amounts are signed millionths of a US dollar."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from appliance import clock
from appliance.database import Connection, Row
from appliance.errors import NotFound

_LATEST = 2**63 - 1


class EntryType(StrEnum):
    CHARGE = "charge"
    CREDIT = "credit"
    REFUND = "refund"
    """Of a charge, because its job failed."""
    STRIPE_REFUND = "stripe_refund"
    """Of money that came in through Stripe."""


class Entry(msgspec.Struct, frozen=True):
    seq: int
    id: str
    org_id: str
    type: EntryType
    amount_micros: int
    balance_micros: int
    """After this entry."""
    source_type: str
    source_id: str
    job_id: str | None
    modality: str | None
    description: str
    created_at: int


def post(
    conn: Connection,
    org_id: str,
    type: EntryType,
    amount_micros: int,
    *,
    source: tuple[str, str],
    description: str,
    now: int,
    job_id: str | None = None,
    modality: str | None = None,
) -> Entry | None:
    """Add an entry, in the transaction of what it is for. None when `source` (its kind and id) was posted before: what
    may be told twice is paid once."""
    row = conn.execute(
        """
        INSERT INTO ledger (id, org_id, type, amount_micros, balance_micros, source_type, source_id, job_id, modality,
            description, created_at)
        SELECT :id, :org, :type, :amount, :amount + ifnull(
            (SELECT balance_micros FROM ledger WHERE org_id = :org ORDER BY seq DESC LIMIT 1), 0),
            :source_type, :source_id, :job, :modality, :description, :now
        WHERE true  -- or the next ON would be a join's
        ON CONFLICT (source_type, source_id) DO NOTHING
        RETURNING *
        """,
        {
            "id": clock.new_id(),
            "org": org_id,
            "type": type.value,
            "amount": amount_micros,
            "source_type": source[0],
            "source_id": source[1],
            "job": job_id,
            "modality": modality,
            "description": description,
            "now": now,
        },
    ).fetchone()
    return None if row is None else _entry(row)


def by_source(conn: Connection, source_type: str, source_id: str) -> Entry | None:
    """The entry that was posted for it, if one was."""
    row = conn.execute(
        "SELECT * FROM ledger WHERE source_type = :type AND source_id = :id", {"type": source_type, "id": source_id}
    ).fetchone()
    return _entry(row) if row else None


def by_id(conn: Connection, entry_id: str) -> Entry | None:
    row = conn.execute("SELECT * FROM ledger WHERE id = :id", {"id": entry_id}).fetchone()
    return _entry(row) if row else None


def balance(conn: Connection, org_id: str) -> int:
    """What the organisation has left, in millionths of a dollar; may be below zero."""
    row = conn.execute(
        "SELECT balance_micros FROM ledger WHERE org_id = :org ORDER BY seq DESC LIMIT 1", {"org": org_id}
    ).fetchone()
    return row["balance_micros"] if row else 0


def last(conn: Connection, org_id: str) -> Entry | None:
    """The newest entry; None when there is none yet."""
    found = page(conn, org_id, limit=1)
    return found[0] if found else None


def page(
    conn: Connection, org_id: str, *, limit: int, types: Iterable[EntryType] = (), before: str | None = None
) -> list[Entry]:
    """Newest first, of these types or of all, and older than the entry with the id `before`. Raises NotFound when the
    organisation has no such entry."""
    bound: dict[str, object] = {"org": org_id, "limit": limit, "seq": _LATEST if before is None else None}
    if before is not None:
        row = conn.execute("SELECT seq FROM ledger WHERE id = :id AND org_id = :org", {"id": before, "org": org_id})
        if (found := row.fetchone()) is None:
            raise NotFound("There is no such entry")
        bound["seq"] = found["seq"]
    wanted = list(types)
    if not wanted:
        rows = conn.execute(
            "SELECT * FROM ledger WHERE org_id = :org AND seq < :seq ORDER BY seq DESC LIMIT :limit", bound
        )
        return [_entry(row) for row in rows]
    # Each type by itself, from its index: together they would be sorted, all ten million, for one page.
    held = [
        _entry(row)
        for type in wanted
        for row in conn.execute(
            """
            SELECT * FROM ledger WHERE org_id = :org AND type = :type AND seq < :seq
            ORDER BY seq DESC LIMIT :limit
            """,
            {**bound, "type": type.value},
        )
    ]
    return sorted(held, key=lambda entry: entry.seq, reverse=True)[:limit]


class Cut(msgspec.Struct, frozen=True):
    """Which entries, as of a moment: what comes later does not move them."""

    newest: int
    """The last seq that belongs to it."""
    org_id: str | None = None
    type: EntryType | None = None


def cut(conn: Connection, org_id: str | None = None, type: EntryType | None = None) -> Cut:
    """Of an organisation or of all, of this type or of all, as they are now."""
    (newest,) = conn.execute("SELECT ifnull(max(seq), 0) FROM ledger").fetchone()
    return Cut(newest, org_id, type)


def count(conn: Connection, wanted: Cut) -> int:
    if wanted.org_id is None and wanted.type is None:
        return wanted.newest  # from 1 on without a gap: entries are only ever added
    return conn.execute(f"SELECT count(*) {_of(wanted)}", _bound(wanted)).fetchone()[0]


def window(conn: Connection, wanted: Cut, first: int, limit: int) -> list[Entry]:
    """So many of them from the place `first` on, the newest first. Of all, it is found by its number; else
    what is skipped is skipped in an index: of a million, 0.2 s to the last on a busy machine."""
    if wanted.org_id is None and wanted.type is None:
        highest = wanted.newest - first
        near = conn.execute(
            "SELECT * FROM ledger WHERE seq <= :highest AND seq > :lowest ORDER BY seq DESC",
            {"highest": highest, "lowest": highest - limit},
        )
        return [_entry(row) for row in near]
    rows = conn.execute(
        f"""
        SELECT * FROM ledger
        WHERE seq IN (SELECT seq {_of(wanted)} ORDER BY seq DESC LIMIT :limit OFFSET :first)
        ORDER BY seq DESC
        """,  # noqa: S608  # our own words
        {**_bound(wanted), "limit": limit, "first": first},
    )
    return [_entry(row) for row in rows]


def balances(conn: Connection) -> dict[str, int]:
    """What each organisation that has entries has left."""
    rows = conn.execute(
        """
        SELECT id, (SELECT balance_micros FROM ledger WHERE org_id = organisation.id ORDER BY seq DESC LIMIT 1) AS left
        FROM organisation
        """
    )
    return {row["id"]: row["left"] for row in rows if row["left"] is not None}


def _of(wanted: Cut) -> str:
    words = ["FROM ledger WHERE seq <= :newest"]
    words += ["AND org_id = :org"] if wanted.org_id is not None else []
    words += ["AND type = :type"] if wanted.type is not None else []
    return " ".join(words)


def _bound(wanted: Cut) -> dict[str, object]:
    return {"newest": wanted.newest, "org": wanted.org_id, "type": wanted.type}


def _entry(row: Row) -> Entry:
    return msgspec.convert(dict(row), Entry)
