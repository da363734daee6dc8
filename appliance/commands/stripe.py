"""`customhouse stripe`: is the operator's account reached, what happened there, what has to be looked at."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import organisations, plans
from appliance.billing import alerts, autotopup, checkout, subscriptions, topups
from appliance.billing import sync as syncing
from appliance.billing.autotopup import DisabledReason
from appliance.billing.stripe import Live
from appliance.billing.sync import Position, Sync
from appliance.database import Connection
from appliance.errors import InvalidRequest, NotFound, StripeOff, StripeRefused
from appliance.house import House

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_ORG = click.option("--org", required=True, metavar="NAME", help="The organisation.")
_REASON = click.option("--reason", required=True, help="Why, for the audit log.")


@click.group()
def stripe() -> None:
    """Payments: the state of the sync, and what only an operator does."""


@stripe.command()
@_JSON
def status(as_json: bool) -> None:
    """Which key is used, how far events were read, what waits, what a person has to look at. Asks Stripe nothing."""
    with _opened() as (house, live):
        shown = _status(house, live)
    if as_json:
        _print(shown)
        return
    for name, value in shown.items():
        if name != "alerts":
            click.echo(f"{name:<16} {'-' if value is None else value}")
    for alert in shown["alerts"]:
        click.echo(f"\nALERT {alert['id']}  {alert['created_at']}  {alert['organisation'] or ''}\n  {alert['message']}")


@stripe.command()
@_JSON
def sync(as_json: bool) -> None:
    """Read now what happened at Stripe since the last time. The worker does so by itself."""
    _run(Sync.round, as_json)


@stripe.command()
@_JSON
def reconcile(as_json: bool) -> None:
    """Compare every customer with Stripe's own objects: payments, refunds, disputes, cards, subscriptions. Safe to
    repeat. After a backup was restored, this credits what the backup does not know."""
    _run(Sync.reconcile, as_json)


@stripe.command("subscribe-link")
@_ORG
@click.option("--plan", required=True, metavar="SLUG", help="A plan with a stripe_price.")
@_JSON
def subscribe_link(org: str, plan: str, as_json: bool) -> None:
    """Print the address of a page where the organisation subscribes to a plan. It is on the plan once it has paid."""
    with _opened() as (house, live):
        reader = house.db.reader()
        owner, sold = organisations.named(reader, org), plans.get(reader, plan)
        page = checkout.subscribe(house.db, live.current(), house.settings.billing, owner.id, sold, clock.new_id())
        house.db.write(
            lambda conn: audit.record(
                conn, audit.operator(), "subscription.offered", owner.id, org_id=owner.id, plan=plan
            )
        )
    if as_json:
        _print({"url": page.url, "session_id": page.session_id, "expires_at": clock.rfc3339(page.expires_at)})
    else:
        click.echo(page.url)


@stripe.command("disable-auto-topup")
@_ORG
@_REASON
@_JSON
def disable_auto_topup(org: str, reason: str, as_json: bool) -> None:
    """Charge no card of this organisation from now on. It sees `admin_disabled`, and can enable it again."""
    with _opened() as (house, _):
        owner = organisations.named(house.db.reader(), org)
        was_on = house.db.write(
            lambda conn: autotopup.disable(
                conn,
                owner.id,
                DisabledReason.ADMIN_DISABLED,
                clock.now_ms(),
                actor=audit.operator(),
                reason=reason,
            )
        )
    if as_json:
        _print({"organisation": org, "disabled": was_on})
    else:
        click.echo(f"{org}: auto top-up is off" if was_on else f"{org}: auto top-up was off already")


@stripe.command("resolve-alert")
@click.argument("alert_id", metavar="ID", type=int)
@_REASON
@_JSON
def resolve_alert(alert_id: int, reason: str, as_json: bool) -> None:
    """Say that an alert was looked at."""

    def change(conn: Connection) -> None:
        found = next((alert for alert in alerts.open_(conn) if alert.id == alert_id), None)
        if found is None:
            raise NotFound(f"There is no open alert {alert_id}; see: customhouse stripe status")
        alerts.resolve(conn, found.kind, found.subject, clock.now_ms())
        audit.record(
            conn, audit.operator(), "alert.resolved", found.subject, org_id=found.org_id, reason=reason, kind=found.kind
        )

    with _opened() as (house, _):
        house.db.write(change)
    if as_json:
        _print({"resolved": alert_id})
    else:
        click.echo(f"alert {alert_id} is resolved")


def _run(act: Callable[[Sync], bool], as_json: bool) -> None:
    with _opened() as (house, live):
        if not act(Sync(house, live)):
            raise InvalidRequest("Another process is reading from Stripe just now; try again in a moment")
        shown = _status(house, live)
    if as_json:
        _print(shown)
    else:
        click.echo(f"in order; {shown['pending']} payments awaited, {len(shown['alerts'])} alerts open")


@contextmanager
def _opened() -> Generator[tuple[House, Live]]:
    house = House(settings.load())
    live = Live(house.settings.billing)
    try:
        yield house, live
    finally:
        live.close()
        house.close()


def _status(house: House, live: Live) -> dict[str, Any]:
    reader = house.db.reader()
    problem = mode = restricted = None
    try:
        api = live.current()
        mode, restricted = "live" if api.is_live else "test", api.is_restricted
    except StripeOff as error:
        problem = error.message
    except StripeRefused as error:
        problem = error.message
    at = None if mode is None else syncing.position(reader, is_live=mode == "live")
    names = {one.id: one.name for one in organisations.every(reader)}
    return {
        "mode": mode,
        "problem": problem,
        "restricted_key": restricted,
        "address": house.settings.billing.stripe_address or "https://api.stripe.com",
        **_position(at),
        "pending": 0 if mode is None else len(topups.pending(reader, is_live=mode == "live")),
        "subscriptions": sum(one.status == "active" for one in subscriptions.every(reader)),
        "alerts": [
            {
                "id": alert.id,
                "kind": alert.kind,
                "organisation": names.get(alert.org_id or ""),
                "message": alert.message,
                "created_at": clock.rfc3339(alert.created_at),
            }
            for alert in alerts.open_(reader)
        ],
    }


def _position(at: Position | None) -> dict[str, Any]:
    return {
        "cursor": at and at.cursor,
        "last_ok_at": _time(at and at.last_ok_at),
        "reconciled_at": _time(at and at.reconciled_at),
        "last_error": at and at.last_error,
        "last_error_at": _time(at and at.last_error_at),
    }


def _time(ms: int | None) -> str | None:
    return None if ms is None else clock.rfc3339(ms)


def _print(value: Any) -> None:
    click.echo(msgspec.json.encode(value))
