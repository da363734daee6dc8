"""`customhouse quota`: how many synchronous requests organisations have this month, and how many are used."""

import json

import click
import msgspec

from appliance import clock, settings
from appliance.accounts import organisations
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.moderations import quota as rows
from appliance.moderations import usage
from appliance.moderations.quota import Quota

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def quota() -> None:
    """The month's quota of synchronous requests: list, show. How many there are a plan says: plans change."""


@quota.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """Every organisation's, this month."""
    house = House(settings.load())
    conn = house.db.reader()
    found = [(one.name, rows.of(conn, one.id)) for one in organisations.every(conn)]
    house.close()
    if as_json:
        click.echo(json.dumps([{"org": name, **_as_dict(one)} for name, one in found], indent=2))
        return
    for name, one in found:
        click.echo(_line(name, one))


@quota.command()
@click.argument("org")
@click.option("--period", metavar="YYYY-MM", help="The use of this month; else of this one.")
@_JSON
def show(org: str, period: str | None, as_json: bool) -> None:
    """ORG's quota this month, and its use by day."""
    month = None if period is None else usage.month_named(period)
    if period is not None and month is None:
        raise InvalidRequest("--period must be a month, YYYY-MM")
    house = House(settings.load())
    conn = house.db.reader()
    one = organisations.referred(conn, org)
    found, used = rows.of(conn, one.id), usage.of(conn, one.id, month)
    house.close()
    if as_json:
        click.echo(json.dumps({"org": one.name, **_as_dict(found), "usage": msgspec.to_builtins(used)}, indent=2))
        return
    click.echo(_line(one.name, found))
    said = ", ".join(f"{word} {count:,}" for word, count in used.by_decision.items())
    click.echo(f"{used.period}: {used.standard_requests:,} requests ({said}), {used.text_llm_credits:,} judged")
    for day in used.daily:
        if day.requests:
            click.echo(
                f"  {day.date}  {day.requests:>9,}  allow {day.allow:,}, flag {day.flag:,}, block {day.block:,}, "
                f"cached {day.cache_hits:,}, judged {day.text_llm_credits:,}"
            )


def _as_dict(found: Quota) -> dict[str, object]:
    return {
        **msgspec.structs.asdict(found),
        "remaining": found.remaining,
        "resets_at": clock.rfc3339(found.resets_at),
    }


def _line(name: str, found: Quota) -> str:
    most = "no end" if found.monthly_request_quota is None else f"{found.monthly_request_quota:,}"
    left = "" if found.remaining is None else f", {found.remaining:,} left until {clock.rfc3339(found.resets_at)[:10]}"
    return f"{name:<24} {found.plan_tier:<12} {found.used:,} of {most}{left}"
