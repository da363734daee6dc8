"""`customhouse jobs`: why a job came out as it did: what it was asked, in which words, and what answered."""

import json
from typing import Any

import click
import msgspec

from appliance import clock, settings
from appliance.accounts import organisations
from appliance.errors import NotFound
from appliance.house import House
from appliance.jobs import explain, rows
from appliance.jobs.job import Status
from appliance.jobs.rows import Child, JobRow


@click.group()
def jobs() -> None:
    """Jobs: list the newest; show one, its checks and what decided."""


@jobs.command("list")
@click.option("--org", metavar="NAME", help="Only this organisation's.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(org: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List the newest jobs."""
    house = House(settings.load())
    conn = house.db.reader()
    org_id = None if org is None else organisations.named(conn, org).id
    names = {one.id: one.name for one in organisations.every(conn)}
    found = rows.newest(conn, org_id=org_id, status=Status(status) if status else None, limit=limit)
    house.close()
    if as_json:
        listed = [{"organisation": names[job.org_id], **_job(job)} for job in found]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    for job in found:
        why = f"  {job.error_code}" if job.error_code else ""
        at = clock.rfc3339(job.created_at)
        click.echo(f"{job.id}  {at}  {names[job.org_id]}  {job.kind.wire:<6} {job.status:<10} {_verdict(job)}{why}")
    if not found:
        click.echo("no jobs", err=True)


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


def _verdict(job: JobRow) -> str:
    if job.status is not Status.COMPLETED:
        return "no verdict"
    return "prohibited" if job.is_prohibited else "not prohibited"


def _shown(job: JobRow, children: list[Child], words: dict[str, str]) -> dict[str, Any]:
    return {
        "job": _job(job),
        "decided_by": msgspec.to_builtins(explain.why(job, children, words)),
        "asked": msgspec.to_builtins(explain.questions(job, words)),
        "checks": msgspec.to_builtins(children),
    }


def _job(job: JobRow) -> dict[str, Any]:
    times = {
        name: None if (at := getattr(job, name)) is None else clock.rfc3339(at)
        for name in ("created_at", "started_at", "completed_at")
    }
    return {**msgspec.to_builtins(job), **times}
