"""Retention: what is kept too long goes, in small steps with pauses between them, so that writers do not wait.

PURGES says what goes and when. A step is one transaction of a few hundred rows, found by an index; an open job is never
touched. Afterwards the write-ahead log is emptied: until then it holds the pages as they were.
"""

import itertools
import json
import logging
import time
from collections.abc import Callable
from functools import partial

import msgspec

from appliance import clock, database
from appliance.accounts import idempotency
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import content, removal, usage
from appliance.settings import Settings

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_MOST = 100
"""Rows a transaction."""
_PAUSE = 2
"""Times as long as a step took it waits after it: two thirds of the writer's time are left to others."""
_LOG_PATIENCE_S = 2.0  # for readers, a round; the next one tries again

Step = Callable[[Connection, Settings, int, int], int]
Count = Callable[[Connection, Settings, int], int]


class Purge(msgspec.Struct, frozen=True):
    """One kind of what goes."""

    name: str
    what: str
    """In the operator's words."""
    kept_ms: Callable[[Settings], int]
    step: Step
    """(conn, settings, now, most): one transaction's worth is removed, the answer says how much; 0 = nothing is due."""
    due: Count
    """(conn, settings, now): how much is due."""


class Run(msgspec.Struct, frozen=True):
    """When a purge ran last."""

    ran_at: int
    removed: int
    removed_at: int
    """When something was removed last; 0 = never."""
    removed_ever: int


def run(house: House, wait: Callable[[float], object] = time.sleep) -> dict[str, int]:
    """Remove all that is due; how much of each. `wait` is called between steps; a true answer ends the round early."""
    removed: dict[str, int] = {}
    try:
        for purge in PURGES:
            removed[purge.name], goes_on = _through(house, partial(_step, house=house, purge=purge), wait)
            if not goes_on:
                break
        reclaim(house, wait)
        house.db.write(lambda conn: _end(conn, removed))
    finally:  # what did go is not to stay in the log because something else could not
        settle(house, _LOG_PATIENCE_S)
    if any(removed.values()):
        log.info("retention removed", extra={name: n for name, n in removed.items() if n})
    return removed


def due(house: House) -> dict[str, int]:
    """How much each purge would remove now."""
    conn, now = house.db.reader(), clock.now_ms()
    return {purge.name: purge.due(conn, house.settings, now) for purge in PURGES}


def prompts_due(house: House) -> dict[str, int]:
    """How many jobs' content is due now, by organisation."""
    rows = house.db.reader().execute(
        f"SELECT organisation.id, count(*) AS jobs {_INPUTS_DUE} GROUP BY organisation.id",
        _inputs_named(house.settings, clock.now_ms()),
    )
    return {row["id"]: row["jobs"] for row in rows}


def last_runs(conn: Connection) -> dict[str, Run]:
    """By the purge's name; `log` is when the write-ahead log held nothing of what had been removed."""
    return {
        row["what"]: Run(row["ran_at"], row["removed"], row["removed_at"], row["removed_ever"])
        for row in conn.execute("SELECT * FROM retention_run")
    }


def reclaim(house: House, wait: Callable[[float], object] = time.sleep) -> int:
    """Remove the empty rows of content that no kept one is near; how many went."""
    until = content.removable(house.db.reader())
    return 0 if until is None else _through(house, partial(content.remove, until=until, most=_MOST), wait)[0]


def settle(house: House, for_s: float) -> bool:
    """Empty the log when something was removed since that was done last. False when readers were in the way."""
    runs = last_runs(house.db.reader())
    emptied = runs.pop("log", Run(0, 0, 0, 0))
    now = clock.now_ms()
    if all(one.removed_at < emptied.ran_at for one in runs.values()):
        return True
    if not database.empty_log(house.db.path, for_s):
        log.warning("removed rows are still in the write-ahead log, because somebody reads; it is tried again")
        return False
    house.db.write(lambda conn: _ran(conn, "log", 0, now))
    return True


def record(conn: Connection, what: str, removed: int) -> None:
    """So much is removed by this transaction: until it is settled, the log has to be emptied."""
    conn.execute(
        """
        INSERT INTO retention_run (what, ran_at, removed, removed_at, removed_ever) VALUES (:what, 0, 0, :now, :removed)
        ON CONFLICT DO UPDATE SET removed_at = :now, removed_ever = removed_ever + :removed
        """,
        {"what": what, "removed": removed, "now": clock.now_ms()},
    )


