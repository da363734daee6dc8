"""`customhouse moderate`: one item from this terminal, through the queue and the models, like any other."""

import json
import shutil
import sys
import time
from pathlib import Path

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from appliance import clock, settings
from appliance.accounts import organisations
from appliance.errors import CustomhouseError
from appliance.house import House
from appliance.jobs import explain, rows
from appliance.jobs.job import JobKind, Status, Submission
from appliance.jobs.rows import JobRow
from appliance.jobs.submit import submit
from appliance.tasks import Lanes

_PROHIBITED = 3
_ORGANISATION = "local"  # the admin's own, made on first use


@click.command()
@click.argument("modality", type=click.Choice(["text", "image", "video"]))
@click.argument("what")
@click.option("--org", default=_ORGANISATION, show_default=True, help="The organisation it is counted for.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to wait for the verdict.")
@click.option("--json", "as_json", is_flag=True, help="The job, its children and their scores as JSON.")
def moderate(modality: str, what: str, org: str, timeout_s: float, as_json: bool) -> None:
    """Screen WHAT: a text (or @FILE, or - for standard input), or a picture's or video's file or URL.

    Needs a running worker and model process (`customhouse up`). Exit code 0: not prohibited, 3: prohibited, 1: failed.
    """
    house = House(settings.load())
    lanes = Lanes(house.settings)
    submission = _submission(house, modality, what)

    org_id = house.db.write(lambda conn: organisations.get_or_create(conn, org).id)
    follow = house.db.write(lambda conn: submit(conn, house, org_id, None, submission))
    lanes.follow(follow, submission.kind)
    job = _wait(house, follow.job_id, timeout_s, is_quiet=as_json)
    children = rows.children_of(house.db.reader(), job.id)
    words = rows.words(house.db.reader(), job)
    house.close()
    if as_json:
        click.echo(msgspec.json.encode({"job": job, "children": children}))
    else:
        verdict = "failed" if job.status is Status.FAILED else "prohibited" if job.is_prohibited else "not prohibited"
        click.echo(f"{verdict} — {explain.why(job, children, words)}")
        click.echo(json.dumps(job.categories))
    if job.status is Status.FAILED:
        sys.exit(1)
    sys.exit(_PROHIBITED if job.is_prohibited else 0)


def _submission(house: House, modality: str, what: str) -> Submission:
    kind = {"text": JobKind.PROMPT, "image": JobKind.IMAGE, "video": JobKind.VIDEO}[modality]
    if kind is JobKind.PROMPT:
        text = sys.stdin.read() if what == "-" else Path(what[1:]).read_text() if what.startswith("@") else what
        if not text.strip():
            raise click.UsageError("the text is empty")
        return Submission(kind, text=text, origin="cli")
    if what.startswith(("http://", "https://")):
        return Submission(kind, url=what, origin="cli")
    path = Path(what)
    if not path.is_file():
        raise click.UsageError(f"{what} is neither a file nor an http(s) URL")
    name = clock.new_id()
    shutil.copyfile(path, house.settings.media_dir / name)
    return Submission(kind, path=name, origin="cli")


def _wait(house: House, job_id: str, timeout_s: float, *, is_quiet: bool) -> JobRow:
    """The job once it has ended. Raises CustomhouseError when it has not after `timeout_s`."""
    until = time.monotonic() + timeout_s
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True, disable=is_quiet or not sys.stderr.isatty()) as progress:
        bar = progress.add_task("queued", total=None)
        while True:
            job = rows.job(house.db.reader(), job_id)
            if job is None:
                raise CustomhouseError(f"job {job_id} was erased")
            if job.status in (Status.COMPLETED, Status.FAILED):
                return job
            progress.update(bar, description=job.status, completed=job.done, total=job.total or None)
            if time.monotonic() > until:
                raise CustomhouseError(
                    f"job {job_id} is still {job.status} after {timeout_s:g} s; is `customhouse up` running? "
                    "It goes on by itself"
                )
            time.sleep(0.05)
