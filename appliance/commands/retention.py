"""`customhouse retention`: how long things are kept, what is due, and a run at once."""

import json
import sys

import click

from appliance import clock, settings
from appliance.accounts import organisations
from appliance.house import House
from appliance.settings import FOR_EVER_DAYS
from appliance.work import retention as rounds
from appliance.work.retention import DAY_MS, PURGES, Run

_PATIENCE_S = 5.0
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def retention() -> None:
    """How long things are kept, and what goes."""


@retention.command()
@click.option("--dry-run", is_flag=True, help="Only say how much is due.")
@_JSON
def run(dry_run: bool, as_json: bool) -> None:
    """Remove now what is due. The worker does so by itself, every retention.every_s seconds."""
    house = House(settings.load())
    found = rounds.due(house) if dry_run else rounds.run(house)
    is_settled = dry_run or rounds.settle(house, _PATIENCE_S)
    house.close()
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "due" if dry_run else "removed": found, "settled": is_settled}))
    else:
        for purge in PURGES:
            click.echo(f"{purge.name:<12} {found.get(purge.name, 0):>12,} {'due' if dry_run else 'removed'}")
    if not is_settled:
        click.echo("Somebody reads, so the write-ahead log still holds what was removed; it is tried again", err=True)
        sys.exit(1)


@retention.command()
@_JSON
def show(as_json: bool) -> None:
    """Show how long everything is kept, how much is due, and when it was last looked."""
    house = House(settings.load())
    reader = house.db.reader()
    due = rounds.due(house)
    runs = rounds.last_runs(reader)
    kept = [
        {
            "what": purge.name,
            "about": purge.what,
            "days": _days(purge.kept_ms(house.settings)),
            "due": due[purge.name],
            **_run(runs.get(purge.name)),
        }
        for purge in PURGES
    ]
    prompts_due = rounds.prompts_due(house)
    by_organisation = [
        {
            "organisation": one.name,
            "prompts_days": house.settings.retention.prompts_days
            if one.retain_prompts_days is None
            else one.retain_prompts_days,
            "own": one.retain_prompts_days is not None,
            "due": prompts_due.get(one.id, 0),
        }
        for one in organisations.every(reader)
    ]
    house.close()
    if as_json:
        click.echo(json.dumps({"kept": kept, "organisations": by_organisation}, indent=2))
        return
    click.echo(f"{'':<12} {'KEPT':>12} {'DUE':>12} {'REMOVED':>12}  LAST LOOKED")
    for row in kept:
        click.echo(
            f"{row['what']:<12} {_span(row['days']):>12} {row['due']:>12,} {row['removed_ever']:>12,}"
            f"  {row['last_run'] or 'never'}"
        )
    if by_organisation:
        click.echo("\nPROMPTS OF")
    for row in by_organisation:
        own = "its own" if row["own"] else ""
        click.echo(f"{row['organisation']:<25} {_span(row['prompts_days'])} {row['due']:>12,} due  {own}".rstrip())


def _run(one: Run | None) -> dict[str, object]:
    if one is None:
        return {"last_run": None, "removed_then": 0, "removed_ever": 0}
    return {
        "last_run": clock.rfc3339(one.ran_at) if one.ran_at else None,
        "removed_then": one.removed,
        "removed_ever": one.removed_ever,
    }


def _days(ms: int) -> float:
    return ms // DAY_MS if ms % DAY_MS == 0 else round(ms / DAY_MS, 2)


def _span(days: object) -> str:
    if days == 0:
        return "not at all"
    return "for ever" if days == FOR_EVER_DAYS else f"{days:,} days"
