"""API keys: made, recognised, rotated, revoked. The raw key is shown once; what is kept is its HMAC and a prefix.

A key is looked up by its HMAC under the server's pepper, so the comparison that the index makes says nothing about
the key itself, and a revocation is seen by every process at its next request: nothing is cached (14 µs a look-up).
"""

import hmac
import re
import secrets
import string
from enum import StrEnum

import msgspec

from appliance import audit, clock
from appliance.accounts import organisations, scopes
from appliance.database import Connection, Row
from appliance.errors import InvalidRequest, NotFound, Unauthorized
from appliance.house import digest

_BASE62 = string.ascii_letters + string.digits
_SECRET_LENGTH = 40  # 238 bits
_SHOWN = 6  # characters of the secret kept for display
_FORM = re.compile(r"(?:stars|omad_live|omad_test)_[A-Za-z0-9]{40}")


EXPIRING_MS = 14 * 86_400_000
"""How long before its end a key is said to be expiring."""


class State(StrEnum):
    """What may be expected of a key. All but the last two work."""

    ACTIVE = "active"
    EXPIRING = "expiring"
    IN_GRACE = "in grace"
    """Another has taken its place; it works until its grace is over."""
    EXPIRED = "expired"
    REVOKED = "revoked"


class Key(msgspec.Struct, frozen=True):
    """A key as it is kept: everything but the key."""

    id: str
    org_id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    surface: str
    environment: str
    created_at: int
    last_used_at: int | None = None
    expires_at: int | None = None
    revoked_at: int | None = None
    rotated_from: str | None = None


class Issued(msgspec.Struct, frozen=True):
    """A new key and its raw form, which nobody sees a second time."""

    key: Key
    raw: str

    def __repr__(self) -> str:
        """Without the raw key, so that it reaches no log by way of a traceback or a format."""
        return f"Issued(key={self.key!r})"


class Caller(msgspec.Struct, frozen=True):
    """Who is asking, as recognised from a key."""

    org_id: str
    key_id: str
    key_name: str
    key_prefix: str
    scopes: frozenset[str]
    last_used_at: int | None = None
    requests_per_minute: int | None = None
    """What the organisation has of its own, else its plan's; None = as the settings say."""
    burst_per_second: int | None = None

    @property
    def actor(self) -> str:
        """How the audit log names it."""
        return f"key:{self.key_prefix}"


def create(
    conn: Connection,
    pepper: bytes,
    org_id: str,
    name: str,
    granted: tuple[str, ...] = (),
    *,
    surface: str = "stars",
    environment: str = "live",
    expires_at: int | None = None,
    rotated_from: str | None = None,
) -> tuple[Key, str]:
    """A new key and, this once, its raw form. With nothing granted it gets its surface's default scopes."""
    if surface not in scopes.DEFAULT:
        raise InvalidRequest(f"The surface is stars or omnimod, not {surface!r}")
    if environment not in ("live", "test"):
        raise InvalidRequest(f"The environment is live or test, not {environment!r}")
    if not 1 <= len(name) <= 200:
        raise InvalidRequest("A key's name has 1 to 200 characters")
    start = "stars_" if surface == "stars" else f"omad_{environment}_"
    raw = start + "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    key = Key(
        id=clock.new_id(),
        org_id=org_id,
        name=name,
        prefix=raw[: len(start) + _SHOWN],
        scopes=scopes.parse(granted) or scopes.DEFAULT[surface],
        surface=surface,
        environment=environment,
        created_at=clock.now_ms(),
        expires_at=expires_at,
        rotated_from=rotated_from,
    )
    conn.execute(
        """
        INSERT INTO api_key
            (id, org_id, name, prefix, digest, scopes, surface, environment,
            created_at, expires_at, rotated_from)
        VALUES
            (:id, :org_id, :name, :prefix, :digest, :scopes, :surface, :environment,
            :created_at, :expires_at, :rotated_from)
        """,
        {
            "id": key.id,
            "org_id": key.org_id,
            "name": key.name,
            "prefix": key.prefix,
            "digest": digest(pepper, raw),
            "scopes": msgspec.json.encode(key.scopes).decode(),
            "surface": key.surface,
            "environment": key.environment,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "rotated_from": key.rotated_from,
        },
    )
    return key, raw


