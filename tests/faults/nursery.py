"""One submission to one verdict, again and again, in processes that are forked from one that has imported everything:
`python -m tests.faults.nursery` reads orders, a line each, and writes what happens, a line each.

Each child is the API, served in process, and the worker's own verbs called one after the other: no thread decides in
which order the disk is touched, so the Nth write is the same write each time. A child that is to be killed has one
cycle; one whose disk fails goes through many, as a process on a bad disk does.
"""

import contextlib
import errno
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.house import TORN, Want, accepted, faults_in, request
from tests.faults.shim import Act, Op, Shim

_TRIES = 60
_ROUNDS = 120
_STEP_MS = 2_000  # the clock is turned so far where a process would wait


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong, at a place that can be named again."""

    op: int
    act: int
    at: int
    has: str
    """Which files: a part of their path."""
    error: int = errno.EIO
    times: int = 1
    from_start: bool = False
    """Counted from before the house is opened, not from the first request on."""

    def __str__(self) -> str:
        named = errno.errorcode.get(self.error, str(self.error)) if self.act == Act.FAIL else ""
        several = "" if self.times == 1 else f" x{self.times}"
        start = " from start" if self.from_start else ""
        call = f"{Op(self.op).name or 'CALL'}#{self.at}"
        return f"{Act(self.act).name.lower()} {named} {call}{several} of {self.has or 'any file'}{start}"


class Orders(msgspec.Struct, frozen=True):
    key: str
    receiver: str
    first: int
    """The number of the first request."""
    todo: list[Want]
    """Those that an earlier child did not see accepted."""
    kinds: list[str]
    faults: list[Fault]
    expected: list[str]
    """Jobs that were promised since the last settled cycle."""
    jobs: int
    """How many were promised in all before `todo`."""
    settle_only: bool = False


class Later:
    """Made when something of it is asked for: after the fork, and not before."""

    def __init__(self, make: Callable[[], Any], **known: Any) -> None:
        self.__dict__.update(known, _make=make)

    def __getattr__(self, name: str) -> Any:
        if "_it" not in self.__dict__:
            self.__dict__["_it"] = self._make()
        return getattr(self._it, name)


def say(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


class Child:
    """The house, its API and its worker, in one process."""

    def __init__(self, app: Any, house: Later, shim: Shim, orders: Orders) -> None:
        from appliance.inference.client import Models
        from appliance.media.decoders import Decoders
        from appliance.outbound import Outbound
        from appliance.tasks import Lanes
        from appliance.text.engine import Engine
        from appliance.work.hands import Hands
        from appliance.work.runner import Runner
        from appliance.work.sweep import Sweep

        settings = house.settings
        self.orders, self.shim = orders, shim
        self.house: Any = house
        house.db  # noqa: B018  # opened here and now
        self.lanes = Lanes(settings)
        models = Models(settings.inference_socket, settings.inference.deadline_s)
        outbound = Outbound(settings.media.allowed_private_cidrs)
        decoders: Any = Later(lambda: Decoders(settings))
        self.runner = Runner(Hands(house, models, decoders, outbound, Engine(house)), self.lanes.follow)  # pyright: ignore[reportArgumentType]
        self.sweep = Sweep(self.runner, self.lanes)
        self.outbound = outbound
        self.sweep.begin()
        self.app = app
        self.promised: list[str] = list(orders.expected)
        self.count = orders.jobs
        self.next = orders.first

    def serve(self) -> None:
        from litestar.testing import TestClient

        with TestClient(self.app, raise_server_exceptions=False) as client:
            for want in self.orders.todo:
                self.submit(client, want)
            if self.orders.todo or self.orders.expected or self.orders.settle_only:
                self.settle("before")
            for fault in self.orders.faults:
                if not fault.from_start:
                    say(begins=msgspec.to_builtins(fault))
                    self.arm(fault)
                wants = [Want(self.next + n, kind) for n, kind in enumerate(self.orders.kinds)]
                self.next += len(wants)
                say(wants=msgspec.to_builtins(wants))
                begun = time.monotonic()
                for want in wants:
                    self.submit(client, want)
                self.work()
                seen, last, struck = self.shim.seen, self.shim.last, self.shim.disarm()
                self.settle("after")
                ms = round((time.monotonic() - begun) * 1000)
                say(done=msgspec.to_builtins(fault), seen=seen, struck=struck, last=last, ms=ms)

    def arm(self, fault: Fault) -> None:
        self.shim.arm(
            Op(fault.op),
            Act(fault.act),
            at=fault.at,
            times=fault.times,
            has=fault.has,
            error=fault.error,
            pid=os.getpid(),
        )

    def submit(self, client: Any, want: Want) -> None:
        """Until it is accepted, as a client does."""
        for _ in range(_TRIES):
            answer = client.request("POST", **request(want, self.orders.key, self.orders.receiver))
            if answer.status_code == 202:
                subject, jobs = accepted(answer.json())
                self.promised += jobs
                self.count += len(jobs)
                say(accepted=want.number, subject=subject, jobs=jobs)
                if want.kind == "torn" and (sizes := self.stored(jobs[0])) != [TORN]:
                    say(odd=f"{want.number} was accepted with {sizes} bytes of its {TORN}")
                return
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                say(odd=f"{want.kind} {want.number} was answered {answer.status_code}: {answer.text[:300]}")
            if self.shim.injected >= 40:
                self.shim.disarm()  # the disk is well again
            time.sleep(0.005)
        say(odd=f"{want.kind} {want.number} was never accepted")

    def stored(self, job_id: str) -> list[int]:
        """The size of the job's file."""
        found = self.house.db.reader().execute("SELECT path FROM job_input WHERE job_id = ?", (job_id,))
        return [(self.house.settings.media_dir / row[0]).stat().st_size for row in found]

    def work(self) -> None:
        """One round over everything that waits. What is raised the lane of a worker logs; here it is said."""
        from appliance import clock
        from appliance.webhooks import deliver, deliveries

        reader = self.house.db.reader()
        with contextlib.suppress(Exception):
            self.sweep.once()
        for (job_id,) in reader.execute("SELECT id FROM job WHERE status IN ('queued', 'processing')").fetchall():
            try:
                self.runner.work(job_id)
            except Exception as error:
                say(raised=type(error).__name__)
        for delivery_id in deliveries.due(reader, clock.now_ms(), 100):
            try:
                deliver.deliver(self.house.db, self.outbound, self.house.settings, delivery_id)
            except Exception as error:
                say(raised=type(error).__name__)

    def settle(self, when: str) -> None:
        """Nothing is wrong any more: work until nothing is open, then look whether all is as promised."""
        reader = self.house.db.reader()
        waiting = """
            SELECT (SELECT count(*) FROM job WHERE status IN ('queued', 'processing')),
                (SELECT count(*) FROM delivery WHERE status IN ('pending', 'sending'))
        """
        for _ in range(_ROUNDS):
            self.work()
            if not any(reader.execute(waiting).fetchone()):
                break
            self.shim.turn(_STEP_MS)
        wrong = faults_in(reader)
        stood = {row[0] for row in reader.execute("SELECT id FROM job")} if self.promised else set()
        if lost := [job_id for job_id in self.promised if job_id not in stood]:
            wrong["lost"] = lost
        there = int(reader.execute("SELECT count(*) FROM job").fetchone()[0])
        if there != self.count:
            wrong["jobs that nobody was told of"] = [f"{there} are there, {self.count} were accepted"]
            self.count = there
        self.promised.clear()
        say(settled=when, wrong=wrong, jobs=there)


