"""Long work in a thread of its own: one at a time, told as it goes, cancelled at will. It outlives the screen that
began it, not the program."""

import atexit
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from appliance.errors import Cancelled, Conflict, CustomhouseError

Progress = Callable[[str, int, int], None]
"""What is done, how much so far, and of how much (0 = nobody knows). What it raises ends the work."""

_EVERY_S = 0.1  # a burst is told once


@dataclass(frozen=True)
class Work:
    """One piece, as it stands."""

    verb: str
    name: str
    state: Literal["going", "ending", "done", "failed", "cancelled"] = "going"
    what: str = ""
    done: int = 0
    total: int = 0
    said: str = ""
    """Once it has ended: what came of it."""
    can_cancel: bool = True

    @property
    def is_going(self) -> bool:
        return self.state in ("going", "ending")


class Works:
    def __init__(self) -> None:
        self.last: Work | None = None
        """What goes on, or went last."""
        self._lock = threading.RLock()
        self._is_cancelled = threading.Event()
        self._listeners: list[Callable[[Work], None]] = []
        self._thread: threading.Thread | None = None
        self._told_at = 0.0
        atexit.register(self.close)

    def start(self, verb: str, name: str, deed: Callable[[Progress], str], *, can_cancel: bool = True) -> None:
        """`deed` is done in a thread; what it returns is said. Raises Conflict while another goes on."""
        with self._lock:
            if self.last is not None and self.last.is_going:
                raise Conflict(f"{self.last.verb} {self.last.name} is under way; wait for it, or cancel it")
            self._is_cancelled.clear()
            self.last = Work(verb, name, can_cancel=can_cancel)
            self._thread = threading.Thread(target=self._run, args=(deed,), name=f"{verb} {name}", daemon=True)
            self._thread.start()
        self._tell()

    def cancel(self) -> bool:
        """It ends at its next word; False when there is nothing that can be cancelled."""
        with self._lock:
            now = self.last
            if now is None or not now.is_going or not now.can_cancel:
                return False
            if now.state == "going":
                self._is_cancelled.set()
                self._set(state="ending")
        return True

    def wait(self, timeout_s: float | None = None) -> None:
        """Until nothing goes on."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def listen(self, heard: Callable[[Work], None]) -> None:
        """`heard` is called from any thread, with what stands then."""
        self._listeners.append(heard)

    def unlisten(self, heard: Callable[[Work], None]) -> None:
        if heard in self._listeners:
            self._listeners.remove(heard)

    def close(self) -> None:
        """Ended as far as it can be in a moment; what was written by then goes on from there next time."""
        self._is_cancelled.set()
        self.wait(3.0)
        atexit.unregister(self.close)

    def _run(self, deed: Callable[[Progress], str]) -> None:
        try:
            said = deed(self._heard)
        except Cancelled:
            self._set(state="cancelled", said="cancelled; nothing half is left, and what can goes on from there")
        except CustomhouseError as error:
            self._set(state="failed", said=error.message)
        except Exception as error:  # whatever it is, the screen has to say it
            logging.getLogger(__name__).exception("work failed")
            self._set(state="failed", said=f"{type(error).__name__}: {error}")
        else:
            self._set(state="done", said=said)

    def _heard(self, what: str, done: int, total: int) -> None:
        if self._is_cancelled.is_set():
            raise Cancelled
        with self._lock:
            now = self.last
            assert now is not None
            self.last = replace(now, what=what, done=done, total=total)
        moment = time.monotonic()
        if what != now.what or moment - self._told_at >= _EVERY_S:
            self._told_at = moment
            self._tell()

    def _set(self, *, state: Literal["ending", "done", "failed", "cancelled"], said: str = "") -> None:
        with self._lock:
            assert self.last is not None
            self.last = replace(self.last, state=state, said=said)
        self._tell()

    def _tell(self) -> None:
        now = self.last
        if now is not None:
            for heard in list(self._listeners):
                heard(now)
