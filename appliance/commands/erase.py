"""`customhouse erase`: a job, an organisation, or all before a date, and the proof that the bytes are gone."""

import json
import sys
import uuid
from datetime import UTC, datetime
from functools import partial

import click
import msgspec

from appliance import audit, settings
from appliance.accounts import organisations
from appliance.errors import JobNotFound, Misconfigured
from appliance.house import House
from appliance.work import erase as work
from appliance.work.erase import Report, Scope


@click.command()
@click.option("--job", "job_id", metavar="ID", help="This job.")
@click.option("--org", metavar="NAME", help="This organisation whole: jobs, keys, categories, terms, addresses, cards.")
@click.option("--before", metavar="DATE", help="Jobs submitted before it (UTC); with --org, only that organisation's.")
@click.option("--reason", help="Why, for the audit log. Needed, but with --dry-run.")
@click.option("--dry-run", is_flag=True, help="Only say how much would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--patience",
    "patience_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for readers of the write-ahead log.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def erase(
    job_id: str | None,
    org: str | None,
    before: str | None,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    patience_s: float,
    as_json: bool,
) -> None:
    """Remove content and rows for good, and look through the files whether they are gone.

    An open job is ended first, and given back what it cost. The ledger, the audit log and the counts of use stay: they
    hold no content. Copies elsewhere, such as backups, are yours to remove. Ends with 1 when it is not proven.
    """
    if (job_id is None) == (org is None and before is None):
        raise click.UsageError("name what to erase: --job ID, --org NAME, --before DATE, or --org NAME --before DATE")
    if not dry_run and not (reason or "").strip():
        raise click.UsageError("--reason is needed: the audit log keeps why something was erased")
    house = House(settings.load())
    try:
        reader = house.db.reader()
        owner = None if org is None else organisations.named(reader, org)
        scope = Scope(_id(job_id), owner, None if before is None else _time(before))
        planned = _planned(house, scope)
        if dry_run:
            _show_planned(planned, as_json)
            return
        if not yes:
            _show_planned(planned, as_json=False, err=True)
            word = job_id or org or "erase"
            if click.prompt(f"This cannot be undone. Type {word} to go on", err=True) != word:
                raise Misconfigured("nothing was erased")
        report = work.erase(
            house,
            scope,
            actor=audit.operator(),
            reason=(reason or "").strip(),
            patience_s=patience_s,
            progress=partial(_say, planned["job"]),
        )
    finally:
        house.close()
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(report), "proven": report.is_proven}))
    else:
        _show(report)
    if not report.is_proven:
        click.echo(f"customhouse: {_not_proven(report)}", err=True)
        sys.exit(1)


def _say(jobs: int, gone: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{gone:,} of {jobs:,} jobs", err=True, nl=gone >= jobs)


def _planned(house: House, scope: Scope) -> dict[str, int]:
    try:
        return work.count(house, scope)
    except JobNotFound as error:
        raise Misconfigured(f"There is no job {scope.job_id}; nothing was erased") from error


def _id(text: str | None) -> str | None:
    """As ids are kept; what is none names no job."""
    try:
        return None if text is None else str(uuid.UUID(text))
    except ValueError:
        return text


def _time(text: str) -> int:
    """Milliseconds. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--before {text}: not a date such as 2026-11-01 or 2026-11-01T12:00:00Z") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _show_planned(planned: dict[str, int], as_json: bool, err: bool = False) -> None:
    if as_json:
        click.echo(json.dumps({"dry_run": True, "would_remove": planned}))
        return
    click.echo("This would go:", err=err)
    for table, rows in planned.items():
        if rows:
            click.echo(f"  {table:<24} {rows:>12,}", err=err)


def _show(report: Report) -> None:
    for table, rows in report.removed.items():
        if rows:
            click.echo(f"{table:<24} {rows:>12,} removed")
    rest = [
        f"{number:,} {what}"
        for number, what in (
            (report.contents - report.too_short - report.looked_for, "not looked for, as a sample was taken"),
            (report.too_short, "too short to be looked for"),
            (report.same_elsewhere, "pieces stand in what is kept: of others, or in the audit log"),
        )
        if number
    ]
    click.echo(
        f"{report.looked_for:,} of {report.contents:,} texts and addresses looked for, "
        f"{report.looked_through_bytes:,} bytes looked through, {report.found:,} found"
        + (f" ({'; '.join(rest)})" if rest else "")
    )


def _not_proven(report: Report) -> str:
    if not report.is_log_empty:
        return (
            "the rows are erased, but somebody reads for long, so the write-ahead log holds them still. Stop "
            "the reader (an export, a backup), then run `customhouse retention run`: it ends with 1 until they are gone"
        )
    return (
        f"the rows are erased, but {report.found} pieces of them are still in a file. Stop Customhouse, rewrite "
        "customhouse.db with SQLite's VACUUM, and start it again"
    )
