"""`customhouse steps`: what an organisation's prompts are checked for besides, after the blocklist."""

import json

import click

from appliance import audit, settings
from appliance.accounts import organisations
from appliance.accounts import steps as step_rows
from appliance.house import House
from appliance.text.analysis import HEADS, STEPS

_ORG = click.option("--org", required=True, metavar="NAME", help="The organisation whose prompts they are.")
_REASON = click.option("--reason", help="Why, for the audit log.")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def steps() -> None:
    """Analyzers that are asked of prompts after the blocklist: show, set, remove. All are off at first."""


@steps.command()
@_ORG
@_JSON
def show(org: str, as_json: bool) -> None:
    """What is on, with the score from which on it rejects, and what could be."""
    house = House(settings.load())
    on = step_rows.of(house.db.reader(), organisations.named(house.db.reader(), org).id)
    house.close()
    if as_json:
        click.echo(json.dumps(on))
        return
    for name in STEPS:
        state = f"rejects from {on[name]:g}" if name in on else "off"
        click.echo(f"{name:<18} {state}{'  (asks a model)' if name in HEADS else ''}")


@steps.command("set")
@click.argument("analyzer")
@click.argument("threshold", type=float)
@_ORG
@_REASON
@_JSON
def set_(analyzer: str, threshold: float, org: str, reason: str | None, as_json: bool) -> None:
    """Reject prompts whose score by ANALYZER reaches THRESHOLD, over 0 and up to 1; from now on."""
    _change(org, {analyzer: threshold}, [], reason, as_json)


@steps.command()
@click.argument("analyzers", nargs=-1, required=True)
@_ORG
@_REASON
@_JSON
def remove(analyzers: tuple[str, ...], org: str, reason: str | None, as_json: bool) -> None:
    """Ask ANALYZERS no more."""
    _change(org, {}, analyzers, reason, as_json)


def _change(
    org: str, added: dict[str, float], removed: tuple[str, ...] | list[str], reason: str | None, as_json: bool
) -> None:
    step_rows.parse(dict.fromkeys(removed, 1.0), STEPS)  # a slip of the pen is said, not passed over
    house = House(settings.load())
    try:
        owner = organisations.named(house.db.reader(), org).id
        on = house.db.write(
            lambda conn: step_rows.replace(
                conn,
                owner,
                step_rows.parse(
                    {**{k: v for k, v in step_rows.of(conn, owner).items() if k not in removed}, **added}, STEPS
                ),
                actor=audit.operator(),
                reason=reason,
            )
        )
    finally:
        house.close()
    if as_json:
        click.echo(json.dumps(on))
    else:
        click.echo(", ".join(f"{name} from {limit:g}" for name, limit in on.items()) or "no additional steps")
