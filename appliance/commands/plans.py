"""`customhouse plans`: what organisations may be on: limits, charging, prices. Which one is: organisations change."""

import json
from collections.abc import Callable
from typing import Any

import click
import msgspec

from appliance import audit, settings
from appliance.accounts import plans as plan_rows
from appliance.accounts.plans import Changes, ChargeMethod, Plan
from appliance.billing import money
from appliance.errors import InvalidRequest
from appliance.house import House

_NULL = "default"
"""Said for a limit: back to what the settings say."""
_NONE = "none"
_MEANS = {_NULL: "what the settings say", _NONE: "as many as are sent"}

_OPTIONS = (
    click.option("--name", help="As people read it."),
    click.option("--requests-per-minute", metavar="N|default", help="Of an organisation, all its keys together."),
    click.option("--burst-per-second", metavar="N|default", help="Of those, in one second; 0 = no such limit."),
    click.option("--charge", type=click.Choice([method.value for method in ChargeMethod]), help="How use is charged."),
    click.option("--prompt", metavar="USD", help="Price of a prompt under per_job."),
    click.option("--image", metavar="USD", help="Price of an image under per_job."),
    click.option("--video", metavar="USD", help="Price of a video under per_job."),
    click.option("--gpu-second", metavar="USD", help="Price of a GPU second under gpu_time."),
    click.option("--monthly-quota", metavar="N|none", help="Synchronous requests a month; none = no end."),
    click.option("--stripe-price", metavar="price_…|none", help="What a subscription to it is sold as at Stripe."),
    click.option("--hidden/--offered", "is_hidden", default=None, help="Whether it is offered to subscribe to."),
    click.option("--reason", required=True, help="Kept in the audit log."),
    click.option("--json", "as_json", is_flag=True, help="As JSON."),
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def plans() -> None:
    """Plans: list, create, change, remove."""


@plans.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """All plans, the hidden ones too."""
    house = House(settings.load())
    found = plan_rows.every(house.db.reader())
    house.close()
    if as_json:
        click.echo(json.dumps([as_dict(plan) for plan in found], indent=2))
        return
    for plan in found:
        click.echo(_line(plan))


@plans.command()
@click.argument("slug")
@_with_options
def create(slug: str, reason: str, as_json: bool, **given: Any) -> None:
    """Make the plan SLUG. What is not said is free, or as the settings say."""
    changes = _changes(**given)
    name = given["name"] or slug.capitalize()
    house = House(settings.load())
    made = house.db.write(
        lambda conn: plan_rows.create(conn, slug, name, changes, actor=audit.operator(), reason=reason)
    )
    house.close()
    click.echo(json.dumps(as_dict(made), indent=2) if as_json else _line(made))


@plans.command()
@click.argument("slug")
@_with_options
def change(slug: str, reason: str, as_json: bool, **given: Any) -> None:
    """Change the plan SLUG, at once for everybody on it. Jobs accepted already keep their price."""
    changes = _changes(**given)
    house = House(settings.load())
    changed = house.db.write(lambda conn: plan_rows.change(conn, slug, changes, actor=audit.operator(), reason=reason))
    house.close()
    click.echo(json.dumps(as_dict(changed), indent=2) if as_json else _line(changed))


@plans.command()
@click.argument("slug")
@click.option("--reason", required=True, help="Kept in the audit log.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def remove(slug: str, reason: str, as_json: bool) -> None:
    """Remove the plan SLUG; refused while organisations are on it."""
    house = House(settings.load())
    house.db.write(lambda conn: plan_rows.remove(conn, slug, actor=audit.operator(), reason=reason))
    house.close()
    click.echo(json.dumps({"slug": slug, "removed": True}) if as_json else f"{slug} is removed")


def as_dict(plan: Plan) -> dict[str, object]:
    """As JSON: prices in dollars."""
    fields = msgspec.to_builtins(plan)
    for name in [name for name in fields if name.endswith("_micros")]:
        fields[name.replace("_micros", "_usd")] = money.usd(fields.pop(name))
    del fields["created_at"], fields["updated_at"]
    return fields


def _changes(
    *,
    name: str | None,
    requests_per_minute: str | None,
    burst_per_second: str | None,
    charge: str | None,
    prompt: str | None,
    image: str | None,
    video: str | None,
    gpu_second: str | None,
    monthly_quota: str | None,
    stripe_price: str | None,
    is_hidden: bool | None,
) -> Changes:
    """Raises InvalidRequest."""
    return Changes(
        name=msgspec.UNSET if name is None else name,
        requests_per_minute=_limit("--requests-per-minute", requests_per_minute, _NULL),
        burst_per_second=_limit("--burst-per-second", burst_per_second, _NULL),
        charge_method=msgspec.UNSET if charge is None else ChargeMethod(charge),
        prompt_micros=_price("--prompt", prompt),
        image_micros=_price("--image", image),
        video_micros=_price("--video", video),
        gpu_second_micros=_price("--gpu-second", gpu_second),
        monthly_request_quota=_limit("--monthly-quota", monthly_quota, _NONE),
        stripe_price=msgspec.UNSET if stripe_price is None else (None if stripe_price == _NONE else stripe_price),
        is_hidden=msgspec.UNSET if is_hidden is None else is_hidden,
    )


def _limit(option: str, given: str | None, null: str) -> int | msgspec.UnsetType | None:
    if given is None:
        return msgspec.UNSET
    if given == null:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 12):
        raise InvalidRequest(f"{option} is a whole number, or {null}: {_MEANS[null]}")
    return int(given)


def _price(option: str, given: str | None) -> int | msgspec.UnsetType:
    return msgspec.UNSET if given is None else money.parse(given, option)


def _line(plan: Plan) -> str:
    quota = "" if plan.monthly_request_quota is None else f" {plan.monthly_request_quota:,}/month"
    limits = f"{plan.requests_per_minute or 'default'}/min{quota}"
    prices = (plan.prompt_micros, plan.image_micros, plan.video_micros, plan.gpu_second_micros)
    priced = " ".join(money.written(micros) for micros in prices)
    hidden = "  hidden" if plan.is_hidden else ""
    return f"{plan.slug:<16} {plan.charge_method.value:<8}  {limits:<28}  {priced}  {plan.name}{hidden}"
