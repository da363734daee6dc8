"""The queue and the jobs: whether what was accepted gets done."""

from __future__ import annotations

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, skipped, warning

_OLD_S = 600.0
_HOUR_MS = 3_600_000
_FEW = 20
"""Jobs below which a share says nothing."""


def _file(context: Context) -> Outcome:
    import contextlib

    from appliance.database import sqlite3

    path = context.house().queue
    if not path.exists():
        return skipped("There is no queue yet; customhouse makes it as it first starts")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as conn:
            wrong = [row[0] for row in conn.execute("PRAGMA quick_check(10)") if row[0] != "ok"]
    except sqlite3.DatabaseError as error:
        wrong = [type(error).__name__]
    if wrong:
        return failed(
            "The queue's file is damaged",
            cause="the machine lost power; this file is written without waiting for the disk, because it may be lost",
            fix="stop everything, then: customhouse doctor queue --fix. Sweep fills a new one from the database",
            mendable=True,
            wrong=len(wrong),
        )
    return ok("The queue's file is whole", wrong=0)


def _forget(context: Context) -> str:
    """Only while no process has it open."""
    import fcntl

    settings = context.house()
    lock = settings.run_dir / "worker.lock"
    if lock.exists():
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError("a worker runs; stop everything first") from None
    from appliance.doctor.checks import ports

    if ports.report(context) is not None:
        raise RuntimeError("the API runs; stop everything first")
    from appliance import tasks

    tasks.forget(settings)
    return "removed the damaged queue; it is filled again from the database"


def _depth(context: Context) -> Outcome:
    most = context.known().server.max_pending_jobs
    with context.database() as conn:
        (open_jobs,) = conn.execute("SELECT open_jobs FROM backlog").fetchone()
    if open_jobs > 0.8 * most:
        say = failed if open_jobs >= most else warning
        return say(
            f"{open_jobs:,} jobs wait; at {most:,} new ones are refused",
            cause="more comes in than the models can judge, or nothing works it off",
            fix="customhouse doctor sockets models; more worker.threads, a GPU, or a lower rate limit",
            open_jobs=open_jobs,
            most=most,
        )
    return ok(f"{open_jobs:,} jobs are open", open_jobs=open_jobs, most=most)


def _age(context: Context) -> Outcome:
    with context.database() as conn:
        row = conn.execute("SELECT min(created_at) FROM job WHERE status IN ('queued', 'processing')").fetchone()
    age_s = 0.0 if row[0] is None else max(0.0, context.now() - row[0] / 1000)
    if age_s > _OLD_S:
        return warning(
            f"The oldest open job has waited {age_s / 60:.0f} minutes",
            cause="no worker runs, a model is missing, or the backlog is long",
            fix="customhouse jobs list --status queued; customhouse doctor sockets models",
            oldest_s=round(age_s),
        )
    return ok(f"The oldest open job has waited {age_s:.0f} s" if row[0] else "No job is open", oldest_s=round(age_s))


def _leases(context: Context) -> Outcome:
    now_ms = int(context.now() * 1000)
    patience_ms = int(context.known().worker.lease_s * 2000)
    with context.database() as conn:
        (stuck,) = conn.execute(
            "SELECT count(*) FROM child WHERE status = 'processing' AND lease_until < :late",
            {"late": now_ms - patience_ms},
        ).fetchone()
    if stuck:
        return failed(
            f"{stuck} child jobs are claimed by a worker that is gone",
            cause="the worker was killed, and none has run since to take them back",
            fix="customhouse work (or systemctl restart customhouse-worker): it takes them back as it starts",
            stuck=stuck,
        )
    return ok("No child job is stuck", stuck=0)


def _lost(context: Context) -> Outcome:
    """Open jobs with nothing left to do: nothing will ever close them."""
    with context.database() as conn:
        (lost,) = conn.execute(
            """
            SELECT count(*) FROM job
            WHERE status IN ('queued', 'processing') AND created_at < :before
                AND NOT EXISTS (SELECT 1 FROM child WHERE job_id = job.id AND child.status IN ('queued', 'processing'))
            """,
            {"before": int(context.now() * 1000) - 60_000},
        ).fetchone()
    if lost:
        return failed(
            f"{lost} open jobs have no child left to do",
            cause="rows of children were removed by hand, or a fault of ours",
            fix="customhouse jobs list --status processing; then customhouse erase job ID, and have it submitted again",
            lost=lost,
        )
    return ok("Every open job has something to do", lost=0)


def _failures(context: Context) -> Outcome:
    since = int(context.now() * 1000) - 24 * _HOUR_MS
    with context.database() as conn:
        total, broken = conn.execute(
            """
            SELECT count(*), count(*) FILTER (WHERE status = 'failed') FROM job
            WHERE completed_at >= :since AND status IN ('completed', 'failed')
            """,
            {"since": since},
        ).fetchone()
        codes = conn.execute(
            """
            SELECT error_code, count(*) FROM job WHERE completed_at >= :since AND status = 'failed'
            GROUP BY 1 ORDER BY 2 DESC LIMIT 3
            """,
            {"since": since},
        ).fetchall()
    share = broken / total if total else 0.0
    evidence = {"closed": total, "failed": broken, "codes": [row[0] or "" for row in codes]}
    if total >= _FEW and share > 0.05:
        return warning(
            f"{share:.0%} of the {total:,} jobs of a day failed, most with {codes[0][0]}",
            cause="README lists what each error code means",
            fix="customhouse jobs list --status failed; customhouse jobs explain ID",
            evidence=evidence,
        )
    return ok(f"{broken:,} of {total:,} jobs of a day failed", evidence=evidence)


def _worker(context: Context) -> Outcome:
    """Somebody holds the worker's lock whenever jobs wait."""
    import fcntl

    lock = context.house().run_dir / "worker.lock"
    with context.database() as conn:
        (open_jobs,) = conn.execute("SELECT open_jobs FROM backlog").fetchone()
    is_held = False
    if lock.exists():
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                is_held = True
            except OSError as error:
                raise Skip("The worker's lock cannot be looked at by this user") from error
    if open_jobs and not is_held:
        return failed(
            f"No worker runs, and {open_jobs:,} jobs wait",
            cause="it was not started, or it ended",
            fix="customhouse work (or systemctl start customhouse-worker)",
            is_running=False,
            open_jobs=open_jobs,
        )
    return ok(
        "A worker runs" if is_held else "No worker runs, and nothing waits", is_running=is_held, open_jobs=open_jobs
    )


CHECKS = (
    Check(
        "queue.file",
        "The queue's file",
        "queue.db only wakes workers; the rows of the database are the truth. A damaged one is removed by --fix while "
        "nothing runs, and filled again.",
        _file,
        mend=_forget,
    ),
    Check(
        "queue.depth", "Backlog", "Open jobs against server.max_pending_jobs, at which new ones are refused.", _depth
    ),
    Check("queue.age", "Oldest job", "How long the oldest open job has waited; ten minutes are too long.", _age),
    Check(
        "queue.leases",
        "Stuck leases",
        "Children claimed by a worker that said nothing for twice worker.lease_s.",
        _leases,
    ),
    Check("queue.lost", "Lost children", "Open jobs none of whose children is left to do.", _lost),
    Check(
        "queue.failures", "Failed jobs", "The share of a day's jobs that failed, and their commonest codes.", _failures
    ),
    Check("queue.worker", "A worker", "Whether a worker runs while jobs wait.", _worker),
)
