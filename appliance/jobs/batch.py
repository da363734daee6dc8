"""Batches: texts submitted together. Each is a job of its own; the batch is told once, when the last of them closes."""

import json
import uuid
from collections.abc import Sequence

import msgspec

from appliance.database import Connection, Row
from appliance.errors import BatchNotFound
from appliance.jobs import rows
from appliance.jobs.job import Status
from appliance.jobs.rows import JobRow
from appliance.settings import Settings
from appliance.webhooks import deliveries

_OPEN = (Status.QUEUED, Status.PROCESSING)


class Batch(msgspec.Struct, frozen=True):
    id: str
    org_id: str
    webhook_url: str | None
    total: int
    """Jobs that it was made of; those that were erased since are missing in `jobs`."""
    created_at: int
    completed_at: int | None
    jobs: list[JobRow]
    """As they were submitted."""

    @property
    def is_completed(self) -> bool:
        return all(job.status not in _OPEN for job in self.jobs)


def insert(conn: Connection, batch_id: str, org_id: str, webhook_url: str | None, total: int, now: int) -> None:
    """After its jobs, in their transaction: until this row is there, none of them can close it."""
    conn.execute(
        """
        INSERT INTO batch (id, org_id, webhook_url, total, created_at)
        VALUES (:id, :org, :webhook, :total, :now)
        """,
        {"id": batch_id, "org": org_id, "webhook": webhook_url, "total": total, "now": now},
    )


def close_if_done(conn: Connection, settings: Settings, batch_id: str, now: int) -> str | None:
    """Close the batch when none of its jobs is open, in the transaction that closed one of them: once, whoever was
    last. Answers the delivery to send, if there is one."""
    moved = conn.execute(
        """
        UPDATE batch SET completed_at = :now
        WHERE id = :id AND completed_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM job WHERE batch_id = :id AND status IN ('queued', 'processing'))
        """,
        {"id": batch_id, "now": now},
    ).rowcount
    if not moved:
        return None
    row = conn.execute("SELECT * FROM batch WHERE id = :id", {"id": batch_id}).fetchone()
    return deliveries.enqueue_batch(conn, settings, _batch(conn, row), now)


def untold(conn: Connection, job_ids: Sequence[str]) -> list[str]:
    """The batches of these jobs whose notice is still to be sent."""
    rows = conn.execute(
        """
        SELECT DISTINCT job.batch_id FROM json_each(:ids) AS one
        JOIN job ON job.id = one.value
        JOIN delivery ON delivery.batch_id = job.batch_id
        WHERE delivery.finished_at IS NULL
        """,
        {"ids": json.dumps(list(job_ids))},
    )
    return [row["batch_id"] for row in rows]


def tell_again(conn: Connection, settings: Settings, batch_id: str) -> None:
    """Its notice anew, of the jobs that are left; a notice goes with each job that is erased."""
    row = conn.execute("SELECT * FROM batch WHERE id = :id", {"id": batch_id}).fetchone()
    if row is not None:
        deliveries.enqueue_batch(conn, settings, _batch(conn, row), row["completed_at"])


def find(conn: Connection, org_id: str, batch_id: str) -> Batch:
    """The organisation's batch. Raises BatchNotFound for one that is not, is another's, or is no id at all."""
    try:
        canonical = str(uuid.UUID(batch_id))
    except ValueError:
        raise BatchNotFound from None
    row = conn.execute(
        "SELECT * FROM batch WHERE id = :id AND org_id = :org", {"id": canonical, "org": org_id}
    ).fetchone()
    if row is None:
        raise BatchNotFound
    return _batch(conn, row)


def _batch(conn: Connection, row: Row) -> Batch:
    return Batch(**dict(row), jobs=rows.jobs_of_batch(conn, row["id"]))
