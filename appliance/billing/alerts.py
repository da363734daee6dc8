"""Alerts: what a person has to look at. One of a kind and subject; resolved, never removed."""

import logging

import msgspec

from appliance import audit
from appliance.database import Connection
from appliance.errors import NotFound

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


def settle(conn: Connection, alert_id: int, now: int, *, actor: str, reason: str) -> Alert:
    """A person looked at it. Raises NotFound when there is no such open alert."""
    found = next((alert for alert in open_(conn) if alert.id == alert_id), None)
    if found is None:
        raise NotFound(f"There is no open alert {alert_id}; see: customhouse stripe status")
    resolve(conn, found.kind, found.subject, now)
    audit.record(conn, actor, "alert.resolved", found.subject, org_id=found.org_id, reason=reason, kind=found.kind)
    return found


def open_(conn: Connection) -> list[Alert]:
    """Those that nobody resolved, the newest first."""
    rows = conn.execute("SELECT * FROM alert WHERE resolved_at IS NULL ORDER BY created_at DESC, id DESC")
    return [msgspec.convert(dict(row), Alert) for row in rows]
