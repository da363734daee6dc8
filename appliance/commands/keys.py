"""`customhouse keys`: API keys, made, listed, shown, rotated and revoked. A raw key is shown once, here."""

import json
import sys
import time

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import keys as key_rows
from appliance.accounts import organisations, scopes
from appliance.accounts.keys import Issued, Key, State
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import rows as jobs

_DAY_MS = 86_400_000
_LINES = 50  # of the audit log, the newest


_REASON = click.option("--reason", help="Kept in the audit log.")


@click.group()
def keys() -> None:
    """API keys: create, list, show, rotate, revoke."""


@keys.command()
@click.option("--org", required=True, help="The organisation it belongs to; made when there is none of that name.")
@click.option("--name", required=True, help="What it is for, e.g. production.")
@click.option("--scope", "granted", multiple=True, help=f"What it may do; repeat. Of: {', '.join(scopes.ALL)}.")
@click.option(
    "--surface",
    type=click.Choice(["stars", "omnimod"]),
    default="stars",
    show_default=True,
    help="How it begins, and its default scopes: omnimod is for decisions at once (POST /v1/moderations).",
)
@click.option(
    "--environment",
    type=click.Choice(["live", "test"]),
    default="live",
    show_default=True,
    help="Stands in an omnimod key.",
)
@click.option("--expires-in-days", type=click.IntRange(min=1), help="Refused after so many days; never by default.")
@_REASON
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def create(
    org: str,
    name: str,
    granted: tuple[str, ...],
    surface: str,
    environment: str,
    expires_in_days: int | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Make a key and show it, this once. Without --scope it gets its surface's default scopes."""
    expires_at = clock.now_ms() + expires_in_days * _DAY_MS if expires_in_days else None

    def change(conn: Connection) -> tuple[Issued, bool]:
        owner, is_new = organisations.named_or_new(conn, org, actor=audit.operator(), reason=reason)
        issued = key_rows.issue(
            conn,
            house.pepper,
            owner.id,
            name,
            granted,
            actor=audit.operator(),
            reason=reason,
            surface=surface,
            environment=environment,
            expires_at=expires_at,
        )
        return issued, is_new

    house = House(settings.load())
    issued, is_new = house.db.write(change)
    house.close()
    if is_new:
        click.echo(f"{org.strip()} is a new organisation", err=True)
    _show_once(issued.key, issued.raw, org, as_json)


@keys.command("list")
@click.option("--org", help="Only this organisation's.")
@click.option("--state", type=click.Choice([one.value for one in State]), help="Only those of which this is true now.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(org: str | None, state: str | None, as_json: bool) -> None:
    """List the keys, newest first, the revoked ones too. Only prefixes are known. Expiring = within 14 days; in grace =
    another has taken its place, and it works until its grace is over."""
    house = House(settings.load())
    conn = house.db.reader()
    org_id = organisations.named(conn, org).id if org else None
    names = {one.id: one.name for one in organisations.every(conn)}
    stands = _Stands(conn)
    found = [key for key in key_rows.every(conn, org_id) if state in (None, stands.of(key))]
    house.close()
    if as_json:
        click.echo(json.dumps([_as_json(key, names[key.org_id], stands.of(key)) for key in found], indent=2))
        return
    if not found and state is None:
        click.echo("There are no keys yet; make one: customhouse keys create --org NAME --name NAME", err=True)
    for key in found:
        click.echo(
            f"{key.prefix}…  {stands.of(key):<8}  {names[key.org_id]}/{key.name}  "
            f"used {_when(key.last_used_at)}  {' '.join(key.scopes)}"
        )


@keys.command()
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(key: str, as_json: bool) -> None:
    """Say all that is known of KEY (an id, a prefix or a name): what it may do, who changed it, what it submitted."""
    house = House(settings.load())
    conn = house.db.reader()
    found = key_rows.find(conn, key.rstrip("…"))
    org = organisations.get(conn, found.org_id).name
    state = _Stands(conn).of(found)
    lines = audit.page(conn, audit.Filter(subject=found.prefix), limit=_LINES)
    uses = jobs.of_key(conn, found.org_id, found.id)
    house.close()
    if as_json:
        said = [{**msgspec.structs.asdict(one), "at": clock.rfc3339(one.at)} for one in lines]
        newest = None if uses.newest_at is None else clock.rfc3339(uses.newest_at)
        used = {**msgspec.structs.asdict(uses), "newest_at": newest}
        click.echo(json.dumps({**_as_json(found, org, state), "jobs": used, "audit": said}, indent=2))
        return
    click.echo(f"{found.prefix}…  {state}  {org}/{found.name}  {found.surface}, {found.environment}")
    click.echo(f"  may: {' '.join(found.scopes)}")
    click.echo(
        f"  created {_when(found.created_at)}, used {_when(found.last_used_at)}, expires {_when(found.expires_at)}"
    )
    click.echo(
        f"  {uses.jobs:,} of its organisation's newest {uses.looked_at:,} jobs, {uses.prohibited:,} of them prohibited"
    )
    for one in lines:
        click.echo(f"  {_when(one.at)}  {one.action}  {one.actor}  {one.reason or ''}".rstrip())


@keys.command()
@click.argument("key")
@click.option(
    "--grace",
    "grace_s",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seconds for which the old key still works.",
)
@_REASON
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def rotate(key: str, grace_s: int, reason: str | None, as_json: bool) -> None:
    """Replace KEY (an id, a prefix or a name) by a new one with the same scopes, shown this once."""
    house = House(settings.load())
    reader = house.db.reader()
    old = key_rows.find(reader, key.rstrip("…"))
    new, raw = house.db.write(
        lambda conn: key_rows.rotate(conn, house.pepper, old.id, actor=audit.operator(), grace_s=grace_s, reason=reason)
    )
    names = {one.id: one.name for one in organisations.every(reader)}
    house.close()
    _show_once(new, raw, names[new.org_id], as_json)


@keys.command()
@click.argument("key")
@_REASON
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def revoke(key: str, reason: str | None, as_json: bool) -> None:
    """Refuse KEY (an id, a prefix or a name) from now on, in every process at once."""
    house = House(settings.load())
    found = key_rows.find(house.db.reader(), key.rstrip("…"))
    house.db.write(lambda conn: key_rows.revoke(conn, found.id, actor=audit.operator(), reason=reason))
    house.close()
    if as_json:
        click.echo(json.dumps({"id": found.id, "prefix": found.prefix, "revoked": True}))
    else:
        click.echo(f"{found.prefix}… is revoked")


def _show_once(key: Key, raw: str, org: str, as_json: bool) -> None:
    if as_json:
        state = key_rows.state(key, clock.now_ms()).value
        click.echo(json.dumps({"key": raw, **_as_json(key, org, state)}, indent=2))
        return
    click.echo(raw)
    if sys.stdout.isatty():
        click.echo(f"This is shown once. It may: {' '.join(key.scopes)}", err=True)


class _Stands:
    """How keys stand, by one look at who replaced whom."""

    def __init__(self, conn: Connection) -> None:
        self._replaced = key_rows.replaced(conn)
        self._now = clock.now_ms()

    def of(self, key: Key) -> str:
        return key_rows.state(key, self._now, is_replaced=key.id in self._replaced).value


def _as_json(key: Key, org: str, state: str) -> dict[str, object]:
    fields = msgspec.structs.asdict(key)
    for name, value in fields.items():
        if name.endswith("_at") and value is not None:
            fields[name] = clock.rfc3339(value)
    return {**fields, "org": org, "state": state}


def _when(ms: int | None) -> str:
    return "never" if ms is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))
