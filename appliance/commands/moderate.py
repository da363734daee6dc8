"""`customhouse moderate`: one item from this terminal, through the queue and the models, like any other; or explained
here and kept nowhere."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from appliance import clock, settings
from appliance.accounts import organisations
from appliance.commands import explained
from appliance.errors import CustomhouseError, NotFound
from appliance.house import House
from appliance.jobs import explain, rows
from appliance.jobs.job import JobKind, Status, Submission
from appliance.jobs.rows import JobRow
from appliance.jobs.submit import submit
from appliance.tasks import Lanes
from appliance.work.playground import NOBODY, Playground, Seen, Text

_PROHIBITED = 3
_ORGANISATION = "local"  # the admin's own, made on first use


@click.command()
@click.argument("modality", type=click.Choice(["text", "image", "video"]))
@click.argument("what")
@click.option("--org", default=_ORGANISATION, show_default=True, help="The organisation it is counted for.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to wait for the verdict.")
@click.option(
    "--explain",
    "only_explain",
    is_flag=True,
    help="Explain what would come of it: no job, no event, nothing counted or kept.",
)
@click.option("--policy", help="With --explain, of a text: the policy that /v1/moderations decides by.")
@click.option("--json", "as_json", is_flag=True, help="The job, its children and their scores as JSON.")
def moderate(
    modality: str, what: str, org: str, timeout_s: float, only_explain: bool, policy: str | None, as_json: bool
) -> None:
    """Screen WHAT: a text (or @FILE, or - for standard input), or a picture's or video's file or URL.

    It becomes a job of the organisation --org, like any other: it is counted, kept for as long as others are, and needs
    a running worker and model process (`customhouse up`). With --explain it is asked in this process instead, of a file
    or a text, and leaves no trace: every score against its threshold, and of a text both ways, as a prompt and as
    /v1/moderations decides under the policy. The model process may then be down: what rules can say is said.

    Exit code 0: not prohibited, 3: prohibited, 1: failed, or undecided.
    """
    if policy and not only_explain:
        raise click.UsageError("--policy goes with --explain: a job is screened by categories")
    if policy and modality != "text":
        raise click.UsageError("--policy is for a text")
    house = House(settings.load())
    if only_explain:
        _explain(house, modality, what, org, policy, as_json)
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


def _explain(house: House, modality: str, what: str, org: str, policy: str | None, as_json: bool) -> NoReturn:
    found = organisations.by_name(house.db.reader(), org)
    if found is None and org != _ORGANISATION:
        raise NotFound(f"There is no organisation {org!r}; see: customhouse organisations list")
    org_id = found.id if found is not None else NOBODY
    ground = Playground(house)
    try:
        if modality == "text":
            shown: Text | Seen = ground.text(org_id, policy, _text(what))
            outcome = shown.pipeline.outcome
        else:
            shown = ground.file(org_id, Path(what))
            outcome = shown.outcome
    finally:
        ground.close()
        house.close()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(shown)))
    else:
        click.echo("\n".join(explained.of_text(shown) if isinstance(shown, Text) else explained.of_file(shown)))
    sys.exit({"prohibited": _PROHIBITED, "undecided": 1, "not prohibited": 0}[outcome])


def _text(what: str) -> str:
    text = sys.stdin.read() if what == "-" else Path(what[1:]).read_text() if what.startswith("@") else what
    if not text.strip():
        raise click.UsageError("the text is empty")
    return text


def _submission(house: House, modality: str, what: str) -> Submission:
    kind = {"text": JobKind.PROMPT, "image": JobKind.IMAGE, "video": JobKind.VIDEO}[modality]
    if kind is JobKind.PROMPT:
        return Submission(kind, text=_text(what), origin="cli")
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
