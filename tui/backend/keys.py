"""API keys: who holds which, how each stands, and what is done with them."""

import msgspec

from appliance import audit
from appliance.accounts import keys, organisations, scopes
from appliance.accounts.keys import Issued, Key, State
from appliance.database import Connection
from appliance.jobs import rows as jobs
from appliance.jobs.rows import Uses
from tui.backend.desk import Desk

__all__ = ["SCOPES", "SURFACES", "USUAL", "Detail", "Issued", "New", "Owned", "State", "Uses"]

SCOPES = scopes.ALL
SURFACES = tuple(scopes.DEFAULT)
USUAL = scopes.DEFAULT
"""Surface → the scopes that its keys get when none is named."""

_DAY_MS = 86_400_000
_LINES = 50  # of the audit log, the newest


class Owned(msgspec.Struct, frozen=True):
    """A key, whose it is and how it stands."""

    key: Key
    org: str
    org_standing: str
    state: State
    replaced_by: str | None
    """The prefix of the key that took its place."""


class Detail(msgspec.Struct, frozen=True):
    owned: Owned
    replaces: str | None
    """The prefix of the key whose place it took."""
    uses: Uses
    lines: list[audit.Line]


class New(msgspec.Struct, frozen=True):
    """What a key is to be."""

    org: str
    name: str
    surface: str
    environment: str
    scopes: tuple[str, ...]
    """None named: the surface's usual ones."""
    days: int | None
    """Refused after so many; None = never."""
    reason: str


def every(desk: Desk, org_id: str | None = None) -> list[Owned]:
    """All keys, or an organisation's, newest first."""
    orgs = {one.id: one for one in desk.read(organisations.every)}
    found = desk.read(lambda conn: keys.every(conn, org_id))
    followed = {one.rotated_from: one.prefix for one in found if one.rotated_from is not None}
    now = desk.now()
    return [
        Owned(
            key,
            orgs[key.org_id].name,
            orgs[key.org_id].status.value,
            keys.state(key, now, is_replaced=key.id in followed),
            followed.get(key.id),
        )
        for key in found
    ]


def detail(desk: Desk, key_id: str) -> Detail:
    """Raises NotFound when it has gone meanwhile."""
    row = desk.read(lambda conn: keys.get(conn, key_id))
    found = every(desk, row.org_id)
    owned = next(one for one in found if one.key.id == key_id)
    before = next((one.key.prefix for one in found if one.key.id == row.rotated_from), None)
    uses = desk.read(lambda conn: jobs.of_key(conn, row.org_id, key_id))
    lines = desk.read(lambda conn: audit.page(conn, audit.Filter(subject=row.prefix), limit=_LINES))
    return Detail(owned, before, uses, lines)


def owners(desk: Desk) -> tuple[str, ...]:
    """Names of the organisations there are."""
    return tuple(one.name for one in desk.read(organisations.every))


def create(desk: Desk, new: New) -> Issued:
    """A new key, of a new organisation when there is none of that name."""
    desk.check()
    reason = new.reason or None
    expires_at = None if new.days is None else desk.now() + new.days * _DAY_MS
    pepper = desk.house.pepper

    def change(conn: Connection) -> Issued:
        owner, _ = organisations.named_or_new(conn, new.org, actor=desk.actor, reason=reason)
        return keys.issue(
            conn,
            pepper,
            owner.id,
            new.name,
            new.scopes,
            actor=desk.actor,
            reason=reason,
            surface=new.surface,
            environment=new.environment,
            expires_at=expires_at,
        )

    return desk.change(change)


def rotate(desk: Desk, key_id: str, grace_s: int, reason: str) -> Issued:
    """Another in its place; it works on for the grace."""
    desk.check()
    pepper = desk.house.pepper
    key, raw = desk.change(
        lambda conn: keys.rotate(conn, pepper, key_id, actor=desk.actor, grace_s=grace_s, reason=reason)
    )
    return Issued(key, raw)


def revoke(desk: Desk, key_id: str, reason: str) -> Key:
    """Refused from now on, in every process at once."""
    desk.change(lambda conn: keys.revoke(conn, key_id, actor=desk.actor, reason=reason))
    return desk.read(lambda conn: keys.get(conn, key_id))
