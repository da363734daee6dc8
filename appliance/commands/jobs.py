"""`customhouse jobs`: why a job came out as it did: what it was asked, in which words, and what answered."""

import json
import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from appliance import audit, clock, settings
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import InvalidRequest, NotFound
from appliance.house import House
from appliance.jobs import browse, explain, rows
from appliance.jobs import retry as again_
from appliance.jobs.browse import Wanted
from appliance.jobs.job import JobKind, Status
from appliance.jobs.rows import Child, JobRow
from appliance.tasks import Lanes

_FILTERS = (
    click.option("--org", metavar="NAME", help="Only this organisation's: its name or id."),
    click.option("--kind", type=click.Choice([kind.wire for kind in JobKind]), help="Only of this kind."),
    click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those in this state."),
    click.option("--verdict", type=click.Choice(["prohibited", "passed"]), help="Only those that came out so."),
    click.option("--category", metavar="SLUG", help="Only those in which it was found."),
    click.option("--from", "since", metavar="TIME", help="Submitted from then on: 2026-05-19, 2h, 7d."),
    click.option("--to", "until", metavar="TIME", help="Submitted before then."),
    click.option(
        "--search",
        metavar="WORDS",
        default="",
        help="The beginning of an id; a request's id, a batch, an error code; or words of a reason or an error.",
    ),
)


