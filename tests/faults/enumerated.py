"""Every write, sync, rename, opening and removal of one submission to verdict, counted once and then broken one by
one: it fails, is cut short, is the process's last, or the last before the power goes."""

import contextlib
import errno
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.faults import house
from tests.faults.house import Want
from tests.faults.nursery import Fault, Orders
from tests.faults.report import Record
from tests.faults.shim import Act, Op, Shim
from tests.kills import Receiver

KINDS = ["blocked", "batch", "refused", "torn"]
FILES = ("customhouse.db", "media/", "queue.db", "limits.db")
_TOGETHER = 20
_SILENT_S = 240.0
"""Without a word for so long, a child hangs."""

KILLS = (Act.KILL_BEFORE, Act.KILL_AFTER, Act.TEAR)


class Bench:
    """The scratch house, the process that forks, and what was promised so far."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder = folder
        self.home, self.aside = folder / "home", folder / "aside"
        self.aside.mkdir(parents=True)
        self.key = house.found(self.home)
        self.receiver = Receiver()
        self.shim = Shim(folder / "control")
        self.keep()
        self.records: list[Record] = []
        self.promised: dict[int, tuple[str, list[str]]] = {}
        self.todo: dict[int, Want] = {}
        self.unsettled: list[str] = []
        self.counted: dict[Fault, int] = {}
        """How many such calls one cycle makes."""
        self.next = 0
        self.there = 0
        """Jobs that must be there."""
        environ = {**os.environ, **house.environ(self.home), **self.shim.environ(library, self.home, self.aside)}
        self.log = (folder / "children.log").open("ab")
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self._lines = b""
        if self._heard() is None:
            raise RuntimeError(f"the nursery did not start: {self.said()}")

    def close(self) -> None:
        if self.log.closed:
            return
        self._popen.kill()
        self._popen.communicate()
        self.log.close()
        self.receiver.shutdown()
        self.receiver.server_close()

    def said(self) -> str:
        return (self.folder / "children.log").read_text()[-3_000:]

    def keep(self) -> None:
        """Everything as it is now is on the disk for good."""
        for path in self.home.rglob("*"):
            if path.is_file() and not path.name.endswith("-shm"):
                shutil.copyfile(path, self.aside / str(path.relative_to(self.home)).replace("/", "%"))

    def cut(self) -> None:
        """The power goes: of each file there is what was synced last, and of the queue, which never is, half."""
        for path in self.home.rglob("*"):
            if path.is_file():
                path.unlink()
        for copy in self.aside.iterdir():
            path = self.home / copy.name.replace("%", "/")
            if path.parent.is_dir():
                shutil.copyfile(copy, path)
        for name in ("queue.db", "limits.db"):
            path = self.home / name
            if path.exists() and path.stat().st_size > 8192:
                data = path.read_bytes()
                path.write_bytes(data[:4096] + bytes(len(data) - 8192) + data[-4096:])

    def run(self, faults: list[Fault], *, settle_only: bool = False, repeat: str = "") -> int:
        """One child under these faults; its exit code. What was not done when it ended is left to the next one."""
        orders = Orders(
            self.key,
            self.receiver.address,
            self.next,
            list(self.todo.values()),
            [] if settle_only else _kinds(faults),
            faults,
            self.unsettled,
            self.there,
            settle_only,
        )
        assert self._popen.stdin is not None
        self._popen.stdin.write(msgspec.json.encode(orders) + b"\n")
        self._popen.stdin.flush()
        under: Fault | None = None
        begun = time.monotonic()
        wrong: dict[str, list[str]] = {}
        child = 0
        while True:
            line = self._heard()
            if line is None:
                wrong.setdefault("hung", []).append(f"no word for {_SILENT_S:.0f} s")
                if child:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                    child = 0
                    continue
                raise RuntimeError(f"the nursery hangs: {self.said()}")
            match line:
                case {"child": pid}:
                    child = int(pid)
                case {"begins": begins}:
                    under, begun, wrong = msgspec.convert(begins, Fault), time.monotonic(), {}
                case {"wants": wants}:
                    for want in msgspec.convert(wants, list[Want]):
                        self.todo[want.number] = want
                        self.next = max(self.next, want.number + 1)
                case {"accepted": number, "subject": subject, "jobs": jobs}:
                    before = self.promised.setdefault(number, (subject, jobs))
                    if before == (subject, jobs) and number in self.todo:
                        self.unsettled += jobs
                        self.there += len(jobs)
                    elif before != (subject, jobs):
                        wrong.setdefault("promised twice", []).append(f"{before} and {(subject, jobs)}")
                    self.todo.pop(number, None)
                case {"odd": said}:
                    wrong.setdefault("answers", []).append(str(said))
                case {"settled": when, "wrong": found, "jobs": there}:
                    wrong |= found
                    self.unsettled, self.there = [], int(there)
                    if when == "before":
                        self._blame(wrong)
                        wrong = {}
                case {"done": done, "struck": struck, "seen": seen, "ms": ms, "last": last}:
                    fault = msgspec.convert(done, Fault)
                    if fault.act == Act.COUNT:
                        self.counted[fault] = int(seen)
                        self._blame(wrong)
                    elif struck:
                        what = f"{fault} ({last})"
                        self.records.append(Record(_kind(fault), what, wrong, ms / 1000, repeat or again(fault)))
                    under, wrong = None, {}
                case {"ended": code}:
                    if under is not None:
                        self._ended(under, int(code), wrong, time.monotonic() - begun, repeat)
                    elif code or wrong:
                        self._blame({**wrong, "ended": [f"with {code}", self.said()[-800:]]})
                    return int(code)
                case _:
                    pass

    def _ended(self, fault: Fault, code: int, wrong: dict[str, list[str]], s: float, repeat: str) -> None:
        """A child went under this fault: as it should when it was killed, and when it could not start."""
        is_wanted = code == -signal.SIGKILL and fault.act in KILLS
        if not is_wanted and not (fault.from_start and fault.act not in KILLS):
            wrong.setdefault("ended", []).append(f"with {code}: {self.said()[-800:]}")
        self.records.append(Record(_kind(fault), str(fault), wrong, s, repeat or again(fault)))

    def _blame(self, wrong: dict[str, list[str]]) -> None:
        """What was found as the next one began is the last one's."""
        if wrong and self.records:
            last = self.records.pop()
            self.records.append(msgspec.structs.replace(last, wrong={**last.wrong, **wrong}))
        elif wrong:
            self.records.append(Record("none", "before any fault", wrong))

    def settle(self) -> None:
        """With no fault at all everything comes to its end."""
        for _ in range(3):
            if self.run([], settle_only=True) == 0:
                return

    def untold(self) -> dict[str, list[str]]:
        """Webhooks that never came, and those that came with two bodies."""
        wanted = {f"wh_{subject}" for subject, _ in self.promised.values()}
        two_ways = house.told_two_ways(self.receiver.got)
        wrong = {"webhooks never told": sorted(wanted - set(self.receiver.got)), "webhooks told two ways": two_ways}
        return {what: found for what, found in wrong.items() if found}

    def _heard(self) -> dict[str, Any] | None:
        """The next line; None when none comes."""
        assert self._popen.stdout is not None
        until = time.monotonic() + _SILENT_S
        while b"\n" not in self._lines:
            ready, _, _ = select.select([self._popen.stdout], [], [], max(0.0, until - time.monotonic()))
            piece = os.read(self._popen.stdout.fileno(), 65_536) if ready else b""
            if not piece:
                return None
            self._lines += piece
        line, _, self._lines = self._lines.partition(b"\n")
        return dict(json.loads(line))


