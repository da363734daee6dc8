"""`customhouse audit`: who changed what, and why."""

import csv
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click

from appliance import audit as log
from appliance import clock, settings
from appliance.accounts import organisations
from appliance.audit import Filter, Line
from appliance.errors import InvalidRequest
from appliance.house import House

_COLUMNS = ("id", "at", "actor", "action", "subject", "org_id", "reason", "detail")

_FILTERS = (
    click.option("--actor", help="Who: operator:NAME or key:PREFIX."),
    click.option("--action", help="What, e.g. organisation.changed."),
    click.option("--subject", help="To what: an id, a slug, a key's prefix."),
    click.option("--org", help="Whom it concerned: a name or an id."),
    click.option("--from", "since", metavar="TIME", help="From this moment on: 2026-05-19, 2h, 7d."),
    click.option("--to", "until", metavar="TIME", help="Before this moment."),
    click.option("--search", metavar="LETTERS", help="Anywhere in who, what, to what, why or the details."),
)


def _with_filters(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group()
def audit() -> None:
    """The audit log: list, export. Lines are only ever added."""


@audit.command("list")
@_with_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(limit: int, as_json: bool, **filters: Any) -> None:
    """List the newest lines."""
    with _house() as house:
        found = log.page(house.db.reader(), _wanted(house, **filters), limit=limit)
    if as_json:
        click.echo(json.dumps([_shown(line) for line in found], indent=2, ensure_ascii=False))
        return
    for line in found:
        why = f"  — {line.reason}" if line.reason else ""
        detail = f"  {json.dumps(line.detail, ensure_ascii=False)}" if line.detail else ""
        click.echo(f"{clock.rfc3339(line.at)}  {line.actor:<20} {line.action:<24} {line.subject}{detail}{why}")
    if not found:
        click.echo("no lines", err=True)


@audit.command()
@_with_filters
@click.option("--json", "as_json", is_flag=True, help="As JSON, a line each, instead of CSV.")
def export(as_json: bool, **filters: Any) -> None:
    """Write every line to standard output, newest first, as CSV."""
    with _house() as house:
        found = log.lines(house.db.reader(), _wanted(house, **filters))
        if as_json:
            for line in found:
                click.echo(json.dumps(_shown(line), ensure_ascii=False))
            return
        writer = csv.writer(sys.stdout)
        writer.writerow(_COLUMNS)
        for line in found:
            shown = {**_shown(line), "detail": json.dumps(line.detail, ensure_ascii=False)}
            writer.writerow([_cell(shown[column]) for column in _COLUMNS])


@contextmanager
def _house() -> Generator[House]:
    house = House(settings.load())
    try:
        yield house
    finally:
        house.close()


def _wanted(
    house: House,
    *,
    actor: str | None,
    action: str | None,
    subject: str | None,
    org: str | None,
    since: str | None,
    until: str | None,
    search: str | None,
) -> Filter:
    org_id = None if org is None else organisations.referred(house.db.reader(), org).id
    return Filter(actor, action, subject, org_id, _moment("--from", since), _moment("--to", until), search)


def _moment(option: str, given: str | None) -> int | None:
    try:
        return None if given is None else clock.moment(given, clock.now_ms())
    except ValueError as error:
        raise InvalidRequest(f"{option}: {error}") from None


def _shown(line: Line) -> dict[str, Any]:
    return {
        "id": line.id,
        "at": clock.rfc3339(line.at),
        "actor": line.actor,
        "action": line.action,
        "subject": line.subject,
        "org_id": line.org_id,
        "reason": line.reason,
        "detail": line.detail,
    }


def _cell(value: object) -> object:
    """A reason is free text, and a spreadsheet would run one that begins like a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
