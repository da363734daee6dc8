"""`customhouse webhooks`: endpoints, deliveries and signing secrets, for the operator on this machine."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import AddressRefused, MediaUnreachable
from appliance.house import House
from appliance.outbound import Outbound
from appliance.webhooks import deliveries, endpoints
from appliance.webhooks import secret as secrets
from appliance.webhooks.deliver import ping
from appliance.webhooks.deliveries import Attempt, Delivery, Health
from appliance.webhooks.endpoints import Endpoint
from appliance.webhooks.schedule import State
from appliance.webhooks.secret import Secret

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_ORG = click.option("--org", required=True, metavar="NAME", help="The organisation.")
_REASON = click.option("--reason", help="Why, for the audit log.")


@click.group()
def webhooks() -> None:
    """See where results are sent and what came of it; send again; manage secrets."""


@webhooks.command("list")
@click.option("--org", metavar="NAME", help="Only this organisation's.")
@click.option("--status", type=click.Choice([state.value for state in State]), help="Only deliveries in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest deliveries.")
@_JSON
def list_(org: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List endpoints and deliveries, the newest first."""
    with _house() as house:
        reader = house.db.reader()
        org_id = None if org is None else organisations.named(reader, org).id
        names = _names(reader)
        where = [
            {**_endpoint(one, names), **_health(deliveries.health(reader, one.org_id))}
            for one in endpoints.every(reader, org_id)
        ]
        what = [
            _delivery(one, names)
            for one in deliveries.every(reader, org_id=org_id, status=State(status) if status else None, limit=limit)
        ]
    if as_json:
        _print_json({"endpoints": where, "deliveries": what})
        return
    click.echo("ENDPOINTS")
    _print_rows(where, ("organisation", "url", "finished", "failed", "last_status", "last_at", "disabled_reason"))
    click.echo("\nDELIVERIES")
    _print_rows(what, ("id", "organisation", "status", "attempts", "created_at", "next_at", "url"))


@webhooks.command()
@click.argument("reference", metavar="ID")
@_JSON
def show(reference: str, as_json: bool) -> None:
    """Show a delivery and its attempts. ID is its own, its job's or its batch's."""
    with _house() as house:
        reader = house.db.reader()
        found = deliveries.find(reader, reference)
        shown = _delivery(found, _names(reader))
        shown["body"] = msgspec.Raw(deliveries.body(reader, found.id).encode())
        attempts = [_attempt(one) for one in deliveries.attempts(reader, found.id)]
    if as_json:
        _print_json({**shown, "attempts_made": attempts})
        return
    for name, value in shown.items():
        click.echo(f"{name:<13} {_cell(bytes(value).decode() if name == 'body' else value)}")
    click.echo("\nATTEMPTS")
    _print_rows(attempts, ("at", "http_status", "ms", "error"))


@webhooks.command()
@click.argument("reference", metavar="[ID]", required=False)
@click.option("--failed", is_flag=True, help="All that have failed; needs --org.")
@click.option("--since", metavar="DATE", help="With --failed: only those made from then on (UTC).")
@click.option("--org", metavar="NAME", help="The organisation; with an ID, refuse another's.")
@_REASON
@_JSON
def replay(
    reference: str | None, failed: bool, since: str | None, org: str | None, reason: str | None, as_json: bool
) -> None:
    """Send deliveries again. A new round of attempts under the same id; a running worker begins within seconds."""
    if bool(reference) == failed:
        raise click.UsageError("give either the ID of one delivery, or --failed --org NAME")
    if failed and org is None:
        raise click.UsageError("--failed needs --org NAME")
    if since is not None and not failed:
        raise click.UsageError("--since needs --failed")
    made_since = 0 if since is None else _moment(since)
    with _house() as house:
        org_id = None if org is None else organisations.named(house.db.reader(), org).id

        def change(conn: Connection) -> tuple[list[str], int]:
            now, actor = clock.now_ms(), _actor()
            if reference is None:
                assert org_id is not None
                return deliveries.replay_failed(conn, org_id, now, actor=actor, since=made_since, reason=reason)
            return [deliveries.replay(conn, reference, now, actor=actor, org_id=org_id, reason=reason).id], 0

        replayed, left = house.db.write(change)
    if as_json:
        _print_json({"replayed": replayed, "left": left})
        return
    for delivery_id in replayed:
        click.echo(delivery_id)
    if not replayed:
        click.echo("nothing to replay")
    if left:
        click.echo(
            f"{left} left as they are: no endpoint is registered, or it is disabled; register it first", err=True
        )


@webhooks.command()
@_ORG
@click.argument("url")
@_JSON
def register(org: str, url: str, as_json: bool) -> None:
    """Send results to URL from now on. A disabled endpoint is enabled again."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        sign = house.settings.webhooks.sign
        made = house.db.write(
            lambda conn: endpoints.register(conn, org_id, url, clock.now_ms(), actor=_actor(), sign=sign)
        )
        try:
            Outbound(house.settings.media.allowed_private_cidrs).check(url)
        except AddressRefused as error:
            click.echo(f"nothing is sent there as it is: the address {error.message}", err=True)
        except MediaUnreachable:  # the name may be known later
            pass
    if as_json:
        new = {} if made.secret is None else {"secret": made.secret}
        _print_json({"organisation": org, "url": made.url, "updated_at": clock.rfc3339(made.updated_at), **new})
        return
    click.echo(f"{org}: results go to {made.url}")
    if made.secret is not None:
        click.echo(f"signing secret, new: {made.secret}")


@webhooks.command()
@_ORG
@_JSON
def unregister(org: str, as_json: bool) -> None:
    """Remove an endpoint. Jobs with an address of their own are still sent."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        was_there = house.db.write(lambda conn: endpoints.unregister(conn, org_id, actor=_actor()))
    if as_json:
        _print_json({"organisation": org, "removed": was_there})
    else:
        click.echo(f"{org}: endpoint removed" if was_there else f"{org}: no endpoint was registered")


