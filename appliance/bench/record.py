"""What a process takes, again and again: memory, descriptors, threads, processor time; and whether that grows."""

import contextlib
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.bench import rig

_TICKS = os.sysconf("SC_CLK_TCK")
_BLOCKS = 30
"""Neighbouring samples hang together; a slope is taken over the medians of so many blocks."""
_Z = 1.96
"""Of a confidence of 95 %."""


class Taken(msgspec.Struct, frozen=True):
    """By a process and everything that it started."""

    rss_mb: float
    pss_mb: float
    """As RSS, but pages that several share are counted once."""
    fds: int
    threads: int
    cpu_s: float
    """Of the processes that run now."""


def of(pid: int) -> Taken:
    """As of now; of one that has gone everything is 0."""
    rss = pss = fds = threads = 0
    cpu = 0.0
    for one in rig.family(pid):
        folder = Path(f"/proc/{one}")
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            threads += int(fields[17])
            cpu += (int(fields[11]) + int(fields[12])) / _TICKS
            fds += len(os.listdir(folder / "fd"))
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
    return Taken(round(rss / 1000, 2), round(pss / 1000, 2), fds, threads, round(cpu, 2))


class Slope(msgspec.Struct, frozen=True):
    """How a figure moves over the steady part: Theil and Sen's median of all slopes, which outliers do not bend, and
    between what it lies with 95 % confidence."""

    per_hour: float
    lower: float
    upper: float
    first: float
    """The figure's median in the first tenth of the steady part, …"""
    last: float
    """… and in the last."""

    def says(self, bound: float) -> str:
        """`steady` when it surely stays below the bound, `grows` when it surely does not, else `unclear`: the run was
        too short, or too uneven, to tell."""
        if self.upper <= bound:
            return "steady"
        return "grows" if self.lower > bound else "unclear"


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Of (seconds, value), at least two."""
    size = max(1, len(points) // _BLOCKS)
    blocks = [points[at : at + size] for at in range(0, len(points), size)]
    blocks = [block for block in blocks if len(block) == size]
    middle = [(statistics.median(x for x, _ in block), statistics.median(y for _, y in block)) for block in blocks]
    n = len(middle)
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0]) * 3600
        for place, earlier in enumerate(middle)
        for later in middle[place + 1 :]
        if later[0] > earlier[0]
    )
    if not slopes:
        return Slope(0.0, 0.0, 0.0, points[0][1], points[-1][1])
    width = _Z * (n * (n - 1) * (2 * n + 5) / 18) ** 0.5
    low = max(0, int((len(slopes) - width) / 2))
    high = min(len(slopes) - 1, int((len(slopes) + width) / 2) + 1)
    tenth = max(1, len(points) // 10)
    return Slope(
        round(statistics.median(slopes), 3),
        round(slopes[low], 3),
        round(slopes[high], 3),
        round(statistics.median(y for _, y in points[:tenth]), 2),
        round(statistics.median(y for _, y in points[-tenth:]), 2),
    )


class Share:
    """Of a core, from two looks at the processor time."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def since(self, cpu_s: float) -> float:
        now = time.monotonic()
        before, self._before = self._before, (now, cpu_s)
        if before is None or now <= before[0]:
            return 0.0
        return round(max(0.0, cpu_s - before[1]) / (now - before[0]), 3)
