"""Organisations: what holds for each, what it has used, and what is done with it."""

from collections.abc import Callable

import msgspec

from appliance import audit
from appliance.accounts import organisations as rows
from appliance.accounts import plans, steps, toggles
from appliance.accounts.organisations import Changes, Organisation, Standing
from appliance.accounts.plans import ChargeMethod
from appliance.billing import ledger, overview
from appliance.billing.overview import Overview
from appliance.errors import InvalidRequest
from appliance.moderations import quota
from appliance.moderations.quota import Quota
from appliance.webhooks import endpoints
from appliance.webhooks.endpoints import Endpoint
from appliance.work import erase as work
from appliance.work.erase import Report, Scope
from tui.backend import keys
from tui.backend.desk import Desk
from tui.backend.keys import Owned

__all__ = ["AS_SAID", "CHARGES", "Detail", "Report", "Standing", "Tenant"]

AS_SAID = "as the plan says"
CHARGES = (AS_SAID, *(method.value for method in ChargeMethod))

_LINES = 50  # of the audit log, the newest


class Tenant(msgspec.Struct, frozen=True):
    """An organisation in the list."""

    org: Organisation
    said: Overview
    quota: Quota
    balance_micros: int


class Detail(msgspec.Struct, frozen=True):
    tenant: Tenant
    keys: list[Owned]
    checks_on: list[str]
    steps: dict[str, float]
    endpoint: Endpoint | None
    lines: list[audit.Line]


def every(desk: Desk) -> list[Tenant]:
    """By name."""
    return [_tenant(desk, one) for one in desk.read(rows.every)]


def detail(desk: Desk, org_id: str) -> Detail:
    tenant = _tenant(desk, desk.read(lambda conn: rows.get(conn, org_id)))
    return Detail(
        tenant,
        keys.every(desk, org_id),
        desk.read(lambda conn: toggles.on(conn, org_id)),
        desk.read(lambda conn: steps.of(conn, org_id)),
        desk.read(lambda conn: endpoints.get(conn, org_id)),
        desk.read(lambda conn: audit.page(conn, audit.Filter(subject=org_id), limit=_LINES)),
    )


def plan_names(desk: Desk) -> tuple[str, ...]:
    return tuple(one.slug for one in desk.read(plans.every))


def create(desk: Desk, given: dict[str, str]) -> Organisation:
    changes = _changes({name: value for name, value in given.items() if name != "name"})
    return desk.change(
        lambda conn: rows.create_with(conn, given["name"], changes, actor=desk.actor, reason=given["reason"] or None)
    )


def change(desk: Desk, org_id: str, given: dict[str, str]) -> Organisation:
    """What is empty is as the plan or the settings say."""
    changes = _changes(given)
    return desk.change(lambda conn: rows.change(conn, org_id, changes, actor=desk.actor, reason=given["reason"]))


def disable(desk: Desk, org_id: str, reason: str) -> Organisation:
    return desk.change(lambda conn: rows.disable(conn, org_id, actor=desk.actor, reason=reason))


def enable(desk: Desk, org_id: str, reason: str) -> Organisation:
    return desk.change(lambda conn: rows.enable(conn, org_id, actor=desk.actor, reason=reason))


def ban(desk: Desk, org_id: str, reason: str) -> Organisation:
    return desk.change(lambda conn: rows.ban(conn, org_id, actor=desk.actor, reason=reason))


def unban(desk: Desk, org_id: str, reason: str) -> Organisation:
    return desk.change(lambda conn: rows.unban(conn, org_id, actor=desk.actor, reason=reason))


def would_erase(desk: Desk, org_id: str) -> dict[str, int]:
    """How many rows would go, by table."""
    org = desk.read(lambda conn: rows.get(conn, org_id))
    return work.count(desk.house, Scope(organisation=org))


def erase(desk: Desk, org_id: str, reason: str, progress: Callable[[int], None]) -> Report:
    """The organisation whole, and the look through the files for it. `progress` hears how many jobs are gone."""
    desk.check()
    org = desk.read(lambda conn: rows.get(conn, org_id))
    return work.erase(desk.house, Scope(organisation=org), actor=desk.actor, reason=reason, progress=progress)


def _tenant(desk: Desk, org: Organisation) -> Tenant:
    return desk.read(
        lambda conn: Tenant(
            org,
            overview.of(conn, desk.settings, org),
            quota.of(conn, org.id, desk.now()),
            ledger.balance(conn, org.id),
        )
    )


def _changes(given: dict[str, str]) -> Changes:
    """Raises InvalidRequest."""
    charge = given["charge"]
    return Changes(
        name=given.get("name", msgspec.UNSET),
        plan=given["plan"],
        requests_per_minute=_number("Requests a minute", given["per_minute"]),
        burst_per_second=_number("Requests in one second", given["per_second"]),
        charge_method=None if charge == AS_SAID else ChargeMethod(charge),
        retain_prompts_days=_number("Days", given["retain_days"]),
    )


def _number(what: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InvalidRequest(f"{what}: a whole number, or nothing for what the plan or the settings say")
    return int(text)
