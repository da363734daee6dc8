"""SQLite: the file that is the truth, one writer thread a process that commits what is waiting together.

Reads use a connection of the calling thread. Writes are functions handed to the writer: it opens one transaction
(BEGIN IMMEDIATE, synchronous=FULL), runs all that wait, each in a savepoint of its own, commits once and then answers
everybody. So a function that returned is on disk, and thirty callers cost one fsync.
"""

import asyncio
import contextlib
import fcntl
import queue
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from appliance import installed
from appliance.errors import Forbidden, Misconfigured, Unavailable
from appliance.schema import migrations

if TYPE_CHECKING:
    import sqlite3  # pysqlite3 is the same module over a newer SQLite, but carries no types
else:
    from pysqlite3 import dbapi2 as sqlite3

OLDEST_SQLITE = (3, 51, 3)
"""Releases before it can corrupt a WAL database that several connections write (the WAL-reset bug)."""

Connection = sqlite3.Connection
Row = sqlite3.Row
Error = sqlite3.Error
IntegrityError = sqlite3.IntegrityError
OperationalError = sqlite3.OperationalError

T = TypeVar("T")

_Waiter = Future[Any] | asyncio.Future[Any]
_Waiting = tuple[Callable[[Connection], Any], _Waiter]
_Answer = tuple[_Waiter, Any, Exception | None]

_PATIENCE_S = 15.0  # who waits for an answer over HTTP waits no longer than this for the file
_TOGETHER = 256  # the most functions in one commit: keeps p99 low when thousands wait
_SLOW_S = 5.0  # a commit that takes longer waits for somebody else's lock, or for the disk


def connect(path: Path, *, timeout_s: float = 30.0) -> sqlite3.Connection:
    """A connection with our settings, which waits so long for other writers. Raises Misconfigured on an SQLite that can
    corrupt the file."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise Misconfigured(
            f"SQLite {sqlite3.sqlite_version} can corrupt this database; "
            f"install the pinned pysqlite3 (SQLite ≥ {'.'.join(map(str, OLDEST_SQLITE))})"
        )
    conn = sqlite3.connect(str(path), timeout=timeout_s, isolation_level=None, check_same_thread=False)
    conn.row_factory = sqlite3.Row
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA secure_delete = ON").fetchone()  # what goes is zeroed
    conn.execute("PRAGMA cache_size = -65536")
    return conn


def look(path: Path) -> sqlite3.Connection:
    """A connection for a reader who may write neither the file nor beside it: nothing is made, not even a log.

    Without a log nobody has it open, and it is read as it lies; `Database.reader` asks again when a log appears.
    """
    beside = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    conn = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro{beside}",
        uri=True,
        timeout=30.0,
        isolation_level=None,
        check_same_thread=False,
    )
    conn.row_factory = sqlite3.Row
    conn.execute("PRAGMA query_only = ON")
    return conn


def check_readable(path: Path) -> None:
    """For a reader. Raises Misconfigured with what to do when the file is not there, not theirs to read, or of another
    version."""
    try:
        if not path.exists():
            raise Misconfigured(f"{path}: there is no database yet; start Customhouse first: customhouse up")
        conn = look(path)
        try:
            applied = _applied(conn)
        finally:
            conn.close()
    except (OSError, sqlite3.Error) as error:
        raise Misconfigured(
            f"{path}: cannot be read by you ({error}); ask its owner, or join the Unix group that it belongs to"
        ) from error
    known = set(migrations.names)
    if applied < known:
        raise Misconfigured(
            f"{path}: its tables are of an older version; whoever may change it brings them up to date: customhouse up"
        )
    if applied - known:
        raise Misconfigured(f"{path}: its tables are of a newer version; use the customhouse that they were made by")


def _applied(conn: sqlite3.Connection) -> set[str]:
    """The names of the migrations that it has had."""
    if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone():
        return set()
    return {row["name"] for row in conn.execute("SELECT name FROM _sqlite_migrations")}


def applied(path: Path) -> list[str]:
    """The migrations that the file has had, those of ours in order, then unknown ones. Nothing is made or changed."""
    conn = look(path)
    try:
        found = _applied(conn)
    finally:
        conn.close()
    return [*(name for name in migrations.names if name in found), *sorted(found - set(migrations.names))]


def migrate(path: Path, *, is_ours: bool | None = None) -> None:
    """Bring the file to the newest schema; made if it is not there. Safe when several processes start at once.

    Raises Misconfigured when it is of a newer version, and when it is of an older one and this version is installed but
    not the current one (`is_ours`, which is found out otherwise): a command of a version that lies ready, or a process
    that was started before a rollback, must not change the tables under the version that runs.
    """
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    with alone(path):
        conn = connect(path)
        try:
            had, known = _applied(conn), set(migrations.names)
            if had - known:
                raise Misconfigured(
                    f"{path}: its tables are of a newer version; use the customhouse that they were made by"
                )
            if not known <= had:
                here = installed.place()
                if here is not None and not (installed.is_current(here) if is_ours is None else is_ours):
                    raise Misconfigured(
                        f"{path}: its tables are of another version, and this one ({here.version}) is not the current "
                        f"one; to change to it: customhouse release activate {here.version}"
                    )
                import sqlite_utils  # 130 ms, for nothing when there is nothing to do

                migrations.apply(sqlite_utils.Database(conn))
        finally:
            conn.close()
    if is_new:  # later it is the operator's: their group may write it (admin.group)
        path.chmod(0o640)


@contextlib.contextmanager
def alone(path: Path) -> Generator[None]:
    """Nobody else changes the tables meanwhile, and no process of ours gets past its start."""
    with open(path.with_suffix(".migrate"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def undo(path: Path, back_to: str) -> list[str]:
    """Take back the migrations after `back_to`, the newest first; those that were. Whoever calls holds `alone`, and has
    stopped the processes. Raises Misconfigured, before anything has changed, when one of them cannot be taken back."""
    conn = connect(path)
    try:
        names = migrations.to_undo(_applied(conn), back_to)
        for name in names:
            migrations.undo(conn, name)
    finally:
        conn.close()
    return names


def once(path: Path, change: Callable[[Connection], T]) -> T:
    """`change` in a transaction on a connection of its own, for whoever holds no `Database`. Raises Error, and keeps
    nothing then."""
    conn = connect(path)
    try:
        conn.execute("BEGIN IMMEDIATE")
        done = change(conn)
        conn.execute("COMMIT")
        return done
    finally:
        conn.close()  # which takes back what was not committed


def empty_log(path: Path, for_s: float) -> bool:
    """Bring everything into the main file and empty the write-ahead log, in which what was deleted still stands. False
    when somebody's reading stood in the way for so long. Writers wait for it 100 ms at most."""
    conn = connect(path, timeout_s=0.1)
    until = time.monotonic() + for_s
    try:
        while True:
            # what this copies need not be copied while writers wait
            conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            busy, _, _ = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
    finally:
        conn.close()