def _ran(conn: Connection, what: str, removed: int, now: int) -> None:
    conn.execute(
        """
        INSERT INTO retention_run (what, ran_at, removed, removed_at, removed_ever) VALUES (:what, :now, :removed, 0, 0)
        ON CONFLICT DO UPDATE SET ran_at = :now, removed = :removed
        """,
        {"what": what, "removed": removed, "now": now},
    )


def _through(house: House, step: Callable[[Connection], int], wait: Callable[[float], object]) -> tuple[int, bool]:
    """Step until nothing is due: how much went, and whether to go on."""
    removed = 0
    while True:
        began = time.monotonic()
        went = house.db.write(step)
        if not went:
            return removed, True
        removed += went
        if wait(_PAUSE * (time.monotonic() - began)):
            return removed, False


def _step(conn: Connection, house: House, purge: Purge) -> int:
    went = purge.step(conn, house.settings, clock.now_ms(), _MOST)
    if went:
        record(conn, purge.name, went)
    return went


def _end(conn: Connection, removed: dict[str, int]) -> None:
    now = clock.now_ms()
    for name, count in removed.items():
        _ran(conn, name, count, now)


# --- what goes -------------------------------------------------------------------------------------------------------

_INPUTS_DUE = """
    FROM organisation CROSS JOIN job
    WHERE job.org_id = organisation.id AND has_input = 1 AND completed_at IS NOT NULL
        AND completed_at <= :now - min(ifnull(retain_prompts_days, :prompts), :jobs) * 86400000
"""
_TRACES_DUE = "FROM job WHERE has_trace = 1 AND completed_at IS NOT NULL AND completed_at <= :before"
_DELIVERIES_DUE = "FROM delivery WHERE finished_at IS NOT NULL AND finished_at <= :before"
_JOBS_DUE = "FROM job WHERE has_trace = 0 AND completed_at IS NOT NULL AND completed_at <= :before"
_TO_BE_TOLD = """
    EXISTS (SELECT 1 FROM delivery WHERE delivery.job_id = job.id AND delivery.finished_at IS NULL)
    OR EXISTS (SELECT 1 FROM batch WHERE batch.id = job.batch_id AND batch.completed_at IS NULL)
    OR EXISTS (SELECT 1 FROM delivery WHERE delivery.batch_id = job.batch_id AND delivery.finished_at IS NULL)
"""


def _ids(conn: Connection, due: str, named: dict[str, int], most: int, order: str = "completed_at") -> list[str]:
    table = "delivery" if due is _DELIVERIES_DUE else "job"
    rows = conn.execute(f"SELECT {table}.id {due} ORDER BY {order} LIMIT :most", {**named, "most": most})
    return [row["id"] for row in rows]


def _number(conn: Connection, due: str, named: dict[str, int]) -> int:
    return int(conn.execute(f"SELECT count(*) {due}", named).fetchone()[0])  # all ours


def _inputs_named(settings: Settings, now: int) -> dict[str, int]:
    return {"now": now, "prompts": settings.retention.prompts_days, "jobs": settings.retention.jobs_days}


def _empty_inputs(conn: Connection, settings: Settings, now: int, most: int) -> int:
    return content.empty(conn, _ids(conn, _INPUTS_DUE, _inputs_named(settings, now), most, "organisation.id"))


def _inputs_due(conn: Connection, settings: Settings, now: int) -> int:
    return _number(conn, _INPUTS_DUE, _inputs_named(settings, now))


def _traces_before(settings: Settings, now: int) -> dict[str, int]:
    """A job goes after its trace."""
    return {"before": now - min(settings.retention.traces_days, settings.retention.jobs_days) * DAY_MS}


