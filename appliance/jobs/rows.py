"""The rows of job and child: one function a question, SQL written as SQL. Nothing here decides."""

from collections.abc import Iterable

import msgspec

from appliance.billing.charges import Agreed
from appliance.database import Connection, Row
from appliance.jobs.job import ChildKind, Finding, JobKind, Plan, Status, Submission
from appliance.jobs.plan import Asked

_OPEN = "status IN ('queued', 'processing')"
"""Goes before a narrower question for open children: SQLite reads an index of some rows only where it finds the index's
own condition. Without it each sweep and heartbeat read all of the table: 170 ms a million rows, now 0.02."""


class JobRow(msgspec.Struct, frozen=True):
    seq: int
    id: str
    org_id: str
    key_id: str | None
    kind: JobKind
    status: Status
    origin: str
    request_id: str | None
    plan: Plan
    webhook_url: str | None
    is_prohibited: bool | None
    categories: dict[str, object]
    reason: str | None
    error_code: str | None
    error: str | None
    total: int
    done: int
    created_at: int
    started_at: int | None
    completed_at: int | None
    batch_id: str | None = None
    batch_key: str | None = None
    gpu_ms: int = 0
    tokens: int = 0
    gpu_second_micros: int | None = None
    """What a GPU second of it costs; None = it is not metered."""


class Input(msgspec.Struct, frozen=True):
    """What was submitted: exactly one of the three is not None."""

    text: str | None
    url: str | None
    path: str | None


class Child(msgspec.Struct, frozen=True):
    id: int
    job_id: str
    parent_id: int | None
    kind: ChildKind
    subject: str
    at_ms: int | None
    path: str | None
    status: Status
    attempts: int
    worker: str | None
    finding: Finding | None
    is_positive: bool | None
    error_code: str | None
    error: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None


def job(conn: Connection, job_id: str) -> JobRow | None:
    return _job(conn.execute("SELECT * FROM job WHERE id = :id", {"id": job_id}).fetchone())


def job_for(conn: Connection, org_id: str, job_id: str) -> JobRow | None:
    """The job, if it is this organisation's; None says nothing about other organisations'."""
    return _job(
        conn.execute("SELECT * FROM job WHERE id = :id AND org_id = :org", {"id": job_id, "org": org_id}).fetchone()
    )


def jobs_of_batch(conn: Connection, batch_id: str) -> list[JobRow]:
    """As they were submitted."""
    found = conn.execute("SELECT * FROM job WHERE batch_id = :batch ORDER BY seq", {"batch": batch_id}).fetchall()
    return [job for row in found if (job := _job(row)) is not None]


def newest(conn: Connection, *, org_id: str | None, status: Status | None, limit: int) -> list[JobRow]:
    """The jobs accepted last, of all organisations or of one, in any state or in one: for the operator."""
    found = conn.execute(
        """
        SELECT * FROM job
        WHERE (:org IS NULL OR org_id = :org) AND (:status IS NULL OR status = :status)
        ORDER BY seq DESC  -- as they were accepted, and no sort of a long table
        LIMIT :limit
        """,
        {"org": org_id, "status": status, "limit": limit},
    ).fetchall()
    return [job for row in found if (job := _job(row)) is not None]


class Uses(msgspec.Struct, frozen=True):
    """What a key submitted among the newest jobs of its organisation."""

    jobs: int
    prohibited: int
    newest_at: int | None
    looked_at: int
    """So many jobs, the newest, were looked at: no index leads from a key to its jobs."""


def of_key(conn: Connection, org_id: str, key_id: str, *, most: int = 10_000) -> Uses:
    row = conn.execute(
        """
        SELECT count(*) AS looked_at, ifnull(sum(key_id IS :key), 0) AS jobs,
            ifnull(sum(key_id IS :key AND is_prohibited IS 1), 0) AS prohibited,
            max(CASE WHEN key_id IS :key THEN created_at END) AS newest_at
        FROM (
            SELECT key_id, is_prohibited, created_at FROM job
            WHERE org_id = :org
            ORDER BY created_at DESC
            LIMIT :most
        )
        """,
        {"org": org_id, "key": key_id, "most": most},
    ).fetchone()
    return Uses(row["jobs"], row["prohibited"], row["newest_at"], row["looked_at"])