def issue(
    conn: Connection,
    pepper: bytes,
    org_id: str,
    name: str,
    granted: tuple[str, ...] = (),
    *,
    actor: str,
    reason: str | None = None,
    surface: str = "stars",
    environment: str = "live",
    expires_at: int | None = None,
) -> Issued:
    """`create`, for an organisation that is there, with a line in the audit log. Raises NotFound and InvalidRequest."""
    organisations.get(conn, org_id)
    key, raw = create(
        conn, pepper, org_id, name, granted, surface=surface, environment=environment, expires_at=expires_at
    )
    audit.record(conn, actor, "key.created", key.prefix, org_id=org_id, reason=reason, scopes=list(key.scopes))
    return Issued(key, raw)


def recognise(conn: Connection, pepper: bytes, raw: str) -> Caller:
    """Whose key this is. Raises Unauthorized when it is malformed, unknown, revoked or expired, AccountTerminated or
    Forbidden when its organisation may not ask."""
    if not _FORM.fullmatch(raw):
        raise Unauthorized("Invalid API key")
    wanted = digest(pepper, raw)
    row = conn.execute(
        """
        SELECT api_key.id, api_key.org_id, api_key.name, api_key.prefix, api_key.digest, api_key.scopes,
            api_key.last_used_at, api_key.expires_at, api_key.revoked_at, organisation.status AS org_status,
            ifnull(organisation.requests_per_minute, plan.requests_per_minute) AS requests_per_minute,
            ifnull(organisation.burst_per_second, plan.burst_per_second) AS burst_per_second
        FROM api_key
        JOIN organisation ON organisation.id = api_key.org_id
        LEFT JOIN plan ON plan.slug = organisation.plan
        WHERE api_key.digest = :digest
        """,
        {"digest": wanted},
    ).fetchone()
    if row is None or not hmac.compare_digest(row["digest"], wanted):
        raise Unauthorized("Invalid API key")
    now = clock.now_ms()
    if row["revoked_at"] is not None and row["revoked_at"] <= now:
        raise Unauthorized("API key has been revoked")
    if row["expires_at"] is not None and row["expires_at"] <= now:
        raise Unauthorized("API key has expired")
    organisations.check_standing(row["org_status"])
    return Caller(
        org_id=row["org_id"],
        key_id=row["id"],
        key_name=row["name"],
        key_prefix=row["prefix"],
        scopes=frozenset(_scopes(row["scopes"])),
        last_used_at=row["last_used_at"],
        requests_per_minute=row["requests_per_minute"],
        burst_per_second=row["burst_per_second"],
    )


def touch(conn: Connection, key_id: str, now: int) -> None:
    """Note that the key was used. Callers do so at most once a minute, or every request would be a write."""
    conn.execute("UPDATE api_key SET last_used_at = :now WHERE id = :id", {"id": key_id, "now": now})


def every(conn: Connection, org_id: str | None = None) -> list[Key]:
    """All keys, or an organisation's, newest first, the revoked ones too."""
    rows = conn.execute(
        """
        SELECT * FROM api_key
        WHERE :org_id IS NULL OR org_id = :org_id
        ORDER BY created_at DESC, id
        """,
        {"org_id": org_id},
    )
    return [_key(row) for row in rows]


def replaced(conn: Connection) -> frozenset[str]:
    """Ids of the keys that another has taken the place of."""
    return frozenset(row[0] for row in conn.execute("SELECT rotated_from FROM api_key WHERE rotated_from IS NOT NULL"))


