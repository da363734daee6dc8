"""An organisation's signing secret: made on first use, shown again only when asked for, kept a day past its rotation.

It has to be kept as it is, not as a digest, because every delivery is signed with it.
"""

import base64
import secrets

import msgspec

from appliance import audit
from appliance.database import Connection, Row

GRACE_HOURS = 24
"""How long the previous secret still signs beside the new one, so that receivers can change over one by one."""

TOLERANCE_S = 300
"""How old a delivery's timestamp may be for a receiver that keeps to Standard Webhooks."""

_GRACE_MS = GRACE_HOURS * 3_600_000


class Secret(msgspec.Struct, frozen=True):
    org_id: str
    secret: str
    created_at: int
    previous_until: int | None = None
    """Until then the former secret signs too; None when there is none that still does."""
    previous: str | None = None

    def __repr__(self) -> str:
        """Without the secret, so that it reaches no log by way of a traceback or a format."""
        return f"Secret(org_id={self.org_id!r}, created_at={self.created_at})"


def get_or_create(conn: Connection, org_id: str, now: int) -> tuple[Secret, bool]:
    """The secret, and whether this call made it. Part of the caller's transaction."""
    made = conn.execute(
        """
        INSERT OR IGNORE INTO webhook_secret (org_id, secret, created_at)
        VALUES (:org_id, :secret, :now)
        """,
        {"org_id": org_id, "secret": _new(), "now": now},
    ).rowcount
    return _secret(_row(conn, org_id), now), bool(made)


def signing(conn: Connection, org_id: str, now: int) -> list[str]:
    """The secrets that sign a delivery at this moment, the newest first; made if there is none yet."""
    get_or_create(conn, org_id, now)
    row = _row(conn, org_id)
    still_signs = row["previous"] is not None and row["previous_until"] > now
    return [row["secret"], row["previous"]] if still_signs else [row["secret"]]


def reveal(conn: Connection, org_id: str, now: int, *, actor: str) -> Secret:
    """The secret, to be shown; that it was shown stands in the audit log. Made if there is none yet."""
    secret, _ = get_or_create(conn, org_id, now)
    audit.record(conn, actor, "webhook_secret.revealed", org_id, org_id=org_id)
    return secret


def rotate(conn: Connection, org_id: str, now: int, *, actor: str, reason: str | None = None) -> Secret:
    """A new secret. The one before it signs beside it for a day; one older still ends now."""
    old, was_made = get_or_create(conn, org_id, now)
    if was_made:
        return old
    conn.execute(
        """
        UPDATE webhook_secret
        SET secret = :secret, previous = secret, previous_until = :until, created_at = :now
        WHERE org_id = :org_id
        """,
        {"org_id": org_id, "secret": _new(), "until": now + _GRACE_MS, "now": now},
    )
    audit.record(conn, actor, "webhook_secret.rotated", org_id, org_id=org_id, reason=reason)
    return _secret(_row(conn, org_id), now)


def find(conn: Connection, org_id: str, now: int) -> Secret | None:
    """The secret if there is one: for lists that say when it was made, without showing it."""
    row = conn.execute("SELECT * FROM webhook_secret WHERE org_id = :org_id", {"org_id": org_id}).fetchone()
    return None if row is None else _secret(row, now)


def _new() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _row(conn: Connection, org_id: str) -> Row:
    return conn.execute("SELECT * FROM webhook_secret WHERE org_id = :org_id", {"org_id": org_id}).fetchone()


def _secret(row: Row, now: int) -> Secret:
    until = row["previous_until"]
    still_signs = until is not None and until > now
    return Secret(
        org_id=row["org_id"],
        secret=row["secret"],
        created_at=row["created_at"],
        previous_until=until if still_signs else None,
        previous=row["previous"] if still_signs else None,
    )
