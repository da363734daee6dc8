"""The registered endpoint: one address an organisation, which every closed job without one of its own is sent to."""

from urllib.parse import urlsplit

import msgspec

from appliance import audit, clock
from appliance.database import Connection, Row
from appliance.errors import InvalidRequest, NotFound
from appliance.webhooks import secret

MAX_URL = 2048


class Endpoint(msgspec.Struct, frozen=True):
    org_id: str
    url: str
    created_at: int
    updated_at: int
    disabled_at: int | None = None
    disabled_reason: str | None = None

    @property
    def is_disabled(self) -> bool:
        return self.disabled_at is not None


class Registered(msgspec.Struct, frozen=True):
    """What a registration answers."""

    url: str
    updated_at: int
    secret: str | None = None
    """Only when this call made it; afterwards it is shown by `secret.reveal`."""

    def __repr__(self) -> str:
        return f"Registered(url={self.url!r}, updated_at={self.updated_at})"


def check_url(url: str, field: str = "url") -> str:
    """The address, if it has the form of one that a webhook can be sent to. Raises InvalidRequest naming the field.

    The form only. Where the name leads is checked as the socket opens, at every attempt: an answer of today's DNS
    would say nothing about tomorrow's.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused(field, "is not a valid address") from None
    if len(url) > MAX_URL:
        raise _refused(field, f"is longer than {MAX_URL} characters")
    if " " in url or not url.isprintable():
        raise _refused(field, "contains a space or a control character")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused(field, "must be an absolute http or https address")
    if port == 0:
        raise _refused(field, "names port 0")
    if parts.username is not None or parts.password is not None:
        raise _refused(field, "must not carry a user name or password; deliveries are signed instead")
    return url


def register(conn: Connection, org_id: str, url: str, now: int, *, actor: str, sign: bool = True) -> Registered:
    """From now on results go to `url`, and to no former one; a disabled endpoint is enabled again. Unless `sign` is
    off the organisation has a secret afterwards, answered here when it is new. Raises InvalidRequest."""
    check_url(url)
    conn.execute(
        """
        INSERT INTO webhook_endpoint (org_id, url, created_at, updated_at)
        VALUES (:org_id, :url, :now, :now)
        ON CONFLICT (org_id) DO UPDATE
        SET url = :url, updated_at = :now, disabled_at = NULL, disabled_reason = NULL
        """,
        {"org_id": org_id, "url": url, "now": now},
    )
    _note(conn, actor, "webhook.registered", org_id, url)
    made = secret.get_or_create(conn, org_id, now) if sign else None
    return Registered(url=url, updated_at=now, secret=made[0].secret if made is not None and made[1] else None)


def unregister(conn: Connection, org_id: str, *, actor: str) -> bool:
    """From now on there is no endpoint; whether there was one. The secret stays: per-request addresses use it too."""
    found = get(conn, org_id)
    if found is None:
        return False
    conn.execute("DELETE FROM webhook_endpoint WHERE org_id = :org_id", {"org_id": org_id})
    _note(conn, actor, "webhook.unregistered", org_id, found.url)
    return True


def get(conn: Connection, org_id: str) -> Endpoint | None:
    row = conn.execute("SELECT * FROM webhook_endpoint WHERE org_id = :org_id", {"org_id": org_id}).fetchone()
    return None if row is None else _endpoint(row)


def every(conn: Connection, org_id: str | None = None) -> list[Endpoint]:
    """All endpoints, or an organisation's."""
    rows = conn.execute(
        """
        SELECT * FROM webhook_endpoint
        WHERE :org_id IS NULL OR org_id = :org_id
        ORDER BY created_at, org_id
        """,
        {"org_id": org_id},
    )
    return [_endpoint(row) for row in rows]


def disable(
    conn: Connection,
    org_id: str,
    reason: str,
    *,
    url: str | None = None,
    now: int | None = None,
    actor: str = "system:webhooks",
) -> bool:
    """Send nothing there until it is registered again. With `url`, only if that is still its address: what a former
    receiver answered says nothing about the present one. False when nothing changed."""
    moved = conn.execute(
        """
        UPDATE webhook_endpoint
        SET disabled_at = :now, disabled_reason = :reason
        WHERE org_id = :org_id AND disabled_at IS NULL AND (:url IS NULL OR url = :url)
        """,
        {"org_id": org_id, "reason": reason, "url": url, "now": clock.now_ms() if now is None else now},
    ).rowcount
    if moved:
        audit.record(conn, actor, "webhook.disabled", org_id, org_id=org_id, reason=reason)
    return bool(moved)


def switch_off(conn: Connection, org_id: str, reason: str, *, actor: str, now: int | None = None) -> bool:
    """`disable`, by a person: raises NotFound when there is none."""
    if get(conn, org_id) is None:
        raise NotFound("No endpoint is registered for this organisation")
    return disable(conn, org_id, reason, now=now, actor=actor)


def enable(conn: Connection, org_id: str, now: int, *, actor: str, reason: str | None = None) -> bool:
    """Send there again. False when it was not disabled; raises NotFound when there is none."""
    found = get(conn, org_id)
    if found is None:
        raise NotFound("No endpoint is registered for this organisation")
    moved = conn.execute(
        """
        UPDATE webhook_endpoint
        SET disabled_at = NULL, disabled_reason = NULL, updated_at = :now
        WHERE org_id = :org_id AND disabled_at IS NOT NULL
        """,
        {"org_id": org_id, "now": now},
    ).rowcount
    if moved:
        audit.record(conn, actor, "webhook.enabled", org_id, org_id=org_id, reason=reason)
    return bool(moved)


def _note(conn: Connection, actor: str, action: str, org_id: str, url: str) -> None:
    """The host only: nothing goes from the audit log, and the rest of an address can be secret, or name somebody."""
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
    audit.record(conn, actor, action, org_id, org_id=org_id, host=host)


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])


def _endpoint(row: Row) -> Endpoint:
    return Endpoint(
        org_id=row["org_id"],
        url=row["url"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
    )