def state(key: Key, now: int, *, is_replaced: bool = False) -> State:
    if key.revoked_at is not None:
        return State.REVOKED
    if key.expires_at is None:
        return State.ACTIVE
    if key.expires_at <= now:
        return State.EXPIRED
    if is_replaced:
        return State.IN_GRACE
    return State.EXPIRING if key.expires_at <= now + EXPIRING_MS else State.ACTIVE


def find(conn: Connection, reference: str) -> Key:
    """The one key with this id, prefix or name; a name means the key that still works, where another had it before.
    Raises NotFound, or InvalidRequest when several answer to it."""
    rows = conn.execute(
        """
        SELECT * FROM api_key
        WHERE id = :reference OR prefix = :reference OR name = :reference
        """,
        {"reference": reference},
    ).fetchall()
    if not rows:
        raise NotFound(f"There is no key with the id, prefix or name {reference!r}; see: customhouse keys list")
    found = [_key(row) for row in rows]
    now = clock.now_ms()
    working = [k for k in found if k.revoked_at is None and (k.expires_at is None or k.expires_at > now)]
    if len(found) > 1 and len(working) != 1:
        raise InvalidRequest(
            f"{len(found)} keys answer to {reference!r}; name the one you mean by its prefix or id, "
            "see: customhouse keys list"
        )
    return (working if len(found) > 1 else found)[0]


def get(conn: Connection, key_id: str) -> Key:
    """Raises NotFound."""
    row = conn.execute("SELECT * FROM api_key WHERE id = :id", {"id": key_id}).fetchone()
    if row is None:
        raise NotFound("There is no such key")
    return _key(row)


def revoke(conn: Connection, key_id: str, *, actor: str, reason: str | None = None) -> None:
    """From now on the key is refused. Revoking it again changes nothing. Raises NotFound."""
    row = conn.execute("SELECT org_id, prefix, revoked_at FROM api_key WHERE id = :id", {"id": key_id}).fetchone()
    if row is None:
        raise NotFound("There is no such key")
    if row["revoked_at"] is None:
        conn.execute("UPDATE api_key SET revoked_at = :now WHERE id = :id", {"id": key_id, "now": clock.now_ms()})
        audit.record(conn, actor, "key.revoked", row["prefix"], org_id=row["org_id"], reason=reason)


def rotate(
    conn: Connection, pepper: bytes, key_id: str, *, actor: str, grace_s: int = 0, reason: str | None = None
) -> tuple[Key, str]:
    """A new key with the old one's name, scopes and expiry. The old one dies now, or once the grace is over."""
    row = conn.execute("SELECT * FROM api_key WHERE id = :id", {"id": key_id}).fetchone()
    if row is None:
        raise NotFound("There is no such key")
    old = _key(row)
    now = clock.now_ms()
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise InvalidRequest(f"{old.prefix}… is revoked or expired already; create a new key instead")
    key, raw = create(
        conn,
        pepper,
        old.org_id,
        old.name,
        granted=old.scopes,
        surface=old.surface,
        environment=old.environment,
        expires_at=old.expires_at,
        rotated_from=old.id,
    )
    if grace_s > 0:
        until = now + grace_s * 1000
        conn.execute(
            "UPDATE api_key SET expires_at = min(ifnull(expires_at, :until), :until) WHERE id = :id",
            {"id": old.id, "until": until},
        )
    else:
        conn.execute("UPDATE api_key SET revoked_at = :now WHERE id = :id", {"id": old.id, "now": now})
    audit.record(
        conn, actor, "key.rotated", old.prefix, org_id=old.org_id, reason=reason, to=key.prefix, grace_s=grace_s
    )
    return key, raw


def _scopes(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


def _key(row: Row) -> Key:
    return Key(
        id=row["id"],
        org_id=row["org_id"],
        name=row["name"],
        prefix=row["prefix"],
        scopes=_scopes(row["scopes"]),
        surface=row["surface"],
        environment=row["environment"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        rotated_from=row["rotated_from"],
    )
