"""What follows when a child is done: the last one closes its job, and the webhook's row is born with the verdict."""

import msgspec

from appliance.database import Connection
from appliance.jobs import rows, verdict
from appliance.jobs.job import Status
from appliance.settings import Settings
from appliance.webhooks import deliveries


class FollowUp(msgspec.Struct, frozen=True):
    """Whom to wake once the transaction is on disk."""

    job_id: str
    has_work: bool = False
    """Children wait."""
    is_closed: bool = False
    """The job has ended: its media may go."""
    delivery_id: str | None = None


def close_if_done(conn: Connection, settings: Settings, job_id: str, now: int) -> FollowUp:
    """Close the job when none of its children is open. A failed child fails the job (seed 001); what was found already
    stays in its children, for the admin."""
    if rows.has_open_children(conn, job_id):
        return FollowUp(job_id)
    job = rows.job(conn, job_id)
    if job is None or job.status in (Status.COMPLETED, Status.FAILED):
        return FollowUp(job_id, is_closed=True)
    children = rows.children_of(conn, job_id)
    failed = next((child for child in children if child.status is Status.FAILED), None)
    merged = verdict.merge(job.kind, job.plan, [child.finding for child in children if child.finding])
    rows.close(
        conn,
        job_id,
        is_prohibited=None if failed else merged.is_prohibited,
        categories={"custom": {}} if failed else merged.categories,
        reason=None if failed else merged.reason,
        error_code=failed.error_code if failed else None,
        error=failed.error if failed else None,
        now=now,
    )
    closed = rows.job(conn, job_id)
    delivery = deliveries.enqueue(conn, settings, closed, now) if closed else None
    return FollowUp(job_id, is_closed=True, delivery_id=delivery)
