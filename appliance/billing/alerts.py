"""Alerts: what a person has to look at. One of a kind and subject; resolved, never removed."""

import logging

import msgspec

from appliance.database import Connection

log = logging.getLogger(__name__)


class Alert(msgspec.Struct, frozen=True):
    id: int
    org_id: str | None
    kind: str
    subject: str
    message: str
    created_at: int
    resolved_at: int | None


def raise_(conn: Connection, kind: str, subject: str, message: str, now: int, org_id: str | None = None) -> None:
    """Have a person look. Told again, an alert that was resolved stays so."""
    added = conn.execute(
        """
        INSERT INTO alert (org_id, kind, subject, message, created_at)
        VALUES (:org, :kind, :subject, :message, :now)
        ON CONFLICT DO NOTHING
        """,
        {"org": org_id, "kind": kind, "subject": subject, "message": message, "now": now},
    ).rowcount
    if added:
        log.warning("alert raised", extra={"kind": kind, "subject": subject, "why": message})


def resolve(conn: Connection, kind: str, subject: str, now: int) -> None:
    conn.execute(
        "UPDATE alert SET resolved_at = :now WHERE kind = :kind AND subject = :subject AND resolved_at IS NULL",
        {"now": now, "kind": kind, "subject": subject},
    )


def open_(conn: Connection) -> list[Alert]:
    """Those that nobody resolved, the newest first."""
    rows = conn.execute("SELECT * FROM alert WHERE resolved_at IS NULL ORDER BY created_at DESC, id DESC")
    return [msgspec.convert(dict(row), Alert) for row in rows]
