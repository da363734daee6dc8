"""Huey: lanes that wake workers. The only file that imports it. A message carries an id; the row is the truth.

Three lanes, so that a flood of videos does not keep a prompt waiting: `prompts`, `media`, `webhooks`. Huey forgets a
message as it hands it out, so nothing here is relied upon: sweep finds what was lost.

Huey polls; its idle poll backs off to seconds, or costs queries all day when it does not. So an idle lane waits on a
doorbell instead, a Unix datagram socket that a process rings after it put a message in.
"""

import contextlib
import json
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from huey import Huey  # pyright: ignore[reportMissingTypeStubs]  # Huey has no types; this is its room
from huey import storage as huey_storage  # pyright: ignore[reportMissingTypeStubs]
from huey.consumer import Consumer  # pyright: ignore[reportMissingTypeStubs]
from huey.registry import Message  # pyright: ignore[reportMissingTypeStubs]
from huey.serializer import Serializer  # pyright: ignore[reportMissingTypeStubs]

from appliance.database import sqlite3
from appliance.jobs.advance import FollowUp
from appliance.jobs.job import JobKind
from appliance.settings import Settings

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false, reportUnknownParameterType=false, reportMissingParameterType=false

log = logging.getLogger(__name__)

LANES = ("prompts", "media", "webhooks")
LANE_OF = {JobKind.PROMPT: "prompts", JobKind.IMAGE: "media", JobKind.VIDEO: "media"}
_PRIORITY = {JobKind.PROMPT: 0, JobKind.IMAGE: 10, JobKind.VIDEO: 0}  # within a lane, an image goes before a video

_MISSED_RING_S = 1.0  # a lane looks by itself this often, should a ring be lost


class _JsonSerializer(Serializer):
    """Messages as JSON: a queue file that somebody else could write must not be unpickled."""

    def _serialize(self, data: Any) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Any:
        fields = json.loads(bytes(data))
        return Message(*fields) if isinstance(fields, list) else fields


