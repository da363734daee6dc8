"""The ledger: money in, money out, never edited. Amounts are signed millionths of a US dollar."""

from enum import StrEnum

import msgspec

from appliance import clock
from appliance.database import Connection, Row


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
    if conn.execute("SELECT 1 FROM ledger WHERE source_type = ? AND source_id = ?", source).fetchone():
        return None
    row = conn.execute(
        """
        INSERT INTO ledger (id, org_id, type, amount_micros, balance_micros, source_type, source_id, job_id, modality,
            description, created_at)
        VALUES (:id, :org, :type, :amount, :amount + :before, :source_type, :source_id, :job, :modality,
            :description, :now)
        RETURNING *
        """,
        {
            "id": clock.new_id(),
            "org": org_id,
            "type": type.value,
            "amount": amount_micros,
            "before": balance(conn, org_id),
            "source_type": source[0],
            "source_id": source[1],
            "job": job_id,
            "modality": modality,
            "description": description,
            "now": now,
        },
    ).fetchone()
    return _entry(row)


def by_source(conn: Connection, source_type: str, source_id: str) -> Entry | None:
    """The entry that was posted for it, if one was."""
    row = conn.execute(
        "SELECT * FROM ledger WHERE source_type = :type AND source_id = :id", {"type": source_type, "id": source_id}
    ).fetchone()
    return _entry(row) if row else None


def balance(conn: Connection, org_id: str) -> int:
    """What the organisation has left, in millionths of a dollar; may be below zero."""
    row = conn.execute(
        "SELECT balance_micros FROM ledger WHERE org_id = :org ORDER BY seq DESC LIMIT 1", {"org": org_id}
    ).fetchone()
    return row["balance_micros"] if row else 0


def _entry(row: Row) -> Entry:
    return msgspec.convert(dict(row), Entry)
