"""Policies: versions, what a version would have decided, and the next one."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from appliance.accounts import organisations
from appliance.database import Connection
from appliance.moderations import preview as replay
from appliance.moderations import sampling
from appliance.moderations.preview import Report, Wanted
from appliance.moderations.sampling import Rate
from appliance.policies import body as bodies
from appliance.policies import change, rows
from appliance.policies.change import By
from appliance.policies.rows import Made, Policy
from appliance.policies.version import Body
from appliance.text.analysis import ANALYZERS
from tui.backend.desk import Desk

__all__ = ["ANALYZERS", "Body", "Made", "Member", "Owned", "Policy", "Rate", "Report"]


class Owned(msgspec.Struct, frozen=True):
    """A policy, whose it is, the version in force, and what the sampled audit says of that version."""

    org: str
    policy: Policy | None
    """None: the organisation has none yet, and gets the shipped default with its first decision."""
    made: Made | None
    audited: Rate | None
    org_id: str


class Member(msgspec.Struct, frozen=True):
    """One member of two versions' bodies."""

    name: str
    before: Any
    after: Any

    @property
    def differs(self) -> bool:
        return self.before != self.after


def every(desk: Desk) -> list[Owned]:
    """By organisation; its default first."""

    def read(conn: Connection) -> list[Owned]:
        found: list[Owned] = []
        for org in organisations.every(conn):
            rates = {one.version_id: one for one in sampling.rates(conn, org.id)}
            policies = rows.every(conn, org.id)
            for policy in policies:
                made = rows.made(conn, policy)
                found.append(Owned(org.name, policy, made, rates.get(made.id), org.id))
            if not policies:
                found.append(Owned(org.name, None, None, None, org.id))
        return found

    return desk.read(read)


def versions(desk: Desk, policy: Policy) -> list[tuple[Made, Rate | None]]:
    """Newest first, each with what the sampled audit says of it."""

    def read(conn: Connection) -> list[tuple[Made, Rate | None]]:
        rates = {one.version_id: one for one in sampling.rates(conn, policy.org_id)}
        return [(made, rates.get(made.id)) for made in rows.versions(conn, policy)]

    return desk.read(read)


def compare(before: Body, after: Body) -> list[Member]:
    """Every member of either, in the order of the file."""
    old, new = bodies.flat(before), bodies.flat(after)
    return [Member(name, old.get(name), new.get(name)) for name in dict.fromkeys([*new, *old])]


def toml(body: Body) -> str:
    return bodies.toml(body)


def draft(text: str) -> Body:
    """What an edited file would be. Raises Refused with all that is wrong."""
    return bodies.draft(bodies.parse(text), Body(), ANALYZERS)


def drafted(given: Mapping[str, Any], over: Body) -> Body:
    return bodies.draft(given, over, ANALYZERS)


def preview(desk: Desk, policy: Policy, body: Body, events: int, told: Callable[[int], object]) -> Report:
    """What the version would have decided of the policy's last events. Nothing is changed."""
    return replay.run(
        desk.house.db.reader,
        Wanted(policy.org_id, policy.id, events),
        body,
        has_judge=bool(desk.settings.inference.text_judge),
        most_flips=200,
        told=told,
    )


def put(desk: Desk, policy: Policy, body: Body, reason: str) -> Policy:
    """This body as the next version, in force at once."""
    given = msgspec.to_builtins(body)
    by = By(desk.actor, reason)
    return desk.change(
        lambda conn: change.add(conn, rows.find(conn, policy.org_id, policy.id), given, ANALYZERS, by, is_whole=True)
    )


def activate(desk: Desk, policy: Policy, number: int, reason: str) -> Policy:
    """A copy of that version as the next one."""
    by = By(desk.actor, reason)
    return desk.change(lambda conn: change.activate(conn, rows.find(conn, policy.org_id, policy.id), number, by))


def observe(desk: Desk, policy: Policy, is_on: bool, reason: str) -> Policy:
    by = By(desk.actor, reason)
    return desk.change(
        lambda conn: change.observe(conn, rows.find(conn, policy.org_id, policy.id), is_on, ANALYZERS, by)
    )


def make_default(desk: Desk, policy: Policy, reason: str) -> Policy:
    by = By(desk.actor, reason)
    return desk.change(lambda conn: change.change(conn, rows.find(conn, policy.org_id, policy.id), by, is_default=True))


def create(desk: Desk, org: str, slug: str, name: str, template: str, reason: str) -> Policy:
    folder, by = desk.settings.policies_dir, By(desk.actor, reason)

    def act(conn: Connection) -> Policy:
        org_id = organisations.named(conn, org).id
        return change.create(conn, org_id, slug, name or slug, {}, ANALYZERS, folder, by, template=template)

    return desk.change(act)


def begin(desk: Desk, org_id: str) -> None:
    """The shipped default as the organisation's own, as its first decision would."""
    desk.change(lambda conn: rows.begin(conn, org_id, desk.settings.policies_dir))


def templates(desk: Desk) -> list[str]:
    return rows.templates(desk.settings.policies_dir)


def template(desk: Desk, slug: str) -> Body:
    return rows.template(desk.settings.policies_dir, slug)[1]


def names(desk: Desk) -> list[str]:
    """Of the organisations."""
    return [one.name for one in desk.read(organisations.every)]
