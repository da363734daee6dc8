"""Policies made and moved on. A version is only ever added: going back is a copy of an earlier one, as the newest."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance import audit, clock
from appliance.database import Connection
from appliance.errors import Conflict, InvalidRequest
from appliance.policies import body as bodies
from appliance.policies import rows
from appliance.policies.rows import Policy
from appliance.policies.version import Body

MOST = 100
"""Policies of one organisation."""
MOST_VERSIONS = 10_000
"""Of one policy."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class By(msgspec.Struct, frozen=True):
    """Who changes something, and why."""

    actor: str
    reason: str | None


def create(
    conn: Connection,
    org_id: str,
    slug: str,
    name: str,
    given: Mapping[str, Any],
    known: Sequence[str],
    folder: Path,
    by: By,
    *,
    template: str = rows.DEFAULT,
    is_default: bool = False,
) -> Policy:
    """A policy whose version 1 is the template with what is given in its place. Raises InvalidRequest, and Conflict
    when the slug is taken or there are too many."""
    rows.begin(conn, org_id, folder)
    if not _SLUG.fullmatch(slug):
        raise _refused("slug", "has 1 to 64 lower-case letters, digits and hyphens, and begins with no hyphen")
    there = rows.every(conn, org_id)
    if any(slug in (one.slug, one.id) for one in there):
        raise Conflict(f"There is a policy {slug!r} already")
    if len(there) >= MOST:
        raise Conflict(f"An organisation has at most {MOST} policies")
    _, over = rows.template(folder, template)
    body = bodies.draft(given, over, known)
    now = clock.now_ms()
    made = Policy(clock.new_id(), org_id, slug, _name(name), False, 1, now, now)
    conn.execute(
        """
        INSERT INTO policy (id, org_id, slug, name, is_default, active, created_at, updated_at)
        VALUES (:id, :org_id, :slug, :name, :is_default, :active, :created_at, :updated_at)
        """,
        msgspec.structs.asdict(made),
    )
    _insert(conn, made, 1, body, by)
    audit.record(
        conn, by.actor, "policy.created", slug, org_id=org_id, reason=by.reason, policy_id=made.id, template=template
    )
    return change(conn, made, by, is_default=True) if is_default else made


def change(
    conn: Connection, policy: Policy, by: By, *, name: str | None = None, is_default: bool | None = None
) -> Policy:
    """Its name, and that it is the default: there is always one, so that is only moved. Raises InvalidRequest."""
    after = policy
    if name is not None:
        after = msgspec.structs.replace(after, name=_name(name))
    if is_default is not None and is_default != policy.is_default:
        if not is_default:
            raise _refused("is_default", "is moved by making another policy the default")
        after = msgspec.structs.replace(after, is_default=True)
        conn.execute("UPDATE policy SET is_default = 0 WHERE org_id = :org AND is_default", {"org": policy.org_id})
    if after == policy:
        return policy
    after = msgspec.structs.replace(after, updated_at=clock.now_ms())
    conn.execute(
        "UPDATE policy SET name = :name, is_default = :is_default, updated_at = :updated_at WHERE id = :id",
        msgspec.structs.asdict(after),
    )
    moved = {
        field: [getattr(policy, field), getattr(after, field)]
        for field in ("name", "is_default")
        if getattr(policy, field) != getattr(after, field)
    }
    audit.record(conn, by.actor, "policy.changed", policy.slug, org_id=policy.org_id, reason=by.reason, moved=moved)
    return after


def add(
    conn: Connection,
    policy: Policy,
    given: Mapping[str, Any],
    known: Sequence[str],
    by: By,
    *,
    is_whole: bool = False,
) -> Policy:
    """The next version, in force at once: the one in force with what is given in its place; with `is_whole` what is not
    given is off, or as a new policy has it. Raises InvalidRequest."""
    before = rows.made(conn, policy).body
    body = bodies.draft(given, Body() if is_whole else before, known)
    return _advance(conn, policy, body, by, "policy.version_made", before)


def observe(conn: Connection, policy: Policy, is_on: bool, known: Sequence[str], by: By) -> Policy:
    """The next version observes only, or does not any more; in force at once. Raises Conflict when it is so already."""
    if rows.made(conn, policy).body.observe_only == is_on:
        raise Conflict(f"{policy.slug!r} {'observes only' if is_on else 'decides'} already")
    return add(conn, policy, {"observe_only": is_on}, known, by)


def activate(conn: Connection, policy: Policy, number: int, by: By) -> Policy:
    """A copy of that version as the next one, in force at once. Raises NotFound, and Conflict when it is in force."""
    if number == policy.active:
        raise Conflict(f"Version {number} of {policy.slug!r} is in force already")
    copied = rows.made(conn, policy, number)
    before = rows.made(conn, policy).body
    return _advance(conn, policy, copied.body, by, "policy.activated", before, copied_from=number)


def _advance(
    conn: Connection, policy: Policy, body: Body, by: By, action: str, before: Body, copied_from: int | None = None
) -> Policy:
    number = policy.active + 1  # only ever added, and the last one added is in force
    if number > MOST_VERSIONS:
        raise Conflict(f"A policy has at most {MOST_VERSIONS:,} versions; create another policy")
    _insert(conn, policy, number, body, by, copied_from)
    after = msgspec.structs.replace(policy, active=number, updated_at=clock.now_ms())
    conn.execute(
        "UPDATE policy SET active = :active, updated_at = :updated_at WHERE id = :id", msgspec.structs.asdict(after)
    )
    audit.record(
        conn,
        by.actor,
        action,
        policy.slug,
        org_id=policy.org_id,
        reason=by.reason,
        version=number,
        copied_from=copied_from,
        moved=bodies.diff(before, body),
    )
    return after


def _insert(conn: Connection, policy: Policy, number: int, body: Body, by: By, copied_from: int | None = None) -> None:
    conn.execute(
        """
        INSERT INTO policy_version (id, policy_id, org_id, number, body, made_by, reason, copied_from, created_at)
        VALUES (:id, :policy, :org, :number, :body, :made_by, :reason, :copied_from, :now)
        """,
        {
            "id": clock.new_id(),
            "policy": policy.id,
            "org": policy.org_id,
            "number": number,
            "body": msgspec.json.encode(body).decode(),
            "made_by": by.actor,
            "reason": by.reason,
            "copied_from": copied_from,
            "now": clock.now_ms(),
        },
    )


def _name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 100:
        raise _refused("name", "has 1 to 100 characters")
    return name


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"A policy's {field} {issue}", details=[{"field": field, "issue": issue}])