def _child(app: Any, house: Later, shim: Shim, orders: Orders) -> int:
    first = orders.faults[0] if orders.faults else None
    if first is not None and first.from_start:
        say(begins=msgspec.to_builtins(first))
        shim.arm(
            Op(first.op),
            Act(first.act),
            at=first.at,
            times=first.times,
            has=first.has,
            error=first.error,
            pid=os.getpid(),
        )
    Child(app, house, shim, orders).serve()
    return 0


def _main() -> None:
    control, shared = Path(os.environ["FAULTS_CONTROL"]), Path(os.environ["FAULTS_HOME"])
    from appliance import access, log, structs
    from appliance import settings as settings_file
    from appliance.api import app as application
    from appliance.house import House
    from appliance.tasks import Lanes
    from appliance.text import language

    structs.prepare()
    settings = settings_file.load()
    log.configure(settings.log)
    language.detect("read the language model once for all of them")
    house = Later(lambda: House(settings, access.SERVICE), settings=settings)
    application.Lanes = lambda of: Later(lambda: Lanes(of))  # type: ignore[assignment, misc]  # a thread, a file: not before the fork
    app = application.create_app(house)  # type: ignore[arg-type]
    assert shared == settings.home
    shim = Shim(control)
    gc.collect()
    gc.freeze()
    say(ready=os.getpid())
    for line in sys.stdin:
        orders = msgspec.json.decode(line, type=Orders)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = _child(app, house, shim, orders)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        say(child=pid)
        _, status = os.waitpid(pid, 0)
        shim.disarm()
        say(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _main()
