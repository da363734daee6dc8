"""The audit log: who changed what, and why. Lines are only ever added; triggers hold that."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from appliance import access, clock
from appliance.database import Connection, Row

_AT_ONCE = 1000


class Line(msgspec.Struct, frozen=True):
    id: int
    at: int
    actor: str
    org_id: str | None
    action: str
    subject: str
    reason: str | None
    detail: dict[str, Any]


class Filter(msgspec.Struct, frozen=True):
    """Which lines; None = any. `since` is inclusive, `until` is not."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    org_id: str | None = None
    since: int | None = None
    until: int | None = None


def operator() -> str:
    """The actor behind a command: who runs it on this machine, and under sudo also who they are."""
    return access.actor()


def record(
    conn: Connection,
    actor: str,
    action: str,
    subject: str,
    *,
    org_id: str | None = None,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """Add one line, in the transaction of the change that it tells of. `actor` is `key:PREFIX` or `operator:NAME`."""
    conn.execute(
        """
        INSERT INTO audit (at, actor, org_id, action, subject, reason, detail)
        VALUES (:at, :actor, :org_id, :action, :subject, :reason, :detail)
        """,
        {
            "at": clock.now_ms(),
            "actor": actor,
            "org_id": org_id,
            "action": action,
            "subject": subject,
            "reason": reason,
            "detail": json.dumps(detail, ensure_ascii=False),
        },
    )


_CLAUSES = {
    "actor": "actor = :actor",
    "action": "action = :action",
    "subject": "subject = :subject",
    "org_id": "org_id = :org_id",
    "since": "at >= :since",
    "until": "at < :until",
    "before": "id < :before",
}


def page(conn: Connection, wanted: Filter, *, before: int | None = None, limit: int = 50) -> list[Line]:
    """The newest lines of that kind, or the newest that are older than line `before`."""
    given = {**msgspec.structs.asdict(wanted), "before": before}
    # only what is asked for: `:actor IS NULL OR …` keeps SQLite off the index (12 ms for 0.2, of a million lines)
    clauses = " AND ".join(["1", *(clause for name, clause in _CLAUSES.items() if given[name] is not None)])
    rows = conn.execute(
        f"SELECT * FROM audit WHERE {clauses} ORDER BY id DESC LIMIT :limit",  # noqa: S608  # from the table above
        {**given, "limit": limit},
    )
    return [_line(row) for row in rows]


def lines(conn: Connection, wanted: Filter) -> Iterator[Line]:
    """All of that kind, newest first, read some at a time: the log may be long."""
    before: int | None = None
    while found := page(conn, wanted, before=before, limit=_AT_ONCE):
        yield from found
        before = found[-1].id


def _line(row: Row) -> Line:
    return msgspec.convert({**dict(row), "detail": json.loads(row["detail"])}, Line)
