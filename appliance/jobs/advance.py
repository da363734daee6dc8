"""What follows when a child is done: the last one closes its job, its money is settled, and the webhook's row is born
with the verdict."""

import math
from collections.abc import Iterable

import msgspec

from appliance.billing import charges
from appliance.database import Connection
from appliance.jobs import batch, rows, verdict
from appliance.jobs.job import ChildKind, Status
from appliance.jobs.rows import Child, JobRow
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
    gpu_ms = model_ms(children, count_cpu=settings.billing.count_cpu_seconds)
    merged = verdict.merge(job.kind, job.plan, [child.finding for child in children if child.finding])
    rows.close(
        conn,
        job_id,
        is_prohibited=None if failed else merged.is_prohibited,
        categories={"custom": {}} if failed else merged.categories,
        reason=None if failed else merged.reason,
        error_code=failed.error_code if failed else None,
        error=failed.error if failed else None,
        gpu_ms=gpu_ms,
        tokens=read_tokens(children),
        now=now,
    )
    _settle(conn, job, failed, gpu_ms, now)
    closed = rows.job(conn, job_id)
    delivery = _tell(conn, settings, closed, now) if closed else None
    return FollowUp(job_id, is_closed=True, delivery_id=delivery)


def _tell(conn: Connection, settings: Settings, job: JobRow, now: int) -> str | None:
    """The delivery that this job's end makes: its own, or its batch's when it was the last."""
    if job.batch_id is not None:
        return batch.close_if_done(conn, settings, job.batch_id, now)
    return deliveries.enqueue(conn, settings, job, now)


def model_ms(children: Iterable[Child], *, count_cpu: bool) -> int:
    """What the models spent on these findings on a GPU, or with `count_cpu` on any device: the job's shares of the
    batches that it was answered in, summed, then rounded up to a whole millisecond once a job. Tries whose finding was
    not kept are not counted."""
    spent = [share for child in children if child.finding for share in child.finding.spent_ms.items()]
    # to the microsecond first: 0.1 + 0.2 must not become a millisecond more
    return math.ceil(round(sum(ms for device, ms in spent if count_cpu or device.startswith("cuda")), 3))


def read_tokens(children: Iterable[Child]) -> int:
    """The tokens that a text judge read; 0 where none was asked."""
    texts = [child.finding for child in children if child.kind is ChildKind.TEXT and child.finding]
    return sum(int(finding.detail.get("tokens", 0)) for finding in texts)


def _settle(conn: Connection, job: JobRow, failed: Child | None, gpu_ms: int, now: int) -> None:
    """What the job's end means for the ledger: in this transaction, or not at all."""
    kind = job.kind.wire
    if failed is None:
        charges.on_complete(conn, job.org_id, job.id, kind, gpu_ms, job.gpu_second_micros, now)
    else:
        charges.on_fail(conn, job.org_id, job.id, kind, failed.error_code or "INTERNAL_ERROR", now)
