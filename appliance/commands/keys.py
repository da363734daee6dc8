"""`customhouse keys`: API keys, made, listed, rotated and revoked. A raw key is shown once, here."""

import json
import sys
import time

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import keys as key_rows
from appliance.accounts import organisations, scopes
from appliance.accounts.keys import Key
from appliance.accounts.organisations import Changes
from appliance.database import Connection
from appliance.house import House

_DAY_MS = 86_400_000


_REASON = click.option("--reason", help="Kept in the audit log.")


@click.group()
def keys() -> None:
    """API keys: create, list, rotate, revoke."""


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

    def change(conn: Connection) -> tuple[Key, str, bool]:
        found = organisations.by_name(conn, org.strip())
        owner = found or organisations.create_with(conn, org, Changes(), actor=audit.operator(), reason=reason)
        key, raw = key_rows.create(
            conn, house.pepper, owner.id, name, granted, surface=surface, environment=environment, expires_at=expires_at
        )
        audit.record(
            conn,
            audit.operator(),
            "key.created",
            key.prefix,
            org_id=owner.id,
            reason=reason,
            scopes=list(key.scopes),
        )
        return key, raw, found is None

    house = House(settings.load())
    key, raw, is_new = house.db.write(change)
    house.close()
    if is_new:
        click.echo(f"{org.strip()} is a new organisation", err=True)
    _show_once(key, raw, org, as_json)


@keys.command("list")
@click.option("--org", help="Only this organisation's.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(org: str | None, as_json: bool) -> None:
    """List the keys, newest first, the revoked ones too. Only prefixes are known."""
    house = House(settings.load())
    conn = house.db.reader()
    org_id = organisations.named(conn, org).id if org else None
    names = {one.id: one.name for one in organisations.every(conn)}
    found = key_rows.every(conn, org_id)
    house.close()
    if as_json:
        click.echo(json.dumps([_as_json(key, names[key.org_id]) for key in found], indent=2))
        return
    if not found:
        click.echo("There are no keys yet; make one: customhouse keys create --org NAME --name NAME", err=True)
    for key in found:
        click.echo(
            f"{key.prefix}…  {_state(key):<8}  {names[key.org_id]}/{key.name}  "
            f"used {_when(key.last_used_at)}  {' '.join(key.scopes)}"
        )


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
        click.echo(json.dumps({"key": raw, **_as_json(key, org)}, indent=2))
        return
    click.echo(raw)
    if sys.stdout.isatty():
        click.echo(f"This is shown once. It may: {' '.join(key.scopes)}", err=True)


def _as_json(key: Key, org: str) -> dict[str, object]:
    fields = msgspec.structs.asdict(key)
    for name, value in fields.items():
        if name.endswith("_at") and value is not None:
            fields[name] = clock.rfc3339(value)
    return {**fields, "org": org, "state": _state(key)}


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= clock.now_ms() else "active"


def _when(ms: int | None) -> str:
    return "never" if ms is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))
