"""The worker's heartbeat: <home>/run/worker.json says who it is, when it last beat, and how each of its rounds went.

A file, not a row: it is written every two seconds, and has to be readable while the database is not.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance import clock

EVERY_S = 2.0
LATE_MS = 20_000
"""After so long without a beat something is wrong: the process hangs, or the machine does."""


class Round(msgspec.Struct, frozen=True):
    """Something that the worker does again and again."""

    every_s: float
    at: int | None = None
    """When it last ended."""
    ms: float = 0.0
    failed_at: int | None = None
    error: str | None = None
    """The class of what stopped it last; the log has the rest."""


class Beat(msgspec.Struct, frozen=True):
    pid: int
    started_at: int
    at: int
    threads: int
    rounds: dict[str, Round] = {}


class Heart:
    """Of one worker process. Threads may share it."""

    def __init__(self, run_dir: Path, threads: int) -> None:
        self._path = path_in(run_dir)
        self._lock = threading.Lock()
        self._beat = Beat(os.getpid(), clock.now_ms(), clock.now_ms(), threads)

    def beat(self) -> None:
        """Say that we live. A reader sees a whole file, always."""
        with self._lock:
            self._beat = msgspec.structs.replace(self._beat, at=clock.now_ms())
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._beat))
            fresh.replace(self._path)

    def late(self, name: str, limit_s: float) -> bool:
        """Whether this round has not come to an end, good or bad, for so long."""
        with self._lock:
            one, started = self._beat.rounds[name], self._beat.started_at
        return clock.now_ms() - max(one.at or 0, one.failed_at or 0, started) > limit_s * 1000

    def stop(self) -> None:
        """Say that we have left."""
        self._path.unlink(missing_ok=True)

    def timed(self, name: str, every_s: float, act: Callable[[], object]) -> Callable[[], None]:
        """The same act, and how it went is remembered."""
        self._note(name, Round(every_s))

        def do() -> None:
            begun = time.perf_counter()
            try:
                act()
            except Exception as error:
                was = self._beat.rounds[name]
                self._note(name, msgspec.structs.replace(was, failed_at=clock.now_ms(), error=type(error).__name__))
                raise
            ms = (time.perf_counter() - begun) * 1000
            self._note(name, msgspec.structs.replace(self._beat.rounds[name], at=clock.now_ms(), ms=round(ms, 1)))

        return do

    def _note(self, name: str, found: Round) -> None:
        with self._lock:
            self._beat = msgspec.structs.replace(self._beat, rounds={**self._beat.rounds, name: found})


def path_in(run_dir: Path) -> Path:
    return run_dir / "worker.json"


def last(run_dir: Path) -> Beat | None:
    """The last beat; None when no worker wrote one, or left in peace."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path_in(run_dir).read_bytes(), type=Beat)
    return None