def _with_filters(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group()
def jobs() -> None:
    """Jobs: list, follow, show one with its checks and what decided, do a failed one again."""


@jobs.command("list")
@_with_filters
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="So many, the newest first."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(limit: int, as_json: bool, **filters: Any) -> None:
    """List the newest jobs."""
    house = House(settings.load())
    try:
        conn = house.db.reader()
        wanted = _wanted(conn, **filters)
        names = {one.id: one.name for one in organisations.every(conn)}
        found = [job for one in browse.newest(conn, wanted, limit) if (job := rows.job(conn, one.id)) is not None]
    finally:
        house.close()
    if as_json:
        listed = [{"organisation": names[job.org_id], **_job(job)} for job in found]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    for job in found:
        click.echo(_line(job, names[job.org_id]))
    if not found:
        click.echo("no jobs", err=True)


@jobs.command()
@_with_filters
@click.option("--most", type=click.IntRange(min=1), help="End after so many; by default it goes on until Ctrl+C.")
@click.option("--every", "every_s", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a job a line.")
def tail(most: int | None, every_s: float, as_json: bool, **filters: Any) -> None:
    """Follow the jobs: each is written as it ends."""
    house = House(settings.load())
    told = 0
    try:
        conn = house.db.reader()
        following = browse.Tail(conn, _wanted(conn, **filters))
        while True:
            for one in following.ended(conn):
                job = rows.job(conn, one.id)
                if job is None:
                    continue
                name = organisations.referred(conn, job.org_id).name
                shown = json.dumps({"organisation": name, **_job(job)}, ensure_ascii=False)
                click.echo(shown if as_json else _line(job, name))
                told += 1
                if most is not None and told >= most:
                    return
            time.sleep(every_s)
    except KeyboardInterrupt:
        return
    finally:
        house.close()


@jobs.command()
@click.argument("job_id", metavar="ID")
@click.option("--reason", required=True, help="Kept in the audit log.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def retry(job_id: str, reason: str, as_json: bool) -> None:
    """Do the failed job with this ID again, as a new job: the same content, organisation and webhook address.

    The failed job stays as it is: its charge was given back and its webhook sent. The new one has an id, a charge and a
    webhook of its own, and the checks of now. Possible while the content is kept; an uploaded file never is.
    """
    house = House(settings.load())
    lanes = Lanes(house.settings)
    try:
        again = house.db.write(lambda conn: again_.retry(conn, house, job_id, actor=audit.operator(), reason=reason))
        lanes.follow(again.follow_up, again.job.kind)
    finally:
        lanes.close()
        house.close()
    if as_json:
        click.echo(json.dumps({"retried": job_id, "job": _job(again.job)}, indent=2, ensure_ascii=False))
        return
    click.echo(f"{job_id} is done again as job {again.job.id}")


@jobs.command()
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(job_id: str, as_json: bool) -> None:
    """Show the job with this ID: its verdict, what decided, the custom questions as they stood when it was submitted,
    and every check with its scores. Nothing that was submitted is shown."""
    house = House(settings.load())
    conn = house.db.reader()
    job = rows.job(conn, job_id)
    children = rows.children_of(conn, job_id)
    words = rows.words(conn, job) if job else {}
    house.close()
    if job is None:
        raise NotFound(f"There is no job {job_id!r}; it may have been removed (customhouse retention)")
    if as_json:
        click.echo(json.dumps(_shown(job, children, words), indent=2, ensure_ascii=False))
        return
    click.echo(f"{job.id}  {job.kind.wire}  {job.status}  {_verdict(job)}")
    click.echo(f"decided by   {explain.why(job, children, words)}")
    if (flip := explain.flip(job, children)) is not None:
        click.echo(f"flips        {flip}")
    for question in explain.questions(job, words):
        click.echo(f"asked        {question.name}: {question.question}")
    for child in children:
        at = "" if child.at_ms is None else f" at {child.at_ms / 1000:.1f} s"
        click.echo(f"{child.status:<12} {child.kind} {child.subject}{at}".rstrip())
        for score in child.finding.scores if child.finding else []:
            sign = "≥" if score.is_over else "<"
            click.echo(
                f"{'':<12}   {score.category}: {score.model} {score.label} {score.score:.3f} {sign} "
                f"{score.threshold:g} ({score.device}, {score.ms:.0f} ms, weights {score.digest})"
            )
        if child.error_code is not None:
            click.echo(f"{'':<12}   {child.error_code}: {child.error}")


def _line(job: JobRow, organisation: str) -> str:
    why = f"  {job.error_code}" if job.error_code else ""
    at = clock.rfc3339(job.created_at)
    return f"{job.id}  {at}  {organisation}  {job.kind.wire:<6} {job.status:<10} {_verdict(job)}{why}"


def _wanted(
    conn: Connection,
    *,
    org: str | None,
    kind: str | None,
    status: str | None,
    verdict: str | None,
    category: str | None,
    since: str | None,
    until: str | None,
    search: str,
) -> Wanted:
    return Wanted(
        org_id=None if org is None else organisations.referred(conn, org).id,
        kind=next((one for one in JobKind if one.wire == kind), None),
        status=None if status is None else Status(status),
        is_prohibited=None if verdict is None else verdict == "prohibited",
        category=category,
        since=_moment("--from", since),
        until=_moment("--to", until),
        search=search,
    )


def _moment(option: str, given: str | None) -> int | None:
    try:
        return None if given is None else clock.moment(given, clock.now_ms())
    except ValueError as error:
        raise InvalidRequest(f"{option}: {error}") from None


def _verdict(job: JobRow) -> str:
    if job.status is not Status.COMPLETED:
        return "no verdict"
    return "prohibited" if job.is_prohibited else "not prohibited"


def _shown(job: JobRow, children: list[Child], words: dict[str, str]) -> dict[str, Any]:
    return {
        "job": _job(job),
        "decided_by": msgspec.to_builtins(explain.why(job, children, words)),
        "flips": None
        if (flip := explain.flip(job, children)) is None
        else {**msgspec.to_builtins(flip), "by": flip.by},
        "asked": msgspec.to_builtins(explain.questions(job, words)),
        "checks": msgspec.to_builtins(children),
    }


def _job(job: JobRow) -> dict[str, Any]:
    times = {
        name: None if (at := getattr(job, name)) is None else clock.rfc3339(at)
        for name in ("created_at", "started_at", "completed_at")
    }
    return {**msgspec.to_builtins(job), **times}
