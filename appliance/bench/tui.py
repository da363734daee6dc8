"""`customhouse bench --tui`: how long the terminal UI takes, as somebody at a terminal feels it.

Each figure is of a real process on a pseudo-terminal, over a database with as many jobs as asked for: from its start to
the first letters of the first screen, from a key to the last byte of what it changed, and what screens cost that
nobody touches.
"""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from appliance.bench import rig
from appliance.bench.history import generate
from appliance.errors import CustomhouseError
from appliance.settings import Settings

AIM_START_S = 1.0
AIM_KEY_P99_MS = 50.0
AIM_IDLE_PERCENT = 3.0

LIVE = ("overview", "jobs", "gpu", "logs")
KEYS = {"down": b"\x1b[B", "page down": b"\x1b[6~", "page up": b"\x1b[5~", "end": b"\x1b[F", "home": b"\x1b[H"}

_ROWS, _COLUMNS = 50, 160
_QUIET_S = 0.03  # after so long without a byte, what a key changed is drawn


def run(settings: Settings, jobs: int = 1_000_000, each: int = 100, idle_s: float = 20.0) -> dict[str, Any]:
    """Generate, open, press, wait. Raises CustomhouseError when a screen does not come."""
    with rig.scratch(settings) as scratch:
        _, generated = generate(scratch, jobs)
        starts = [_start(scratch, "overview") for _ in range(5)]
        starts_at_jobs = [_start(scratch, "jobs") for _ in range(5)]
        keys = _keys(scratch, each)
        idle = {name: _idle(scratch, name, idle_s) for name in LIVE}
    return {
        "generated": generated,
        "start to first paint, overview": _of(*starts),
        "start to first paint, jobs": _of(*starts_at_jobs),
        "key to paint, jobs": keys,
        "idle": {name: f"{percent:.1f} % of a core" for name, percent in idle.items()},
        "aims": f"start <= {AIM_START_S:g} s, key p99 <= {AIM_KEY_P99_MS:g} ms, idle <= {AIM_IDLE_PERCENT:g} %",
        "met": {
            "start": sorted(starts)[len(starts) // 2][0] <= AIM_START_S,
            "key": all(one["p99_ms"] <= AIM_KEY_P99_MS for one in keys.values()),
            "idle": max(idle.values()) <= AIM_IDLE_PERCENT,
        },
    }


class _Terminal:
    """A terminal with the program in it."""

    def __init__(self, settings: Settings, screen: str) -> None:
        environ = {
            **os.environ,
            "CUSTOMHOUSE_HOME": str(settings.home),
            "XDG_CONFIG_HOME": str(settings.home),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        self.begun = time.monotonic()
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "appliance", "tui", "--screen", screen], environ)  # noqa: S606
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))

    def seen(self, word: bytes, for_s: float = 30.0) -> None:
        """Until it stands there."""
        seen = b""
        while word not in seen:
            seen = seen[-200:] + self._read(for_s)

    def drawn(self, for_s: float = 5.0) -> float:
        """When the last byte came before it was quiet; of what comes from now on."""
        self._read(for_s)
        last = time.monotonic()
        with contextlib.suppress(CustomhouseError):
            while True:
                self._read(_QUIET_S)
                last = time.monotonic()
        return last

    def quiet(self, for_s: float, at_most_s: float = 5.0) -> None:
        """Until nothing is drawn for so long; a live screen may never be quiet."""
        until = time.monotonic() + at_most_s
        with contextlib.suppress(CustomhouseError):
            while time.monotonic() < until:
                self._read(for_s)

    def press(self, key: bytes) -> None:
        os.write(self._descriptor, key)

    def cpu_s(self) -> float:
        """Of all its threads; the scheduler counts in ns, where /proc/PID/stat has ticks of 10 ms."""
        counted = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that ended meanwhile
                counted += int((task / "schedstat").read_text().split()[0])
        return counted / 1e9

    def _read(self, for_s: float) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], for_s)
        if not ready:
            raise CustomhouseError("the terminal UI drew nothing; run it by hand: customhouse tui")
        try:
            return os.read(self._descriptor, 1 << 16)
        except OSError as error:
            raise CustomhouseError("the terminal UI ended; run it by hand: customhouse tui") from error

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)


@contextlib.contextmanager
def _terminal(settings: Settings, screen: str) -> Generator[_Terminal]:
    terminal = _Terminal(settings, screen)
    try:
        yield terminal
    finally:
        terminal.close()


def _start(settings: Settings, screen: str) -> tuple[float, float]:
    """Until the top line with the screen's name stands there: then keys are answered. And the CPU that it took."""
    with _terminal(settings, screen) as terminal:
        terminal.seen(b"Customhouse")
        return time.monotonic() - terminal.begun, terminal.cpu_s()


def _keys(settings: Settings, each: int) -> dict[str, dict[str, float]]:
    with _terminal(settings, "jobs") as terminal:
        terminal.seen(b"Customhouse")
        terminal.quiet(1.5)
        found: dict[str, dict[str, float]] = {}
        for name, key in KEYS.items():
            # a page up needs pages above it, so the keys come in this order; home and end go there and back
            back = {"end": KEYS["home"], "home": KEYS["end"]}.get(name)
            if name == "home":
                terminal.press(KEYS["end"])
                terminal.drawn()
            found[name] = _of(*[_press(terminal, key, back) for _ in range(each)])
        return found


def _press(terminal: _Terminal, key: bytes, back: bytes | None) -> tuple[float, float]:
    begun, used = time.monotonic(), terminal.cpu_s()
    terminal.press(key)
    took = terminal.drawn() - begun, terminal.cpu_s() - used
    if back is not None:
        terminal.press(back)
        terminal.drawn()
    return took


def _idle(settings: Settings, screen: str, for_s: float) -> float:
    """Percent of a core, over so long, a while after the start."""
    with _terminal(settings, screen) as terminal:
        terminal.seen(b"Customhouse")
        _drain(terminal, 5.0)
        begun, used = time.monotonic(), terminal.cpu_s()
        _drain(terminal, for_s)
        return 100 * (terminal.cpu_s() - used) / (time.monotonic() - begun)


def _drain(terminal: _Terminal, for_s: float) -> None:
    """Take what is drawn, so that the program does not wait for us."""
    until = time.monotonic() + for_s
    while (left := until - time.monotonic()) > 0:
        terminal.quiet(min(left, 0.5), left)


def _of(*taken: tuple[float, float]) -> dict[str, float]:
    """Of times that passed and CPU that was used, in seconds. On a busy machine only the second says something."""
    ordered = sorted(passed * 1000 for passed, _ in taken)
    return {
        "p50_ms": round(ordered[len(ordered) // 2], 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "worst_ms": round(ordered[-1], 1),
        "cpu_ms": round(1000 * sum(used for _, used in taken) / len(taken), 1),
    }