class Database:
    """One process's hold of the file. With `why_not` it is for looking: every write is refused with that sentence."""

    def __init__(self, path: Path, *, why_not: str = "") -> None:
        self.path = path
        self._why_not = why_not
        self._local = threading.local()
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._failed = ""
        self._commit_began: float | None = None
        self._writer = threading.Thread(target=self._write_all, name="database-writer", daemon=True)
        if not why_not:
            self._writer.start()

    def reader(self) -> Connection:
        """This thread's connection, for SELECT. Each statement sees the newest commit."""
        if self._why_not:
            return self._looking()
        conn: Connection | None = getattr(self._local, "conn", None)
        if conn is None:
            conn = connect(self.path)
            conn.execute("PRAGMA query_only = ON")
            conn.execute("PRAGMA cache_size = -16384")  # there may be dozens; the system keeps pages for all of them
            self._local.conn = conn
        return conn

    def _looking(self) -> Connection:
        """Opened anew when somebody began or ended writing: what was read as it lay would not follow the log."""
        has_log = self.path.with_name(f"{self.path.name}-wal").exists()
        held: tuple[Connection, bool] | None = getattr(self._local, "looking", None)
        if held is not None and held[1] == has_log:
            return held[0]
        if held is not None:
            held[0].close()
        self._local.looking = (look(self.path), has_log)
        return self._local.looking[0]

    def write(self, change: Callable[[Connection], T]) -> T:
        """Run `change` in a transaction; when this returns, it is on disk. What `change` raises is raised here, and
        nothing of it is kept. Raises Unavailable when the file cannot be written (disk full, locked for long), and
        Forbidden when this is for looking."""
        if self._why_not:
            raise Forbidden(self._why_not)
        future: Future[T] = Future()
        self._waiting.put((change, future))
        return future.result()

    async def write_async(self, change: Callable[[Connection], T]) -> T:
        """`write` for an event loop, which waits 15 s at most. A caller that is cancelled meanwhile does not know
        whether it was done; what was not begun by then never is."""
        if self._why_not:
            raise Forbidden(self._why_not)
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put((change, waiter))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await waiter
        except TimeoutError as error:
            if not waiter.cancelled():  # it is the change's own
                raise
            raise Unavailable("The database cannot be written at the moment; try again", retry_after_s=5) from error

    @property
    def trouble(self) -> str:
        """Why nothing can be written, as the last commit found; empty when it could, or nothing was to be written."""
        began = self._commit_began
        if began is not None and time.monotonic() - began > _SLOW_S:
            return f"a commit has been waiting for {time.monotonic() - began:.0f} s: another program holds the lock"
        return self._failed

    def try_again(self) -> None:
        """Have the writer find out whether `trouble` is over; nobody waits for it."""
        if self._waiting.empty():
            self._waiting.put((_touch, Future()))

    def close(self) -> None:
        """Finish what waits, then stop the writer."""
        if self._why_not:
            return
        self._waiting.put(None)
        self._writer.join()

    def _write_all(self) -> None:
        conn: Connection | None = None
        while (first := self._waiting.get()) is not None:
            together = [first]
            stop = False
            while len(together) < _TOGETHER and not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    stop = True
                    break
                together.append(item)
            self._commit_began = time.monotonic()
            conn, self._failed = self._commit_on(conn, together)
            self._commit_began = None
            if stop:
                break
        if conn is not None:
            conn.close()

    def _commit_on(self, conn: Connection | None, together: list[_Waiting]) -> tuple[Connection | None, str]:
        """The connection to go on with, and why nothing was committed. Raises nothing, whatever the disk does: without
        this thread everybody would wait for ever."""
        if conn is None:
            try:
                conn = connect(self.path)
            except Exception as error:
                _answer([(future, None, _unavailable(error)) for _, future in together])
                return None, str(error)
        failed = self._commit(conn, together)
        if failed and conn.in_transaction:  # it could not even be rolled back
            with contextlib.suppress(sqlite3.Error):
                conn.close()
            return None, failed
        return conn, failed

    def _commit(self, conn: Connection, together: list[_Waiting]) -> str:
        """One transaction for all of `together`; then, and only then, everybody is answered. Why it failed; empty when
        it did not."""
        answers: list[_Answer] = []
        try:
            conn.execute("BEGIN IMMEDIATE")
            for change, future in together:
                if future.cancelled():  # its caller left, and was told so
                    continue
                conn.execute("SAVEPOINT one")
                try:
                    answers.append((future, change(conn), None))
                except Exception as error:
                    if not conn.in_transaction:  # SQLite gave up the whole transaction: disk full, I/O error
                        raise
                    conn.execute("ROLLBACK TO one")
                    answers.append((future, None, error))
                conn.execute("RELEASE one")
            conn.execute("COMMIT")
        except Exception as error:  # nothing of the batch is on disk: everybody is told so
            with contextlib.suppress(sqlite3.Error):
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
            _answer([(future, None, _unavailable(error)) for _, future in together])
            return str(error) or type(error).__name__
        _answer(answers)
        return next((str(error) for _, _, error in answers if isinstance(error, sqlite3.OperationalError)), "")


def _touch(conn: Connection) -> None:
    """The least that has to reach the disk."""
    conn.execute("UPDATE backlog SET open_jobs = open_jobs")


def _answer(answers: list[_Answer]) -> None:
    """Tell everybody; an event loop is woken once for all of its own (137 → 112 µs of CPU an accept, 32 waiters)."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
    for answer in answers:
        future = answer[0]
        if isinstance(future, asyncio.Future):
            by_loop.setdefault(future.get_loop(), []).append(answer)
        else:
            _settle([answer])
    for loop, own in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(_settle, own)


def _settle(answers: list[_Answer]) -> None:
    for future, value, failed in answers:
        if future.cancelled():
            continue  # its caller left
        if failed is None:
            future.set_result(value)
        else:
            future.set_exception(_unavailable(failed) if isinstance(failed, sqlite3.OperationalError) else failed)


def _unavailable(error: Exception) -> Exception:
    if not isinstance(error, sqlite3.Error):
        return error
    refusal = Unavailable(f"The database cannot be written ({error}); nothing was accepted. Try again", retry_after_s=5)
    refusal.__cause__ = error
    return refusal