def _kinds(faults: list[Fault]) -> list[str]:
    """A process that lives for one fault only starts no decoder, which takes it half a second, unless media are hit."""
    if any(fault.act not in KILLS or fault.has == "media/" for fault in faults):
        return KINDS
    return [kind for kind in KINDS if kind != "torn"]


def again(fault: Fault) -> str:
    return f"--only '{msgspec.json.encode(fault).decode()}'"


def _kind(fault: Fault) -> str:
    act, op = Act(fault.act), Op(fault.op)
    if fault.act == Act.KILL_BEFORE and fault.error == errno.EOWNERDEAD:
        return "power cut"
    if act in KILLS:
        return "killed in the middle of a write" if act is Act.TEAR else "killed at a system call"
    if act is Act.SHORTEN:
        return "write cut short"
    name = {errno.EIO: "EIO", errno.ENOSPC: "ENOSPC", errno.EROFS: "EROFS"}[fault.error]
    return f"{name} of a {(op.name or 'call').lower()}" if op != Op.ANY else f"{name} of any call"


def planned(bench: Bench, count: int, seed: int) -> tuple[list[Fault], list[Fault]]:
    """So many faults that a process outlives, and those that end it, chosen by the seed from all there are."""
    totals: dict[tuple[str, Op], int] = {}
    ops = (Op.WRITE, Op.SYNC, Op.OPEN, Op.REMOVE, Op.TRUNCATE, Op.ANY)
    bench.run([Fault(op, Act.COUNT, 1, has) for has in FILES for op in ops])
    for fault, seen in bench.counted.items():
        totals[fault.has, Op(fault.op)] = seen
    rng = random.Random(seed)
    outlived: list[list[Fault]] = []
    for has in FILES:
        ways = [(Op.WRITE, errno.EIO), (Op.WRITE, errno.ENOSPC), (Op.SYNC, errno.EIO), (Op.OPEN, errno.ENOSPC)]
        ways += [(Op.ANY, errno.EROFS), (Op.REMOVE, errno.EIO), (Op.TRUNCATE, errno.EIO)]
        for op, error in ways:
            places = range(1, totals[has, op] + 1)
            outlived.append(
                [Fault(op, Act.FAIL, at, has, error, times) for at in places for times in rng.sample((1, 2, 7, 30), 2)]
            )
        outlived.append([Fault(Op.WRITE, Act.SHORTEN, at, has) for at in range(1, totals[has, Op.WRITE] + 1)])
    ending: list[list[Fault]] = []
    for has in FILES:
        places = range(1, totals[has, Op.ANY] + 1)
        ending.append([Fault(Op.ANY, act, at, has) for at in places for act in (Act.KILL_BEFORE, Act.KILL_AFTER)])
        ending.append([Fault(Op.WRITE, Act.TEAR, at, has) for at in range(1, totals[has, Op.WRITE] + 1)])
    some = range(1, totals["customhouse.db", Op.ANY] + 1)
    ending.append([Fault(Op.ANY, Act.KILL_BEFORE, at, "", errno.EOWNERDEAD) for at in some])
    ending.append([Fault(Op.ANY, Act.KILL_BEFORE, at, "", from_start=True) for at in range(1, 40)])
    ending.append([Fault(Op.WRITE, Act.FAIL, at, "", errno.ENOSPC, 50, from_start=True) for at in range(1, 20)])
    ending.append([Fault(Op.ANY, Act.FAIL, at, "", errno.EIO, from_start=True) for at in range(1, 60)])
    return _drawn(outlived, count * 4 // 5, rng), _drawn(ending, count - count * 4 // 5, rng)


def _drawn(strata: list[list[Fault]], count: int, rng: random.Random) -> list[Fault]:
    """From each kind alike, as long as it has some, in any order; when all are drawn, all over again."""
    drawn: list[Fault] = []
    waiting: list[list[Fault]] = []
    while len(drawn) < count and any(strata):
        waiting = [stratum for stratum in waiting if stratum]
        if not waiting:
            waiting = [rng.sample(stratum, len(stratum)) for stratum in strata if stratum]
        drawn += [stratum.pop() for stratum in waiting]
    drawn = drawn[:count]
    rng.shuffle(drawn)
    return drawn


def inject(
    bench: Bench, outlived: list[Fault], ending: list[Fault], *, seed: int, count: int, heard: Callable[[int], None]
) -> None:
    """All of them, `heard` now and then of how many were. Afterwards nothing is open."""
    for first in range(0, len(outlived), _TOGETHER):
        together = outlived[first : first + _TOGETHER]
        while together and bench.run(together) != 0:  # the last one had ended it: go on behind it
            done = [one.repeat for one in bench.records]
            place = max((n for n, one in enumerate(together) if again(one) in done), default=0)
            together = together[place + 1 :]
        heard(len(bench.records))
    for fault in ending:
        is_cut = fault.error == errno.EOWNERDEAD
        if is_cut:
            bench.settle()
            bench.keep()
            bench.shim.keep(True)
        bench.run([fault])
        if is_cut:
            bench.shim.keep(False)
            bench.cut()
        heard(len(bench.records))
    bench.settle()
    untold = bench.untold()
    if untold:
        bench.records.append(Record("all", "at the end", untold, repeat=f"--seed {seed} --faults {count}"))
