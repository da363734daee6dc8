"""The rows of closed jobs go: their checks, what was sent of them, at last themselves. So many at a time, no more."""

from collections.abc import Sequence

from appliance.database import Connection


def children(conn: Connection, job_ids: Sequence[str], most: int) -> tuple[int, list[str]]:
    """Remove up to `most` checks of these jobs: how many went, and which jobs have none left."""
    removed = 0
    bare: list[str] = []
    for job_id in job_ids:
        # the last first: a video's frames hang on its extraction, and would go with it all at once
        some = conn.execute(
            "SELECT id FROM child WHERE job_id = :id ORDER BY id DESC LIMIT :most",
            {"id": job_id, "most": most - removed},
        ).fetchall()
        conn.executemany("DELETE FROM child WHERE id = ?", some)
        removed += len(some)
        if removed >= most:
            break
        bare.append(job_id)
    return removed, bare


def deliveries(conn: Connection, delivery_ids: Sequence[str], most: int) -> int:
    """Remove up to `most` rows of these deliveries and their attempts; how many went."""
    removed = 0
    for delivery_id in delivery_ids:
        removed += conn.execute(
            """
            DELETE FROM delivery_attempt
            WHERE id IN (SELECT id FROM delivery_attempt WHERE delivery_id = :id LIMIT :most)
            """,
            {"id": delivery_id, "most": most - removed},
        ).rowcount
        if removed >= most:
            break
        removed += conn.execute("DELETE FROM delivery WHERE id = :id", {"id": delivery_id}).rowcount
    return removed


def jobs(conn: Connection, job_ids: Sequence[str], most: int) -> int:
    """Remove these jobs, which have no checks any more, what was sent of them and the event of a picture: up to `most`
    rows; how many went.
    What they still had of their content is emptied."""
    removed = 0
    for job_id in job_ids:
        sent = conn.execute("SELECT id FROM delivery WHERE job_id = :id", {"id": job_id}).fetchall()
        removed += deliveries(conn, [row["id"] for row in sent], most - removed)
        if removed >= most:
            break
        removed += conn.execute("DELETE FROM moderation_event WHERE job_id = :id", {"id": job_id}).rowcount
        removed += conn.execute("DELETE FROM job WHERE id = :id", {"id": job_id}).rowcount
    return removed
