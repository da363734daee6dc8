"""`customhouse stripe`: is the operator's account reached, what happened there, what has to be looked at."""

import io
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click
import msgspec
import segno

from appliance import audit, clock, settings
from appliance.accounts import organisations, plans
from appliance.billing import alerts, attempts, autotopup, checkout, money, standing
from appliance.billing.autotopup import DisabledReason
from appliance.billing.stripe import Live
from appliance.billing.sync import Sync
from appliance.errors import InvalidRequest
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


@stripe.command("topup-link")
@_ORG
@click.option("--amount", required=True, metavar="USD", help="What is to be credited, 5 to 5000 dollars.")
@click.option("--save-card", is_flag=True, help="Offer to save the card, for automatic top-ups.")
@click.option("--qr", is_flag=True, help="Also draw the address as a QR code.")
@_JSON
def topup_link(org: str, amount: str, save_card: bool, qr: bool, as_json: bool) -> None:
    """Print the address of a page where the organisation pays for credit. It is credited once it has paid."""
    given: dict[str, object] = {"amount_usd": amount, "save_payment_method": save_card}
    wish = checkout.parse(given)
    with _opened() as (house, live):
        owner = organisations.named(house.db.reader(), org)
        page = checkout.offer(house.db, live.current(), house.settings.billing, owner.id, wish, actor=audit.operator())
    if as_json:
        _print(
            {
                "url": page.url,
                "session_id": page.session_id,
                "topup_id": page.topup_id,
                "expires_at": clock.rfc3339(page.expires_at),
            }
        )
        return
    if qr:
        drawn = io.StringIO()
        segno.make(page.url, error="l", micro=False).terminal(drawn, compact=True)
        click.echo(drawn.getvalue(), color=True)
    click.echo(page.url)


@stripe.command("auto-topup")
@click.option("--org", metavar="NAME", help="Only this organisation's.")
@_JSON
def auto_topup(org: str | None, as_json: bool) -> None:
    """Who is topped up automatically: below what, by how much, from which card, and why it was switched off."""
    with _opened() as (house, _):
        reader = house.db.reader()
        owners = [organisations.named(reader, org)] if org else organisations.every(reader)
        found = [(one.name, autotopup.get(reader, one.id), attempts.last(reader, one.id)) for one in owners]
    shown = [
        {
            "organisation": name,
            "enabled": held.enabled,
            "threshold_usd": None if held.threshold_micros is None else money.usd(held.threshold_micros),
            "amount_usd": None if held.amount_micros is None else money.usd(held.amount_micros),
            "payment_method_id": held.payment_method_id,
            "disabled_reason": held.disabled_reason,
            "last_attempt": None
            if last is None
            else {"state": last.state, "code": last.code, "at": _time(last.asked_at)},
        }
        for name, held, last in found
    ]
    if as_json:
        _print(shown)
        return
    for name, held, last in found:
        state = "on" if held.enabled else f"off{f' ({held.disabled_reason})' if held.disabled_reason else ''}"
        rule = (
            f"below {money.written(held.threshold_micros)}: {money.written(held.amount_micros)}"
            if held.threshold_micros is not None and held.amount_micros is not None
            else ""
        )
        tried = "" if last is None else f"last try {last.state}{f' ({last.code})' if last.code else ''}"
        click.echo(f"{name:<24} {state:<12} {rule:<28} {tried}".rstrip())


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

    with _opened() as (house, _):
        house.db.write(
            lambda conn: alerts.settle(conn, alert_id, clock.now_ms(), actor=audit.operator(), reason=reason)
        )
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
    found = standing.of(house.db.reader(), live, house.settings.billing)
    return {
        "mode": found.mode,
        "problem": found.problem,
        "restricted_key": found.restricted_key,
        "address": found.address,
        "cursor": found.cursor,
        "last_ok_at": _time(found.last_ok_at),
        "reconciled_at": _time(found.reconciled_at),
        "last_error": found.last_error,
        "last_error_at": _time(found.last_error_at),
        "pending": found.pending,
        "subscriptions": found.subscriptions,
        "alerts": [
            {
                "id": alert.id,
                "kind": alert.kind,
                "organisation": alert.organisation,
                "message": alert.message,
                "created_at": clock.rfc3339(alert.created_at),
            }
            for alert in found.alerts
        ],
    }


def _time(ms: int | None) -> str | None:
    return None if ms is None else clock.rfc3339(ms)


def _print(value: Any) -> None:
    click.echo(msgspec.json.encode(value))
