"""What the kernel says of this machine and of single processes: /proc, read and made into numbers.

Shares of a processor need two looks: a Meter remembers the last one.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")


class Process(msgspec.Struct, frozen=True):
    pid: int
    command: str
    rss_bytes: int
    threads: int
    started_s: float
    """Since the machine was."""
    cpu_s: float
    """Of processor time, all threads together."""
    share: float | None = None
    """Of one core, since the last look; None at the first."""


class Machine(msgspec.Struct, frozen=True):
    cores: tuple[float, ...]
    """Of each core, 0 to 1, the share that was not idle since the last look; empty at the first."""
    core_count: int
    load: tuple[float, float, float]
    memory_bytes: int
    available_bytes: int
    swap_bytes: int
    swap_used_bytes: int
    model: str
    """Of the processor, as it calls itself."""
    uptime_s: float


class Meter:
    """Looks again and again. `root` is where /proc is: a test has one of its own."""

    def __init__(self, root: Path = Path("/proc"), now: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._now = now
        self._cores: list[tuple[int, int]] = []
        self._spent: dict[tuple[int, float], tuple[float, float]] = {}
        self._model: str | None = None

    def machine(self) -> Machine:
        """As of now. Raises OSError where there is no /proc."""
        cores = self._read_cores()
        shares = _shares(self._cores, cores)
        self._cores = cores
        found = _kilobytes((self._root / "meminfo").read_text())
        first = (self._root / "loadavg").read_text().split()[:3]
        if self._model is None:
            self._model = _model((self._root / "cpuinfo").read_text())
        return Machine(
            cores=shares,
            core_count=len(cores),
            load=(float(first[0]), float(first[1]), float(first[2])),
            memory_bytes=found.get("MemTotal", 0),
            available_bytes=found.get("MemAvailable", found.get("MemFree", 0)),
            swap_bytes=found.get("SwapTotal", 0),
            swap_used_bytes=found.get("SwapTotal", 0) - found.get("SwapFree", 0),
            model=self._model,
            uptime_s=float((self._root / "uptime").read_text().split()[0]),
        )

    def process(self, pid: int) -> Process | None:
        """None when it is gone, or not ours to look at."""
        try:
            raw = (self._root / str(pid) / "stat").read_text()
            words = (self._root / str(pid) / "cmdline").read_bytes().split(b"\0")
            pages = int((self._root / str(pid) / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return None
        fields = raw.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        cpu_s, started_s = (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[19]) / _TICKS
        now, key = self._now(), (pid, started_s)
        before = self._spent.get(key)
        self._spent[key] = (now, cpu_s)
        share = None if before is None or now <= before[0] else (cpu_s - before[1]) / (now - before[0])
        return Process(
            pid=pid,
            command=b" ".join(words).decode(errors="replace").strip(),
            rss_bytes=pages * _PAGE,
            threads=int(fields[17]),
            started_s=started_s,
            cpu_s=cpu_s,
            share=share,
        )

    def age_s(self, process: Process) -> float:
        """How long it has been running."""
        return float((self._root / "uptime").read_text().split()[0]) - process.started_s

    def children(self, pid: int) -> list[int]:
        """Those that this process started and that still run; none where the kernel does not list them."""
        found: list[int] = []
        for task in _names(self._root / str(pid) / "task"):
            with contextlib.suppress(OSError, ValueError):
                found += map(int, (self._root / str(pid) / "task" / task / "children").read_text().split())
        return found

    def _read_cores(self) -> list[tuple[int, int]]:
        """(busy, all) ticks of each core."""
        found: list[tuple[int, int]] = []
        for line in (self._root / "stat").read_text().splitlines():
            name, *rest = line.split()
            if name.startswith("cpu") and name != "cpu":
                ticks = [int(one) for one in rest[:8]]
                idle = ticks[3] + ticks[4]
                found.append((sum(ticks) - idle, sum(ticks)))
        return found


def _shares(before: Sequence[tuple[int, int]], now: Sequence[tuple[int, int]]) -> tuple[float, ...]:
    if len(before) != len(now):
        return ()
    return tuple(
        min(1.0, max(0.0, (busy - busy_before) / (total - total_before))) if total > total_before else 0.0
        for (busy_before, total_before), (busy, total) in zip(before, now, strict=True)
    )


def _kilobytes(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value:
            found[name] = int(value.split()[0]) * 1024
    return found


def _model(text: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return "a processor"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir())
    except OSError:
        return []
