"""Idempotency keys: what was answered to a request, kept so that the same request is done once and answered alike.

The row is written in the transaction of the effect that it answers for. Work that calls out claims it before, with a
lease: whoever finds a claim whose lease is over takes the work up again, under the same `work_id`.
"""

import msgspec

from appliance import clock
from appliance.database import Connection, Row
from appliance.errors import Conflict, IdempotencyKeyReused

LEASE_MS = 90_000
"""How long work that calls out may take; after it, another request with the same key may take it up."""


class Ask(msgspec.Struct, frozen=True):
    """A request that named a key."""

    org_id: str
    """Empty for the operators."""
    route: str
    key: str
    fingerprint: bytes
    """Of everything that was asked, under the pepper."""


class Kept(msgspec.Struct, frozen=True):
    """An answer as it was given."""

    status: int
    body: bytes


def find(conn: Connection, ask: Ask, since: int, *, is_mine: bool = False) -> Kept | None:
    """What was answered to it since then, or None. Raises IdempotencyKeyReused when the key came with something else,
    Conflict while somebody is at it; `is_mine` says that it is the caller."""
    row = _row(conn, ask, since)
    if row is None:
        return None
    if row["fingerprint"] != ask.fingerprint:
        raise IdempotencyKeyReused()
    if row["status"] is not None:
        return Kept(row["status"], row["body"])
    # a lease that ends later than any can was given by a clock that has been set back since
    if not is_mine and 0 < row["lease_until"] - clock.now_ms() <= LEASE_MS:
        raise in_flight()
    return None


def claim(conn: Connection, ask: Ask, since: int) -> Kept | str:
    """What was answered already, else the id of the work, which is ours for LEASE_MS from now. Raises as `find`."""
    kept = find(conn, ask, since)
    if kept is not None:
        return kept
    row = _row(conn, ask, since)
    work_id = clock.new_id() if row is None else str(row["work_id"])
    _put(conn, ask, work_id, None, clock.now_ms() + LEASE_MS)
    return work_id


def keep(conn: Connection, ask: Ask, work_id: str, kept: Kept) -> None:
    """This is the answer from now on."""
    _put(conn, ask, work_id, kept, None)


def release(conn: Connection, ask: Ask, work_id: str, *, is_over: bool) -> None:
    """The claimed work was not done. When it `is_over` the key is free for anything; else the next request with the
    same key takes the same work up."""
    named = {"org_id": ask.org_id, "route": ask.route, "key": ask.key, "work_id": work_id}
    if is_over:
        conn.execute(
            """
            DELETE FROM idempotency
            WHERE org_id = :org_id AND route = :route AND key = :key AND work_id = :work_id AND status IS NULL
            """,
            named,
        )
        return
    conn.execute(
        """
        UPDATE idempotency
        SET lease_until = 0
        WHERE org_id = :org_id AND route = :route AND key = :key AND work_id = :work_id AND status IS NULL
        """,
        named,
    )


def purge(conn: Connection, before: int, most: int) -> int:
    """Remove up to `most` rows older than `before`; how many went."""
    return conn.execute(
        """
        DELETE FROM idempotency
        WHERE seq IN (SELECT seq FROM idempotency WHERE created_at < :before ORDER BY created_at LIMIT :most)
        """,
        {"before": before, "most": most},
    ).rowcount


def in_flight() -> Conflict:
    return Conflict("A request with this Idempotency-Key is still being worked on; try again in a moment")


def _row(conn: Connection, ask: Ask, since: int) -> Row | None:
    row: Row | None = conn.execute(
        """
        SELECT fingerprint, work_id, status, body, lease_until
        FROM idempotency
        WHERE org_id = :org_id AND route = :route AND key = :key AND created_at > :since
        """,
        {"org_id": ask.org_id, "route": ask.route, "key": ask.key, "since": since},
    ).fetchone()
    return row


def _put(conn: Connection, ask: Ask, work_id: str, kept: Kept | None, lease_until: int | None) -> None:
    # OR REPLACE: what stands there is our own claim, or older than keys are kept
    conn.execute(
        """
        INSERT OR REPLACE INTO idempotency
            (org_id, route, key, fingerprint, work_id, status, body, lease_until, created_at)
        VALUES
            (:org_id, :route, :key, :fingerprint, :work_id, :status, :body, :lease_until, :now)
        """,
        {
            "org_id": ask.org_id,
            "route": ask.route,
            "key": ask.key,
            "fingerprint": ask.fingerprint,
            "work_id": work_id,
            "status": None if kept is None else kept.status,
            "body": None if kept is None else kept.body,
            "lease_until": lease_until,
            "now": clock.now_ms(),
        },
    )
