"""Claim, handle, record: the one road of every job, safe to be run twice, by anyone, at any time."""

import logging
import random
import threading
from collections.abc import Callable, Sequence

from appliance import clock, tracing
from appliance.database import Connection
from appliance.errors import Failure, InferenceDown, ModelUnavailable
from appliance.jobs import advance, rows
from appliance.jobs.advance import FollowUp
from appliance.jobs.job import ChildKind, Finding, JobKind
from appliance.jobs.rows import Child, JobRow
from appliance.settings import Worker
from appliance.work import images, prompts, videos
from appliance.work.hands import Hands
from appliance.work.images import Outcome

log = logging.getLogger(__name__)

_AT_ONCE = {JobKind.PROMPT: 1, JobKind.IMAGE: 64, JobKind.VIDEO: videos.FRAMES_AT_ONCE}
_LONGEST_WAIT_S = 15.0


class Leases:
    """The claims that this process holds, kept alive by a heartbeat."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def take(self) -> str:
        """A name for one claim; a claim that was lost and taken again has another, so it cannot be recorded twice."""
        name = clock.new_id()
        with self._lock:
            self._held.add(name)
        return name

    def give(self, name: str) -> None:
        with self._lock:
            self._held.discard(name)

    def held(self) -> list[str]:
        with self._lock:
            return list(self._held)


class Runner:
    """Works on jobs by id. `wake` is told what follows, after it is on disk."""

    def __init__(self, hands: Hands, wake: Callable[[FollowUp, JobKind], None]) -> None:
        self.hands = hands
        self.leases = Leases()
        self._wake = wake

    def work(self, job_id: str) -> None:
        """Do what waits of this job until nothing is left that is due. Never raises: what fails is recorded."""
        job = rows.job(self.hands.house.db.reader(), job_id)
        if job is None:
            return
        with tracing.request(job.request_id), tracing.span("work", kind=job.kind.value, job=job.id):
            while self._step(job):
                pass

    def beat(self) -> None:
        """Keep every lease of this process."""
        held = self.leases.held()
        if held:
            until = clock.now_ms() + int(self.hands.house.settings.worker.lease_s * 1000)
            self.hands.house.db.write(lambda conn: rows.extend(conn, held, until))

    def _step(self, job: JobRow) -> bool:
        """One claim and its record; False when nothing was there to claim."""
        name = self.leases.take()
        try:
            now = clock.now_ms()
            until = now + int(self.hands.house.settings.worker.lease_s * 1000)
            children = self.hands.house.db.write(
                lambda conn: rows.claim(conn, job.id, name, _AT_ONCE[job.kind], now, until)
            )
            if not children:
                return False
            outcomes, frames = self._handle(job, children)
            follow = self.hands.house.db.write(lambda conn: self._record(conn, job, outcomes, frames))
        finally:
            self.leases.give(name)
        if follow.is_closed:
            images.discard(self.hands, job)
            log.info("job closed", extra={"job": job.id, "kind": job.kind, "ms": clock.now_ms() - job.created_at})
        self._wake(follow, job.kind)
        return not follow.is_closed

    def _handle(
        self, job: JobRow, children: Sequence[Child]
    ) -> tuple[list[tuple[Child, Outcome]], list[tuple[int, str]]]:
        """An outcome for each child, and the frames when the child was an extraction."""
        try:
            match job.kind:
                case JobKind.PROMPT:
                    return [(children[0], prompts.moderate(self.hands, job))], []
                case JobKind.IMAGE:
                    return images.moderate(self.hands, job, children), []
                case JobKind.VIDEO if children[0].kind is ChildKind.EXTRACTION:
                    finding, frames = videos.extract(self.hands, job)
                    return [(children[0], finding)], frames
                case JobKind.VIDEO:
                    return videos.moderate(self.hands, job, children), []
        except Failure as failure:
            return [(child, failure) for child in children], []
        except Exception as error:  # a job fails, the worker lives
            log.exception("job handler broke", extra={"job": job.id, "kind": job.kind})
            broken = Failure(f"internal error ({type(error).__name__}); the log has the details", permanent=False)
            return [(child, broken) for child in children], []

    def _record(
        self, conn: Connection, job: JobRow, outcomes: Sequence[tuple[Child, Outcome]], frames: list[tuple[int, str]]
    ) -> FollowUp:
        """In one transaction: every outcome, the frames it made, and the job's end if it was the last."""
        now = clock.now_ms()
        has_frames = False
        for child, outcome in outcomes:
            if isinstance(outcome, Finding):
                is_counted = child.kind is not ChildKind.EXTRACTION
                if rows.complete(conn, child, outcome, is_counted, now) and frames:
                    has_frames = rows.insert_frames(conn, child, frames, now) > 0
            else:
                wait_s = retry_after(outcome, child.attempts, self.hands.house.settings.worker)
                if wait_s is None:
                    rows.fail(conn, child, outcome.error_code, outcome.message, now)
                else:
                    due = now + int(wait_s * 1000)
                    rows.put_back(conn, child, outcome.error_code, outcome.message, due)
        follow = advance.close_if_done(conn, self.hands.house.settings, job.id, now)
        return FollowUp(job.id, has_frames, follow.is_closed, follow.delivery_id)


def retry_after(
    failure: Failure, attempts: int, worker: Worker, jitter: Callable[[], float] = random.random
) -> float | None:
    """Seconds until the next try, doubling with jitter; None when it is final."""
    if failure.permanent:
        return None
    is_outage = isinstance(failure, InferenceDown | ModelUnavailable)
    if attempts >= (worker.outage_attempts if is_outage else worker.max_attempts):
        return None
    longest = min(_LONGEST_WAIT_S, worker.retry_base_s * 2 ** (attempts - 1))
    return longest * (0.5 + 0.5 * jitter())
