"""From a request to rows, all in one transaction: the job, its charge, its children, its end when nothing is asked."""

import msgspec

from appliance import clock, prompts
from appliance.accounts import custom, organisations, plans
from appliance.accounts.plans import Terms
from appliance.billing import charges
from appliance.database import Connection
from appliance.errors import Unavailable
from appliance.house import House
from appliance.jobs import advance, plan, rows
from appliance.jobs.job import JobKind, Submission


class _Ground(msgspec.Struct, frozen=True):
    """What a submission stands on."""

    status: str
    checks_off: dict[str, bool]
    steps: dict[str, float]
    has_custom: bool
    open_jobs: int
    oldest_at: int | None
    """When the oldest open job was submitted."""
    terms: Terms


def submit(conn: Connection, house: House, org_id: str, key_id: str | None, submission: Submission) -> advance.FollowUp:
    """Accept a job. What follows is in the answer: whom to wake. Raises Unavailable when too many jobs wait, or
    wait too long, AccountTerminated or Forbidden when the account was closed while the request came in, and
    PaymentRequired when it is charged and has nothing left; a batch that has begun is taken whole."""
    ground = _ground(conn, org_id)
    organisations.check_standing(ground.status)
    if ground.open_jobs >= house.settings.server.max_pending_jobs:
        raise Unavailable(
            "Too many jobs are waiting (server.max_pending_jobs); nothing was accepted. Try again", retry_after_s=5
        )
    now = clock.now_ms()
    if ground.oldest_at is not None:
        _check_age(conn, house.settings.server.max_queue_age_s, submission.kind, ground.oldest_at, now)
    if submission.batch_id is None or not rows.has_batch(conn, submission.batch_id):
        charges.check(conn, house.settings, ground.terms, org_id, now)
    job_id = clock.new_id()
    own = custom.asked(conn, org_id, submission.kind.wire) if ground.has_custom else []
    steps = ground.steps if submission.kind is JobKind.PROMPT else {}
    questions = plan.plan(ground.checks_off, own, prompts.now(conn), steps)
    asked = plan.children(submission.kind, questions)
    total = 0 if submission.kind is JobKind.VIDEO else len(asked)
    agreed = charges.agreed(ground.terms, submission.kind.wire)
    rows.insert_job(conn, job_id, org_id, key_id, submission, questions, total, agreed, now)
    charges.on_accept(conn, agreed, org_id, job_id, submission.kind.wire, now)
    if not asked:
        return advance.close_if_done(conn, house.settings, job_id, now)
    rows.insert_children(conn, job_id, asked, now)
    return advance.FollowUp(job_id=job_id, has_work=True)


_TOGETHER = {
    JobKind.PROMPT: (JobKind.PROMPT,),
    JobKind.IMAGE: (JobKind.IMAGE, JobKind.VIDEO),
    JobKind.VIDEO: (JobKind.IMAGE, JobKind.VIDEO),
}
"""Kinds that wait in one lane: a flood of videos does not keep prompts out."""
_LOOKED_AT = 1_000


def _check_age(conn: Connection, most_s: float, kind: JobKind, oldest_at: int, now: int) -> None:
    """Raises Unavailable. Among the oldest thousand only, so that it costs a millisecond at most."""
    late = now - int(most_s * 1000)
    if not most_s or oldest_at > late:
        return
    kinds = ", ".join(f"'{one.value}'" for one in _TOGETHER[kind])
    found = conn.execute(
        f"""
        SELECT 1
        FROM (
            SELECT kind, created_at FROM job WHERE status IN ('queued', 'processing')
            ORDER BY created_at LIMIT {_LOOKED_AT}
        )
        WHERE kind IN ({kinds}) AND created_at <= :late
        """,  # noqa: S608  # names of ours
        {"late": late},
    ).fetchone()
    if found is not None:
        raise Unavailable(
            f"Jobs of this kind have waited for over {most_s:g} s (server.max_queue_age_s); nothing was accepted. "
            "Try again",
            retry_after_s=30,
        )


def _ground(conn: Connection, org_id: str) -> _Ground:
    """In one statement: a submission pays for each."""
    row = conn.execute(
        f"""
        SELECT organisation.status, organisation.checks_off, organisation.prompt_steps,
            EXISTS (SELECT 1 FROM custom_category WHERE org_id = :id AND enabled) AS has_custom,
            (SELECT open_jobs FROM backlog) AS open_jobs,
            (SELECT min(created_at) FROM job WHERE status IN ('queued', 'processing')) AS oldest_at,
            {plans.OWN_OR_PLAN}
        FROM organisation
        LEFT JOIN plan ON plan.slug = organisation.plan
        WHERE organisation.id = :id
        """,  # noqa: S608  # columns of ours
        {"id": org_id},
    ).fetchone()
    return _Ground(
        row["status"],
        msgspec.json.decode(row["checks_off"]),
        msgspec.json.decode(row["prompt_steps"]) if row["prompt_steps"] != "{}" else {},
        bool(row["has_custom"]),
        row["open_jobs"],
        row["oldest_at"],
        plans.terms_in(row),
    )