@webhooks.command()
@_ORG
@click.option("--reason", required=True, help="Why, for the audit log; deliveries that fail of it say it too.")
@_JSON
def disable(org: str, reason: str, as_json: bool) -> None:
    """Send nothing to an endpoint until it is enabled or registered again. What would go there is kept as failed, to be
    replayed; jobs with an address of their own are still sent."""
    if not reason.strip():
        raise click.UsageError("--reason is empty")
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        moved = house.db.write(lambda conn: endpoints.switch_off(conn, org_id, reason.strip(), actor=_actor()))
    if as_json:
        _print_json({"organisation": org, "changed": moved})
    else:
        click.echo(f"{org}: endpoint disabled" if moved else f"{org}: the endpoint was disabled already")


@webhooks.command()
@_ORG
@_REASON
@_JSON
def enable(org: str, reason: str | None, as_json: bool) -> None:
    """Send to a disabled endpoint again. What failed meanwhile waits for: customhouse webhooks replay --failed."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        moved = house.db.write(
            lambda conn: endpoints.enable(conn, org_id, clock.now_ms(), actor=_actor(), reason=reason)
        )
    if as_json:
        _print_json({"organisation": org, "changed": moved})
    else:
        click.echo(f"{org}: endpoint enabled" if moved else f"{org}: the endpoint was not disabled")


@webhooks.command()
@_ORG
@_JSON
def test(org: str, as_json: bool) -> None:
    """Send the endpoint a signed body of type `test`, even a disabled one, once, and say what came of it. Ends with 1
    when it was not answered with a 2xx."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        outbound = Outbound(house.settings.media.allowed_private_cidrs)
        found = ping(house.db, outbound, house.settings, org_id, actor=_actor())
    if as_json:
        _print_json({"organisation": org, "url": found.url, "answered": found.is_answered, **_attempt(found.attempt)})
    else:
        said = "no answer" if found.attempt.http_status is None else str(found.attempt.http_status)
        click.echo(f"{org}: {said} in {found.attempt.ms:,.0f} ms from {found.url}")
        if found.attempt.error:
            click.echo(found.attempt.error, err=True)
    if not found.is_answered:
        sys.exit(1)


@webhooks.group()
def secret() -> None:
    """Reveal or rotate a signing secret. By it receivers know that a delivery is ours."""


@secret.command()
@_ORG
@_JSON
def reveal(org: str, as_json: bool) -> None:
    """Print the secret. The audit log notes it."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        found = house.db.write(lambda conn: secrets.reveal(conn, org_id, clock.now_ms(), actor=_actor()))
    _print_secret(org, found, as_json)


@secret.command()
@_ORG
@_REASON
@_JSON
def rotate(org: str, reason: str | None, as_json: bool) -> None:
    """Make a new secret and print it. For a day the former one signs too, so receivers can change over."""
    with _house() as house:
        org_id = organisations.named(house.db.reader(), org).id
        made = house.db.write(lambda conn: secrets.rotate(conn, org_id, clock.now_ms(), actor=_actor(), reason=reason))
    _print_secret(org, made, as_json)


@contextmanager
def _house() -> Generator[House]:
    house = House(settings.load())
    try:
        yield house
    finally:
        house.close()


def _actor() -> str:
    return audit.operator()


def _names(conn: Connection) -> dict[str, str]:
    return {one.id: one.name for one in organisations.every(conn)}


def _time(ms: int | None) -> str | None:
    return None if ms is None else clock.rfc3339(ms)


def _endpoint(one: Endpoint, names: dict[str, str]) -> dict[str, Any]:
    return {
        "organisation": names[one.org_id],
        "url": one.url,
        "created_at": _time(one.created_at),
        "updated_at": _time(one.updated_at),
        "disabled_at": _time(one.disabled_at),
        "disabled_reason": one.disabled_reason,
    }


def _health(one: Health) -> dict[str, Any]:
    return {**msgspec.structs.asdict(one), "last_at": _time(one.last_at)}


def _moment(text: str) -> int:
    """Milliseconds. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--since {text}: not a date such as 2026-11-01 or 2026-11-01T12:00:00Z") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _delivery(one: Delivery, names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": one.id,
        "organisation": names[one.org_id],
        "job_id": one.job_id,
        "batch_id": one.batch_id,
        "url": one.url,
        "is_global": one.is_global,
        "status": one.status.value,
        "attempts": one.attempts,
        "next_at": _time(one.next_at) if one.status is State.PENDING else None,
        "created_at": _time(one.created_at),
        "finished_at": _time(one.finished_at),
    }


def _attempt(one: Attempt) -> dict[str, Any]:
    return {"at": _time(one.at), "http_status": one.http_status, "ms": round(one.ms, 1), "error": one.error}


def _print_secret(org: str, found: Secret, as_json: bool) -> None:
    if as_json:
        _print_json(
            {
                "organisation": org,
                "secret": found.secret,
                "created_at": _time(found.created_at),
                "previous_until": _time(found.previous_until),
            }
        )
        return
    click.echo(found.secret)
    if found.previous_until is not None:
        click.echo(f"the former secret signs too until {_time(found.previous_until)}", err=True)


def _print_json(value: dict[str, Any]) -> None:
    click.echo(msgspec.json.encode(value))


def _print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Aligned, whole and unwrapped, so that a line can be searched and its id copied."""
    if not rows:
        click.echo("none")
        return
    cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
