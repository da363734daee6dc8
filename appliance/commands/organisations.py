"""`customhouse organisations`: the tenants: what holds for each, pausing them, banning them."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from appliance import audit, settings
from appliance.accounts import organisations as rows
from appliance.accounts.organisations import Changes, Organisation, Standing
from appliance.accounts.plans import ChargeMethod
from appliance.billing import money, overview
from appliance.billing.overview import Overview
from appliance.database import Connection
from appliance.errors import InvalidRequest
from appliance.house import House

_DEFAULT = "default"
"""Said for a value: back to what the plan or the settings say."""

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_REASON = click.option("--reason", required=True, help="Kept in the audit log.")
_SETTABLE = (
    click.option("--plan", help="A plan's slug; see: customhouse plans list."),
    click.option("--rate-limit-per-minute", metavar="N|default", help="All its keys together."),
    click.option("--burst-per-second", metavar="N|default", help="Of those, in one second; 0 = no such limit."),
    click.option(
        "--charge",
        type=click.Choice([*(method.value for method in ChargeMethod), _DEFAULT]),
        help="How its jobs are paid for; default = as its plan says.",
    ),
    click.option("--retain-prompts-days", metavar="N|default", help="How long its prompts are kept."),
)


def _with_settable(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SETTABLE):
        command = option(command)
    return command


@click.group()
def organisations() -> None:
    """Organisations: list, show, create, change, disable, enable, ban, unban. ORG is a name or an id."""


@organisations.command("list")
@click.option("--status", type=click.Choice([standing.value for standing in Standing]), help="Only these.")
@_JSON
def list_(status: str | None, as_json: bool) -> None:
    """List the organisations, by name."""
    with _house() as house:
        conn = house.db.reader()
        found = [_overview(house, one) for one in rows.every(conn) if status in (None, one.status.value)]
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for one in found:
        click.echo(_line(one))
    if not found:
        click.echo("There are no organisations yet; make one: customhouse keys create --org NAME --name NAME", err=True)


@organisations.command()
@click.argument("org")
@_JSON
def show(org: str, as_json: bool) -> None:
    """Say all that holds for ORG."""
    with _house() as house:
        found = _overview(house, rows.referred(house.db.reader(), org))
    _say(found, as_json)


@organisations.command()
@click.argument("name")
@_with_settable
@click.option("--reason", help="Kept in the audit log.")
@_JSON
def create(name: str, reason: str | None, as_json: bool, **given: Any) -> None:
    """Make an organisation. It needs a key next: customhouse keys create --org NAME --name NAME."""
    changes = _changes(**given)

    def change(conn: Connection) -> Organisation:
        return rows.create_with(conn, name, changes, actor=audit.operator(), reason=reason)

    _write(change, as_json)


@organisations.command()
@click.argument("org")
@click.option("--name", help="A new name.")
@_with_settable
@_REASON
@_JSON
def change(org: str, name: str | None, reason: str, as_json: bool, **given: Any) -> None:
    """Change what holds for ORG, for all its keys at once. What is not said stays as it is."""
    changes = _changes(**given, name=name)

    def act(conn: Connection) -> Organisation:
        return rows.change(conn, rows.referred(conn, org).id, changes, actor=audit.operator(), reason=_said(reason))

    _write(act, as_json)


def _standing(name: str, verb: Callable[..., Organisation], help_: str) -> click.Command:
    @click.command(name, help=help_)
    @click.argument("org")
    @_REASON
    @_JSON
    def command(org: str, reason: str, as_json: bool) -> None:
        def act(conn: Connection) -> Organisation:
            return verb(conn, rows.referred(conn, org).id, actor=audit.operator(), reason=_said(reason))

        _write(act, as_json)

    return command


for _name, _verb, _help in (
    ("disable", rows.disable, "Pause ORG: its keys are refused with FORBIDDEN."),
    ("enable", rows.enable, "End the pause of ORG."),
    ("ban", rows.ban, "Ban ORG: every route answers ACCOUNT_TERMINATED to its keys, at once in every process."),
    ("unban", rows.unban, "End the ban of ORG; its keys are good again."),
):
    organisations.add_command(_standing(_name, _verb, _help))


@contextmanager
def _house() -> Generator[House]:
    house = House(settings.load())
    try:
        yield house
    finally:
        house.close()


def _write(change: Callable[[Connection], Organisation], as_json: bool) -> None:
    with _house() as house:
        found = _overview(house, house.db.write(change))
    _say(found, as_json)


def _overview(house: House, one: Organisation) -> Overview:
    return overview.of(house.db.reader(), house.settings, one)


def _said(reason: str) -> str:
    if not reason.strip():
        raise InvalidRequest("--reason is empty; it is kept in the audit log")
    return reason.strip()


def _changes(
    *,
    plan: str | None,
    rate_limit_per_minute: str | None,
    burst_per_second: str | None,
    charge: str | None,
    retain_prompts_days: str | None,
    name: str | None = None,
) -> Changes:
    """Raises InvalidRequest."""
    method: ChargeMethod | msgspec.UnsetType | None = msgspec.UNSET
    if charge is not None:
        method = None if charge == _DEFAULT else ChargeMethod(charge)
    return Changes(
        name=msgspec.UNSET if name is None else name,
        plan=msgspec.UNSET if plan is None else plan,
        requests_per_minute=_number("--rate-limit-per-minute", rate_limit_per_minute),
        burst_per_second=_number("--burst-per-second", burst_per_second),
        charge_method=method,
        retain_prompts_days=_number("--retain-prompts-days", retain_prompts_days),
    )


def _number(option: str, given: str | None) -> int | msgspec.UnsetType | None:
    if given is None:
        return msgspec.UNSET
    if given == _DEFAULT:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 9):
        raise InvalidRequest(f"{option} is a whole number, or {_DEFAULT}: what the plan or the settings say")
    return int(given)


def _say(one: Overview, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(one), indent=2))
        return
    click.echo(_line(one))
    if one.status_reason:
        click.echo(f"  {one.status}: {one.status_reason}")
    click.echo(f"  id {one.id}, since {one.created_at}")


def _line(one: Overview) -> str:
    holds = one.effective
    balance = money.written(round(one.balance_usd * money.MICROS))
    burst = f", {holds.burst_per_second}/s" if holds.burst_per_second else ""
    charged = "not charged" if holds.charge_method == "none" else holds.charge_method
    return (
        f"{one.name:<24} {one.status:<10}  {one.plan:<12} {holds.rate_limit_per_minute}/min{burst}, "
        f"{charged}, prompts kept {holds.retain_prompts_days} d, {balance}"
    )
