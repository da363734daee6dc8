"""From a request to rows: the job, its children, and its end when nothing is asked, all in one transaction."""

import msgspec

from appliance import clock, prompts
from appliance.database import Connection
from appliance.errors import Unavailable
from appliance.house import House
from appliance.jobs import advance, plan, rows
from appliance.jobs.job import JobKind, Submission


def submit(conn: Connection, house: House, org_id: str, key_id: str | None, submission: Submission) -> advance.FollowUp:
    """Accept a job. What follows is in the answer: whom to wake. Raises Unavailable when too many jobs wait."""
    if rows.open_jobs(conn) >= house.settings.server.max_pending_jobs:
        raise Unavailable(
            "Too many jobs are waiting (server.max_pending_jobs); nothing was accepted. Try again", retry_after_s=5
        )
    now = clock.now_ms()
    job_id = clock.new_id()
    asked_of = conn.execute("SELECT checks_off FROM organisation WHERE id = :id", {"id": org_id}).fetchone()
    custom = conn.execute(
        "SELECT slug, question FROM custom_category WHERE org_id = :id AND enabled ORDER BY created_at", {"id": org_id}
    )
    questions = plan.plan(
        msgspec.json.decode(asked_of["checks_off"]),
        {row["slug"]: row["question"] for row in custom},
        prompts.now(conn),
    )
    asked = plan.children(submission.kind, questions)
    total = 0 if submission.kind is JobKind.VIDEO else len(asked)
    rows.insert_job(conn, job_id, org_id, key_id, submission, questions, total, now)
    if not asked:
        return advance.close_if_done(conn, house.settings, job_id, now)
    rows.insert_children(conn, job_id, asked, now)
    return advance.FollowUp(job_id=job_id, has_work=True)