def words(conn: Connection, job: JobRow) -> dict[str, str]:
    """Slug → question of each custom category that the job is asked, as it stood when the job was submitted."""
    if not job.plan.versions:
        return job.plan.custom
    found = conn.execute(
        """
        SELECT custom_category.slug, custom_category_version.question
        FROM json_each(:versions) AS asked
        JOIN custom_category ON custom_category.org_id = :org AND custom_category.slug = asked.key
        JOIN custom_category_version ON custom_category_version.category_id = custom_category.id
            AND custom_category_version.version = asked.value
        """,
        {"versions": msgspec.json.encode(job.plan.versions).decode(), "org": job.org_id},
    )
    return {**job.plan.custom, **{row["slug"]: row["question"] for row in found}}


def input_of(conn: Connection, job_id: str) -> Input | None:
    """None once it was purged."""
    row = conn.execute("SELECT text, url, path FROM job_input WHERE job_id = :id", {"id": job_id}).fetchone()
    return Input(row["text"], row["url"], row["path"]) if row else None


def children_of(conn: Connection, job_id: str) -> list[Child]:
    return [_child(row) for row in conn.execute("SELECT * FROM child WHERE job_id = :id ORDER BY id", {"id": job_id})]


def open_jobs(conn: Connection) -> int:
    return int(conn.execute("SELECT open_jobs FROM backlog").fetchone()[0])


def has_batch(conn: Connection, batch_id: str) -> bool:
    """Whether a job of this batch was accepted."""
    return conn.execute("SELECT 1 FROM job WHERE batch_id = :batch", {"batch": batch_id}).fetchone() is not None


def insert_job(
    conn: Connection,
    job_id: str,
    org_id: str,
    key_id: str | None,
    sub: Submission,
    plan: Plan,
    total: int,
    agreed: Agreed,
    now: int,
) -> None:
    # past the content too: of a job that was erased, the emptied row stays (jobs/content.py)
    seq = conn.execute(
        """
        INSERT INTO job (seq, id, org_id, key_id, kind, origin, request_id, plan, webhook_url, batch_id, batch_key,
            total, price_micros, gpu_second_micros, created_at)
        VALUES (1 + max(ifnull((SELECT max(seq) FROM job), 0), ifnull((SELECT max(seq) FROM job_content), 0)),
            :id, :org, :key, :kind, :origin, :request, :plan, :webhook, :batch, :batch_key, :total,
            :price, :second, :now)
        """,
        {
            "id": job_id,
            "org": org_id,
            "key": key_id,
            "kind": sub.kind,
            "origin": sub.origin,
            "request": sub.request_id,
            "plan": msgspec.json.encode(plan).decode(),
            "webhook": sub.webhook_url,
            "batch": sub.batch_id,
            "batch_key": sub.batch_key,
            "total": total,
            "price": agreed.job_micros,
            "second": agreed.gpu_second_micros,
            "now": now,
        },
    ).lastrowid
    conn.execute(
        "INSERT INTO job_content (seq, job_id, text, url, path) VALUES (:seq, :id, :text, :url, :path)",
        {"seq": seq, "id": job_id, "text": sub.text, "url": sub.url, "path": sub.path},
    )


def insert_children(conn: Connection, job_id: str, asked: Iterable[Asked], now: int) -> None:
    conn.executemany(
        "INSERT INTO child (job_id, kind, subject, created_at) VALUES (?, ?, ?, ?)",
        [(job_id, one.kind, one.subject, now) for one in asked],
    )


