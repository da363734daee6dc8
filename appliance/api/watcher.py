"""Tells progress streams when their jobs move: one query for all of them, and only when the database has changed."""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from appliance import database
from appliance.database import Connection
from appliance.jobs.job import JobKind, Status

log = logging.getLogger(__name__)


class Standing(msgspec.Struct, frozen=True):
    """How far a job is."""

    job_id: str
    kind: JobKind
    status: Status
    total: int
    done: int


class Watcher:
    """One a process. It looks while somebody watches, every `every_s`; `PRAGMA data_version` says whether to query."""

    def __init__(self, path: Path, every_s: float = 0.15) -> None:
        self._path = path
        self._every_s = every_s
        self._watched: dict[str, set[asyncio.Queue[Standing | None]]] = {}
        self._fresh: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_at_end = False
        # A thread of its own, the only one that touches what follows: the shared pool may be full of slow look-ups.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="watcher")
        self._conn: Connection | None = None
        self._version = -1
        self._known: dict[str, Standing] = {}

    def watch(self, job_id: str) -> asyncio.Queue[Standing | None]:
        """A queue that gets the job's standing soon, then each time it has moved, and None when streams must end."""
        queue: asyncio.Queue[Standing | None] = asyncio.Queue()
        if self._is_at_end:
            queue.put_nowait(None)
        self._watched.setdefault(job_id, set()).add(queue)
        self._fresh.add(job_id)
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        return queue

    def leave(self, job_id: str, queue: asyncio.Queue[Standing | None]) -> None:
        queues = self._watched.get(job_id, set())
        queues.discard(queue)
        if not queues:
            self._watched.pop(job_id, None)

    def end(self) -> None:
        """Have every stream end now, and those that begin yet: this process stops, and would wait for them."""
        self._is_at_end = True
        for queues in self._watched.values():
            for queue in queues:
                queue.put_nowait(None)

    @property
    def streams(self) -> int:
        """How many are watching."""
        return sum(len(queues) for queues in self._watched.values())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)
        if self._conn is not None:
            self._conn.close()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watched:
            fresh, self._fresh = self._fresh, set()
            try:
                moved = await loop.run_in_executor(self._thread, self._moved, list(self._watched), fresh)
            except database.Error:
                self._fresh |= fresh
                log.warning("progress not read; it is tried again", exc_info=True)
                moved = []
            for job_id, standing in moved:
                for queue in self._watched.get(job_id, ()):
                    queue.put_nowait(standing)
            await asyncio.sleep(self._every_s)
        self._task = None

    def _moved(self, job_ids: list[str], fresh: set[str]) -> list[tuple[str, Standing | None]]:
        """The watched jobs that are not as they were at the last look, and the fresh ones as they are; None for
        one that was erased."""
        if self._conn is None:
            self._conn = database.connect(self._path)
        (version,) = self._conn.execute("PRAGMA data_version").fetchone()
        if version == self._version and not fresh:
            return []
        found = self._conn.execute(
            """
            SELECT id, kind, status, total, done FROM job
            WHERE id IN (SELECT value FROM json_each(:ids))
            """,
            {"ids": json.dumps(job_ids)},
        ).fetchall()
        self._version = version
        now = {row["id"]: _standing(row["id"], row["kind"], row["status"], row["total"], row["done"]) for row in found}
        before, self._known = self._known, now
        return [
            (job_id, now.get(job_id))
            for job_id in job_ids
            if job_id in fresh or job_id not in now or before.get(job_id) != now[job_id]
        ]


def _standing(job_id: str, kind: str, status: str, total: int, done: int) -> Standing:
    return Standing(job_id=job_id, kind=JobKind(kind), status=Status(status), total=total, done=done)