class _Storage(huey_storage.SqliteStorage):
    """Huey's SQLite storage on the bundled SQLite, whose idle reader waits for the doorbell."""

    blocking = True

    def __init__(self, *args: Any, doorbell: Path, **kwargs: Any) -> None:
        self._doorbell = doorbell
        self._ear: socket.socket | None = None
        self._mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._mouth.setblocking(False)
        self._inode = 0
        for is_last in (False, False, True):
            try:
                super().__init__(*args, **kwargs)
                return
            except sqlite3.DatabaseError as error:
                if is_last or not (_is_damaged(error) or self._has_moved()):
                    raise

    @contextlib.contextmanager
    def db(self, commit: bool = False, close: bool = False) -> Generator[Any]:
        """As Huey's, but on the file that is there: one that was deleted is let go of, as others put their messages
        into the new one, and one that a power cut damaged makes room for a new one. Sweep fills it."""
        if self._conn is not None and self._has_moved():
            self.close_file()
        try:
            with super().db(commit, close) as cursor:
                yield cursor
        except sqlite3.DatabaseError as error:
            has_moved = self._has_moved()
            if has_moved or _is_damaged(error):
                self.close_file()
            if _is_damaged(error) and not has_moved:  # else somebody has begun a new one
                log.error("queue file damaged; a new one is begun", extra={"file": self.filename, "why": str(error)})
                remove(Path(self.filename))
            raise

    def _has_moved(self) -> bool:
        """The file of this name is not the one that was opened."""
        return self._inode != _inode(self.filename)

    def _create_connection(self) -> Any:
        conn = sqlite3.connect(self.filename, timeout=10, check_same_thread=False, isolation_level=None)
        self._inode = _inode(self.filename)
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = OFF")  # rows are the truth: this file may be lost
        for statement in self.ddl:  # the file may be new, though the process is not
            conn.execute(statement)
        return conn

    def close_file(self) -> None:
        with self.lock, contextlib.suppress(sqlite3.Error):
            conn, self._conn = self._conn, None
            if conn is not None:
                conn.close()

    def listen(self) -> None:
        """Become the one who is woken."""
        self._doorbell.unlink(missing_ok=True)
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.setblocking(False)
        self._ear.bind(str(self._doorbell))

    def close(self) -> bool:
        self._mouth.close()
        if self._ear is not None:
            self._ear.close()
        return super().close()

    def enqueue(self, data: Any, priority: Any = None) -> None:
        super().enqueue(data, priority)
        self._ring()

    def enqueue_all(self, messages: list[tuple[bytes, int]]) -> None:
        """Many in one transaction and with one ring: it wakes every thread that is idle."""
        with self.db(commit=True) as cursor:
            cursor.executemany(
                "INSERT INTO task (queue, data, priority) VALUES (?, ?, ?)",
                [(self.name, data, priority) for data, priority in messages],
            )
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # nobody listens yet, or enough rings wait already
            self._mouth.sendto(b"!", str(self._doorbell))

    def dequeue(self) -> Any:
        found = super().dequeue()
        if found is None and self._ear is not None:
            select.select([self._ear], [], [], _MISSED_RING_S)
            with contextlib.suppress(OSError):  # another thread heard it
                self._ear.recv(16)
            found = super().dequeue()
        return found


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Malformed, or no database at all; not merely locked, full or failing."""
    return not isinstance(error, sqlite3.OperationalError)


Handler = Callable[[str], None]


def _unhandled(_: str) -> None:
    raise RuntimeError("this process only puts messages in")


class Lanes:
    """The three lanes of one process, to put messages in or to work them off."""

    def __init__(self, settings: Settings, on_job: Handler = _unhandled, on_delivery: Handler = _unhandled) -> None:
        self._settings = settings
        self._hueys: dict[str, Any] = {}
        self._tasks: dict[str, Any] = {}
        self._consumers: dict[str, Any] = {}
        self._since: dict[int, float] = {}  # thread → since when it has had its present step in hand
        for lane in LANES:
            huey = Huey(
                lane,
                results=False,
                serializer=_JsonSerializer(),
                storage_class=_Storage,
                filename=str(settings.queue),
                doorbell=settings.run_dir / f"{lane}.sock",
            )
            self._hueys[lane] = huey
            self._tasks[lane] = _task(huey, self._timed(on_delivery if lane == "webhooks" else on_job))

    def job(self, job_id: str, kind: JobKind) -> None:
        """Wake a worker for this job. Never raises: what is not said here, sweep says later."""
        self._put(LANE_OF[kind], job_id, _PRIORITY[kind])

    def delivery(self, delivery_id: str) -> None:
        self._put("webhooks", delivery_id, 0)

    def follow(self, follow_up: FollowUp, kind: JobKind) -> None:
        """Wake whom a transaction named. A thread of a lane that says so has ended a step."""
        if threading.get_ident() in self._since:
            self._since[threading.get_ident()] = time.monotonic()
        if follow_up.has_work:
            self.job(follow_up.job_id, kind)
        if follow_up.delivery_id is not None:
            self.delivery(follow_up.delivery_id)

    def follow_all(self, follow_ups: Iterable[tuple[FollowUp, JobKind]]) -> None:
        """Wake whom several transactions named, with one write a lane. Never raises."""
        wanted: dict[str, list[tuple[str, int]]] = {}
        for follow_up, kind in follow_ups:
            if follow_up.has_work:
                wanted.setdefault(LANE_OF[kind], []).append((follow_up.job_id, _PRIORITY[kind]))
            if follow_up.delivery_id is not None:
                wanted.setdefault("webhooks", []).append((follow_up.delivery_id, 0))
        for lane, subjects in wanted.items():
            huey, task = self._hueys[lane], self._tasks[lane]
            try:
                huey.storage.enqueue_all(
                    [(huey.serialize_task(task.s(subject)), priority) for subject, priority in subjects]
                )
            except Exception:
                log.exception("messages not queued; sweep will find the rows", extra={"lane": lane, "n": len(subjects)})

    def depth(self, lane: str) -> int:
        """Messages that wait in a lane. Raises sqlite3.Error when the queue file cannot be read."""
        return int(self._hueys[lane].storage.queue_size())

    def start(self, threads: dict[str, int], begin: Callable[[], object] | None = None) -> None:
        """Work the lanes off in `threads` threads each, until stop(); each thread calls `begin` first of all."""
        for lane, huey in self._hueys.items():
            huey.storage.listen()
            if begin is not None:
                huey.on_startup("begin")(begin)
            consumer = Consumer(
                huey,
                workers=threads[lane],
                periodic=False,
                initial_delay=0.05,
                max_delay=0.5,
                check_worker_health=False,
            )
            # ours are in the process's main; Huey offers no switch
            consumer._set_signal_handlers = _leave_signals_alone  # pyright: ignore[reportPrivateUsage]
            consumer.start()
            self._consumers[lane] = consumer

    def stuck(self, limits_s: Mapping[str, float]) -> list[str]:
        """The lanes in which nobody moves: every thread has had one step in hand for longer than its lane's limit, or
        has died. Nothing before start()."""
        now = time.monotonic()
        found: list[str] = []
        for lane, consumer in self._consumers.items():
            here = [thread.ident for _, thread in consumer.worker_threads if thread.is_alive()]
            if all(now - self._since.get(ident, now) > limits_s[lane] for ident in here):
                found.append(lane)
        return found

    def stop(self, timeout_s: float) -> None:
        """Let every thread finish what it has in hand, for `timeout_s` at most."""
        for consumer in self._consumers.values():
            consumer.stop_flag.set()
        until = time.monotonic() + timeout_s
        for consumer in self._consumers.values():
            for _, thread in consumer.worker_threads:
                thread.join(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Let go of the queue file and the doorbells; after stop() where it was started."""
        for huey in self._hueys.values():
            huey.storage.close()

    def _timed(self, handler: Handler) -> Handler:
        def handle(subject: str) -> None:
            me = threading.get_ident()
            self._since[me] = time.monotonic()
            try:
                handler(subject)
            finally:
                self._since.pop(me, None)

        return handle

    def _put(self, lane: str, subject: str, priority: int) -> None:
        try:
            self._hueys[lane].enqueue(self._tasks[lane].s(subject, priority=priority))
        except Exception:
            log.exception("message not queued; sweep will find the row", extra={"lane": lane, "subject": subject})


def _task(huey: Any, handler: Handler) -> Any:
    """The lane's one task. Huey names it by module and function, so both sides of the queue must define it here."""

    def work(subject: str) -> None:
        handler(subject)

    return huey.task()(work)


def _leave_signals_alone() -> None:
    return None


def forget(settings: Settings) -> None:
    """Remove the queue file, e.g. after it was damaged: sweep fills a new one."""
    remove(settings.queue)


def remove(path: Path) -> None:
    """A database file and what lies beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def default_enqueue(path: Path) -> tuple[Callable[[str], None], Callable[[], None]]:
    """Huey as it comes, on a file of its own: what `customhouse bench` compares our accepts with. The second closes
    it; Python 3.13 warns of a connection that nobody closed."""
    from huey import SqliteHuey  # pyright: ignore[reportMissingTypeStubs]

    huey: Any = SqliteHuey(filename=str(path))
    task: Any = huey.task(name="nothing")(_unhandled)

    def enqueue(subject: str) -> None:
        huey.enqueue(task.s(subject))

    def close() -> None:
        huey.storage.close()

    return enqueue, close