def _remove_traces(conn: Connection, settings: Settings, now: int, most: int) -> int:
    """Jobs count as rows too: a prompt has one check, a video a hundred and more."""
    removed, bare = removal.children(conn, _ids(conn, _TRACES_DUE, _traces_before(settings, now), most // 2), most)
    conn.execute(
        "UPDATE job SET has_trace = 0 WHERE id IN (SELECT value FROM json_each(:ids))", {"ids": json.dumps(bare)}
    )
    return removed + len(bare)


def _traces_due(conn: Connection, settings: Settings, now: int) -> int:
    return _number(conn, _TRACES_DUE, _traces_before(settings, now))


def _deliveries_before(settings: Settings, now: int) -> dict[str, int]:
    return {"before": now - settings.retention.deliveries_days * DAY_MS}


def _remove_deliveries(conn: Connection, settings: Settings, now: int, most: int) -> int:
    some = _ids(conn, _DELIVERIES_DUE, _deliveries_before(settings, now), most // 2, "finished_at")
    return removal.deliveries(conn, some, most)


def _deliveries_due(conn: Connection, settings: Settings, now: int) -> int:
    return _number(conn, _DELIVERIES_DUE, _deliveries_before(settings, now))


def _jobs_before(settings: Settings, now: int) -> dict[str, int]:
    return {"before": now - settings.retention.jobs_days * DAY_MS}


def _remove_jobs(conn: Connection, settings: Settings, now: int, most: int) -> int:
    # a quarter of them: each is counted in three tables
    rows = conn.execute(
        f"SELECT id, {_TO_BE_TOLD} AS is_needed {_JOBS_DUE} ORDER BY completed_at LIMIT :most",
        {**_jobs_before(settings, now), "most": most // 4},
    )
    # none goes past one that has to stay: the ledger's proof takes what closed later for what is still here
    ended = itertools.takewhile(lambda row: not row["is_needed"], rows)
    return removal.jobs(conn, [row["id"] for row in ended], most)


def _jobs_due(conn: Connection, settings: Settings, now: int) -> int:
    """Those too whose trace goes just before."""
    before = _jobs_before(settings, now)
    return _number(conn, _JOBS_DUE, before) + _number(conn, _TRACES_DUE, before)


def _purge_idempotency(conn: Connection, settings: Settings, now: int, most: int) -> int:
    return idempotency.purge(conn, now - settings.limits.idempotency_hours * _HOUR_MS, most)


def _idempotency_due(conn: Connection, settings: Settings, now: int) -> int:
    before = now - settings.limits.idempotency_hours * _HOUR_MS
    return _number(conn, "FROM idempotency WHERE created_at < :before", {"before": before})


def _purge_minutes(conn: Connection, settings: Settings, now: int, most: int) -> int:
    return usage.purge_minutes(conn, now - usage.MINUTES_KEPT, most)


def _minutes_due(conn: Connection, settings: Settings, now: int) -> int:
    return _number(conn, "FROM usage WHERE step = 60000 AND at < :before", {"before": now - usage.MINUTES_KEPT})


_EVENTS_DUE = """
    FROM organisation CROSS JOIN moderation_event AS event
    WHERE event.org_id = organisation.id AND event.created_at <= :before
"""


def _events_before(settings: Settings, now: int) -> dict[str, int]:
    return {"before": now - settings.retention.moderation_events_days * DAY_MS}


def _remove_events(conn: Connection, settings: Settings, now: int, most: int) -> int:
    rows = conn.execute(f"SELECT event.seq {_EVENTS_DUE} LIMIT :most", {**_events_before(settings, now), "most": most})
    seqs = json.dumps([row["seq"] for row in rows])
    return conn.execute(
        "DELETE FROM moderation_event WHERE seq IN (SELECT value FROM json_each(:seqs))", {"seqs": seqs}
    ).rowcount


def _events_due(conn: Connection, settings: Settings, now: int) -> int:
    return _number(conn, _EVENTS_DUE, _events_before(settings, now))


PURGES = (
    Purge("prompts", "what was submitted", lambda s: s.retention.prompts_days * DAY_MS, _empty_inputs, _inputs_due),
    Purge("traces", "what checks found", lambda s: s.retention.traces_days * DAY_MS, _remove_traces, _traces_due),
    Purge(
        "deliveries",
        "webhook deliveries",
        lambda s: s.retention.deliveries_days * DAY_MS,
        _remove_deliveries,
        _deliveries_due,
    ),
    Purge("jobs", "jobs with their verdicts", lambda s: s.retention.jobs_days * DAY_MS, _remove_jobs, _jobs_due),
    Purge(
        "events",
        "moderation events; the counts by day stay",
        lambda s: s.retention.moderation_events_days * DAY_MS,
        _remove_events,
        _events_due,
    ),
    Purge(
        "idempotency",
        "answers to an Idempotency-Key",
        lambda s: s.limits.idempotency_hours * _HOUR_MS,
        _purge_idempotency,
        _idempotency_due,
    ),
    Purge("minutes", "use by the minute; the hours stay", lambda s: usage.MINUTES_KEPT, _purge_minutes, _minutes_due),
)
"""In this order: a job goes after what hangs on it."""