def insert_frames(conn: Connection, extraction: Child, frames: Iterable[tuple[int, str]], now: int) -> int:
    """One FRAME_MODERATION for each (time in ms, path); returns how many."""
    rows = [(extraction.job_id, extraction.id, ChildKind.FRAME, at_ms, path, now) for at_ms, path in frames]
    conn.executemany(
        "INSERT INTO child (job_id, parent_id, kind, at_ms, path, created_at) VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    conn.execute("UPDATE job SET total = :n, done = 0 WHERE id = :id", {"n": len(rows), "id": extraction.job_id})
    return len(rows)


def claim(conn: Connection, job_id: str, worker: str, most: int, now: int, lease_until: int) -> list[Child]:
    """Take up to `most` children that wait and are due; they are this worker's until the lease ends. [] = none left."""
    rows = conn.execute(
        """
        UPDATE child
        SET status = 'processing', worker = :worker, lease_until = :lease, attempts = attempts + 1,
            started_at = ifnull(started_at, :now)
        WHERE status = 'queued' AND id IN (
            SELECT id FROM child
            WHERE job_id = :job AND status = 'queued' AND not_before <= :now
            ORDER BY id LIMIT :most)
        RETURNING *
        """,
        {"job": job_id, "worker": worker, "lease": lease_until, "now": now, "most": most},
    ).fetchall()
    if rows:
        conn.execute(
            """
            UPDATE job SET status = 'processing', started_at = ifnull(started_at, :now)
            WHERE id = :id AND status IN ('queued', 'processing')
            """,
            {"id": job_id, "now": now},
        )
    return sorted((_child(row) for row in rows), key=lambda child: child.id)


def extend(conn: Connection, workers: Iterable[str], lease_until: int) -> None:
    """The heartbeat of everything that these claims hold."""
    conn.executemany(
        f"UPDATE child SET lease_until = ? WHERE {_OPEN} AND status = 'processing' AND worker = ?",  # noqa: S608
        [(lease_until, worker) for worker in workers],
    )


def complete(conn: Connection, child: Child, finding: Finding, is_counted: bool, now: int) -> bool:
    """Record what was found; False when the lease was lost meanwhile, and then nothing is recorded."""
    moved = conn.execute(
        """
        UPDATE child
        SET status = 'completed', finding = :finding, is_positive = :positive, lease_until = NULL, finished_at = :now
        WHERE id = :id AND status = 'processing' AND worker = :worker
        """,
        {
            "id": child.id,
            "worker": child.worker,
            "finding": msgspec.json.encode(finding).decode(),
            "positive": int(finding.is_prohibited or any(finding.categories.values())),
            "now": now,
        },
    ).rowcount
    if moved and is_counted:
        conn.execute("UPDATE job SET done = done + 1 WHERE id = :id", {"id": child.job_id})
    return bool(moved)


def fail(conn: Connection, child: Child, code: str, message: str, now: int) -> bool:
    """Record that it cannot be done; False when the lease was lost meanwhile."""
    moved = conn.execute(
        """
        UPDATE child
        SET status = 'failed', error_code = :code, error = :error, lease_until = NULL, finished_at = :now
        WHERE id = :id AND status = 'processing' AND worker IS :worker
        """,
        {"id": child.id, "worker": child.worker, "code": code, "error": message, "now": now},
    ).rowcount
    return bool(moved)


def put_back(conn: Connection, child: Child, code: str, message: str, not_before: int) -> bool:
    """Let it wait for another try; the passing error stays readable. False when the lease was lost meanwhile."""
    moved = conn.execute(
        """
        UPDATE child
        SET status = 'queued', worker = NULL, lease_until = NULL, not_before = :due, error_code = :code, error = :error
        WHERE id = :id AND status = 'processing' AND worker = :worker
        """,
        {"id": child.id, "worker": child.worker, "due": not_before, "code": code, "error": message},
    ).rowcount
    return bool(moved)


def lost(conn: Connection, now: int) -> list[Child]:
    """Children whose lease has run out: their worker is gone."""
    rows = conn.execute(
        f"SELECT * FROM child WHERE {_OPEN} AND status = 'processing' AND lease_until <= :now",  # noqa: S608
        {"now": now},
    )
    return [_child(row) for row in rows.fetchall()]


def due(conn: Connection, after: int, until: int, limit: int) -> list[str]:
    """Jobs with a child whose wait ended in (after, until]."""
    rows = conn.execute(
        f"""
        SELECT DISTINCT job_id FROM child
        WHERE {_OPEN} AND status = 'queued' AND not_before > :after AND not_before <= :until
        LIMIT :limit
        """,  # noqa: S608
        {"after": after, "until": until, "limit": limit},
    )
    return [row["job_id"] for row in rows]


def sooner(conn: Connection, now: int, by_ms: int) -> None:
    """The clock was set back by so much: what was to be done at a time of before is due as much sooner."""
    moved = {"now": now, "by": by_ms}
    conn.execute(
        f"""
        UPDATE child SET not_before = max(:now, not_before - :by)
        WHERE {_OPEN} AND status = 'queued' AND not_before > :now
        """,  # noqa: S608
        moved,
    )
    conn.execute(
        f"UPDATE child SET lease_until = max(:now, lease_until - :by) WHERE {_OPEN} AND lease_until > :now",  # noqa: S608
        moved,
    )


def due_by(conn: Connection, latest: int) -> None:
    """Nothing waits longer than until then: what was to was put back by a clock that has been set back since."""
    conn.execute(
        f"UPDATE child SET not_before = :latest WHERE {_OPEN} AND status = 'queued' AND not_before > :latest",  # noqa: S608
        {"latest": latest},
    )


def waiting(conn: Connection, before: int, now: int, limit: int) -> list[str]:
    """Jobs, oldest first, with a child that was made before `before` and still waits though it is due; or made after
    `now`, by a clock that has been set back since."""
    rows = conn.execute(
        f"""
        SELECT job_id, min(id) AS first FROM child
        WHERE {_OPEN} AND status = 'queued' AND not_before <= :before AND (created_at <= :before OR created_at > :now)
        GROUP BY job_id ORDER BY first LIMIT :limit
        """,  # noqa: S608
        {"before": before, "now": now, "limit": limit},
    )
    return [row["job_id"] for row in rows]


def has_open_children(conn: Connection, job_id: str) -> bool:
    row = conn.execute(
        "SELECT 1 FROM child WHERE job_id = :id AND status IN ('queued', 'processing') LIMIT 1", {"id": job_id}
    ).fetchone()
    return row is not None


def close(
    conn: Connection,
    job_id: str,
    *,
    is_prohibited: bool | None,
    categories: dict[str, object],
    reason: str | None,
    error_code: str | None,
    error: str | None,
    gpu_ms: int,
    tokens: int,
    now: int,
) -> bool:
    """Give the job its end, once: False when it has one already."""
    moved = conn.execute(
        """
        UPDATE job
        SET status = :status, is_prohibited = :prohibited, categories = :categories, reason = :reason,
            error_code = :code, error = :error, gpu_ms = :gpu_ms, tokens = :tokens, completed_at = :now,
            started_at = ifnull(started_at, :now)
        WHERE id = :id AND status IN ('queued', 'processing')
        """,
        {
            "id": job_id,
            "status": "failed" if error_code else "completed",
            "prohibited": None if is_prohibited is None else int(is_prohibited),
            "categories": msgspec.json.encode(categories).decode(),
            "reason": reason,
            "code": error_code,
            "error": error,
            "gpu_ms": gpu_ms,
            "tokens": tokens,
            "now": now,
        },
    ).rowcount
    return bool(moved)


def _job(row: Row | None) -> JobRow | None:
    if row is None:
        return None
    raw = dict(row)
    raw["plan"] = msgspec.json.decode(raw["plan"])
    raw["categories"] = msgspec.json.decode(raw["categories"]) if raw["categories"] else {"custom": {}}
    raw["is_prohibited"] = None if raw["is_prohibited"] is None else bool(raw["is_prohibited"])
    return msgspec.convert(raw, JobRow)


def _child(row: Row) -> Child:
    raw = {field: row[field] for field in Child.__struct_fields__}
    raw["finding"] = msgspec.json.decode(raw["finding"]) if raw["finding"] else None
    raw["is_positive"] = None if raw["is_positive"] is None else bool(raw["is_positive"])
    return msgspec.convert(raw, Child)
