"""A failed job, once more: what was submitted is submitted again, as a new job.

The old one is not reopened. As it closed, its charge was given back, its webhook was written (a delivery's id is the
job's, so there is no second), its hour was counted and its media were deleted. All of that stays true; the new job is
charged and told as any other, and the audit log names both.
"""

import msgspec

from appliance import audit
from appliance.database import Connection
from appliance.errors import InvalidRequest, NotFound
from appliance.house import House
from appliance.jobs import advance, rows
from appliance.jobs.job import Status, Submission
from appliance.jobs.rows import Input, JobRow
from appliance.jobs.submit import submit


class Again(msgspec.Struct, frozen=True):
    """The new job, and what follows from it."""

    job: JobRow
    follow_up: advance.FollowUp


def hindrance(conn: Connection, job: JobRow) -> str | None:
    """Why this job cannot be done again, as a sentence; None when it can."""
    if job.status is not Status.FAILED:
        return f"Job {job.id} is {job.status}; only a failed one is done again"
    if conn.execute("SELECT 1 FROM moderation_event WHERE job_id = :id", {"id": job.id}).fetchone():
        return "It belongs to a decision of POST /v1/moderations, which was answered; its caller asks again"
    before = conn.execute(
        """
        SELECT detail ->> 'new_job' FROM audit
        WHERE subject = :id AND action = 'job.retried'
        ORDER BY id DESC
        """,
        {"id": job.id},
    ).fetchone()
    if before is not None:
        return f"It was done again as job {before[0]}; if that failed too, retry that"
    return _missing(rows.input_of(conn, job.id))


def retry(conn: Connection, house: House, job_id: str, *, actor: str, reason: str) -> Again:
    """Submit it again for the same organisation and webhook address, with the checks as they are now. Raises NotFound,
    InvalidRequest when it did not fail or its content is gone, and what `submit` raises."""
    job = rows.job(conn, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id!r}; it may have been removed (customhouse retention)")
    if issue := hindrance(conn, job):
        raise InvalidRequest(issue)
    given = rows.input_of(conn, job_id)
    assert given is not None  # hindrance has seen it
    follow_up = submit(
        conn,
        house,
        job.org_id,
        None,  # no key asked for it
        Submission(
            job.kind,
            text=given.text,
            url=given.url,
            webhook_url=job.webhook_url,
            origin=job.origin,
            request_id=job.request_id,
        ),
    )
    audit.record(
        conn,
        actor,
        "job.retried",
        job_id,
        org_id=job.org_id,
        reason=reason,
        new_job=follow_up.job_id,
        error_code=job.error_code,
    )
    made = rows.job(conn, follow_up.job_id)
    assert made is not None  # of this transaction
    return Again(made, follow_up)


def _missing(given: Input | None) -> str | None:
    if given is None:
        return "What was submitted is gone: its time to be kept is over (customhouse retention)"
    if given.path is not None:
        # an upload is deleted as its job closes; even where the file is still there, the old job's end may take it
        return "It was an uploaded file, and those are deleted when their job closes; submit the file again"
    return None if given.text or given.url else "Nothing of what was submitted is left"
