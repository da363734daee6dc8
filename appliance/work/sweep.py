"""Sweep: whatever was lost between the row and the worker is found again. Rows are the truth; this reads them."""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable

from appliance import clock
from appliance.database import Connection
from appliance.jobs import advance, rows
from appliance.jobs.advance import FollowUp
from appliance.jobs.job import JobKind
from appliance.tasks import LANE_OF, Lanes
from appliance.webhooks import deliveries
from appliance.work import images
from appliance.work.runner import Runner

log = logging.getLogger(__name__)

_AT_ONCE = 1000
_STALE_MS = 2_000
"""A child that waits this long while its lane is empty has lost its message."""
_ORPHAN_MEDIA_MS = 3_600_000
_SET_BACK_MS = 5_000
"""A clock that goes back by more was set; by less it is kept right."""
_EVER = 1 << 62
_LONGEST_WAIT_MS = 60_000
"""No retry waits longer (runner.retry_after)."""


class Sweep:
    """Called every few seconds by the worker process; `begin` once, before anything is worked on."""

    def __init__(self, runner: Runner, lanes: Lanes) -> None:
        self._runner = runner
        self._lanes = lanes
        self._house = runner.hands.house
        self._looked_until = 0
        self._clocks = (clock.now_ms(), time.monotonic())

    def begin(self) -> None:
        """A worker process that starts is the only one: whatever is claimed was claimed by a dead one, also when that
        was by a clock that has been set back since."""
        self._release(_EVER)
        now = clock.now_ms()

        def change(conn: Connection) -> None:
            rows.due_by(conn, now + _LONGEST_WAIT_MS)
            deliveries.release(conn, now)

        self._house.db.write(change)

    def once(self) -> None:
        now = clock.now_ms()
        self._mind_the_clock(now)
        self._release(now)
        reader = self._house.db.reader()
        for job_id in rows.due(reader, self._looked_until, now, _AT_ONCE):
            self._wake(job_id)
        self._looked_until = now
        if all(self._is_empty(lane) for lane in set(LANE_OF.values())):
            for job_id in rows.waiting(reader, now - _STALE_MS, now, _AT_ONCE):
                self._wake(job_id)
        if self._is_empty("webhooks"):
            for delivery_id in deliveries.due(reader, now, _AT_ONCE):
                self._lanes.delivery(delivery_id)

    def media(self) -> None:
        """Remove media whose job has closed or never came to be: what a crash between two steps leaves behind."""
        oldest = clock.now_ms() - _ORPHAN_MEDIA_MS
        in_use = self._media_in_use()  # once: a job that is accepted from now on has younger files
        for path in self._house.settings.media_dir.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its job closed at this moment
                if path.name not in in_use and path.stat().st_mtime * 1000 <= oldest:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _media_in_use(self) -> set[str]:
        """What the open jobs' files and folders are called."""
        found = self._house.db.reader().execute(
            """
            SELECT job.id, job_input.path FROM job LEFT JOIN job_input ON job_input.seq = job.seq
            WHERE job.status IN ('queued', 'processing')
            """
        )
        return {name for row in found for name in (row["id"], row["path"]) if name is not None}

    def _mind_the_clock(self, now: int) -> None:
        """What waits for a time that a clock set back will not reach for hours is brought forward."""
        (was, was_exactly), exactly = self._clocks, time.monotonic()
        by_ms = was + int((exactly - was_exactly) * 1000) - now
        if by_ms > _SET_BACK_MS:
            log.warning("the clock was set back; what waits is due as much sooner", extra={"s": by_ms // 1000})

            def change(conn: Connection) -> None:
                rows.sooner(conn, now, by_ms)
                deliveries.sooner(conn, now, by_ms)

            self._house.db.write(change)
            self._looked_until = 0  # or what is due by now would count as looked at
        self._clocks = (now, exactly)

    def _release(self, now: int) -> None:
        """Children whose lease ran out wait again, or fail when they were tried often enough. Those that this process
        holds are in good hands, whatever the clock says."""
        held = set(self._runner.leases.held())
        lost = [child for child in rows.lost(self._house.db.reader(), now) if child.worker not in held]
        most = self._house.settings.worker.max_attempts
        for child in lost:

            def change(conn: Connection, child: rows.Child = child) -> FollowUp:
                if child.attempts < most:
                    rows.put_back(conn, child, "PROVIDER_UNAVAILABLE", "the worker stopped in mid-job", 0)
                    return FollowUp(child.job_id, has_work=True)
                rows.fail(
                    conn, child, "PROVIDER_UNAVAILABLE", "the worker stopped each time it was tried", clock.now_ms()
                )
                return advance.close_if_done(conn, self._house.settings, child.job_id, clock.now_ms())

            follow = self._house.db.write(change)
            if follow.delivery_id is not None:
                self._lanes.delivery(follow.delivery_id)
            if follow.is_closed and (job := rows.job(self._house.db.reader(), child.job_id)) is not None:
                images.discard(self._runner.hands, job)
        for job_id in dict.fromkeys(child.job_id for child in lost):
            log.warning("job taken back from a lost worker", extra={"job": job_id})
            self._wake(job_id)

    def _wake(self, job_id: str) -> None:
        row = self._house.db.reader().execute("SELECT kind FROM job WHERE id = :id", {"id": job_id}).fetchone()
        if row is not None:
            self._lanes.job(job_id, JobKind(row["kind"]))

    def _is_empty(self, lane: str) -> bool:
        return self._lanes.depth(lane) == 0


def every(seconds: float, act: Callable[[], None], wait: Callable[[float], bool]) -> None:
    """Act again and again until `wait` says stop; a failure is logged and the next round comes."""
    while not wait(seconds):
        try:
            act()
        except Exception:
            log.exception("sweep round failed")
