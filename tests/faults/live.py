"""Faults in processes that run: each a function that breaks something, waits until the house says so where it has to,
and puts it right. What must hold is asked after each, by whoever calls it."""

import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from appliance.errors import Failure
from appliance.inference.client import Models
from tests.faults.box import Box, killed
from tests.faults.shim import Act, Op

Scenario = Callable[[Box, random.Random], int]
"""How many faults it injected."""

_WORKING = "SELECT count(*) FROM child WHERE status = 'processing'"
_SENDING = "SELECT count(*) FROM delivery WHERE status = 'sending'"
_QUEUED = "SELECT count(*) FROM job WHERE status = 'queued'"
DAY_MS = 86_400_000
_LEASE_MS = 40_000
"""A delivery that was sent and could not be recorded waits for its lease: so much time is let pass."""


def seen(box: Box, query: str) -> None:
    """Wait until a row is in that state; not for ever: a quick worker may never be caught at it."""
    reader = box.house.db.reader()
    until = time.monotonic() + 3.0
    while time.monotonic() < until and not reader.execute(query).fetchone()[0]:
        time.sleep(0.002)


def worker_killed(box: Box, rng: random.Random) -> int:
    """As it works, as it sends, as something waits, and at any time; once it stays away until health says so."""
    for query in (_WORKING, _SENDING, _QUEUED, ""):
        if query:
            seen(box, query)
        else:
            time.sleep(rng.uniform(0, 0.5))
        box.send("work")
    with box.away("work"):
        box.says("No worker is running")
    return 5


def worker_hangs(box: Box, _: random.Random) -> int:
    """Stopped in its tracks, its doorbells open: health finds out, and it goes on where it was."""
    box.forks["work"].signal(signal.SIGSTOP)
    try:
        box.says("The worker hangs")
    finally:
        box.forks["work"].signal(signal.SIGCONT)
    return 1


def api_killed(box: Box, rng: random.Random) -> int:
    """Its main process, and the one that answers."""
    for _ in range(2):
        time.sleep(rng.uniform(0, 0.5))
        for child in box.children("serve"):
            killed(child)
        time.sleep(rng.uniform(0, 0.5))
        box.send("serve")
        box.until("the API answers again", lambda: box.health()[0] != 0)
    return 4


def models_killed(box: Box, _: random.Random) -> int:
    """In mid-job; jobs wait meanwhile, and health says why."""
    seen(box, _WORKING)
    with box.away("infer"):
        box.says("model process does not answer")
    box.until("the models answer again", lambda: box.health()[0] == 200)
    return 1


def told_to_end(box: Box, _: random.Random) -> int:
    """SIGTERM to each, in the middle of work."""
    for what in ("work", "serve", "infer"):
        seen(box, _WORKING)
        box.send(what, signal.SIGTERM)
    return 3


def all_at_once(box: Box, _: random.Random) -> int:
    """As a machine that restarts: nobody gets to finish anything, and all begin together."""
    seen(box, _WORKING)
    box.infer.kill()
    for fork in list(box.forks.values()):
        fork.signal(signal.SIGKILL)
    return 3


def disk_fails(box: Box, rng: random.Random) -> int:
    """For a second or two everything of one sort fails, of the database, the media, the queue, the counters."""
    count = 0
    for has, error in (
        ("customhouse.db", errno.EIO),
        ("customhouse.db", errno.ENOSPC),
        ("media/", errno.ENOSPC),
        ("queue.db", errno.EIO),
        ("limits.db", errno.EIO),
        ("", errno.EROFS),
    ):
        box.shim.arm(Op.ANY if error == errno.EROFS else Op.WRITE | Op.SYNC, Act.FAIL, times=-1, has=has, error=error)
        box.until("it strikes", lambda: box.shim.injected > 0)
        if has == "customhouse.db":
            box.says("cannot be written")
        else:
            time.sleep(rng.uniform(0.3, 1.0))
        box.shim.disarm()
        count += 1
        box.until("it is well again", lambda: box.health()[0] == 200)
    box.shim.turn(_LEASE_MS)
    return count


def single_calls_fail(box: Box, rng: random.Random) -> int:
    """One call out of the middle of everything that goes on, thirty times."""
    for _ in range(30):
        act = rng.choice((Act.FAIL, Act.FAIL, Act.SHORTEN))
        ops = Op.WRITE if act is Act.SHORTEN else rng.choice((Op.WRITE, Op.SYNC, Op.ANY))
        box.shim.arm(ops, act, at=rng.randint(1, 40), error=rng.choice((errno.EIO, errno.ENOSPC)))
        until = time.monotonic() + 3.0
        while not box.shim.injected and time.monotonic() < until:
            time.sleep(0.01)
        box.shim.disarm()
    box.shim.turn(_LEASE_MS)
    return 30


def queue_lost(box: Box, _: random.Random) -> int:
    """Deleted under all who have it open, then torn under them."""
    files = [box.house.settings.queue.with_name(box.house.settings.queue.name + end) for end in ("", "-wal", "-shm")]
    for path in files:
        path.unlink(missing_ok=True)
    time.sleep(1.0)
    for path in files:
        if path.exists():
            with path.open("r+b") as file:  # in place, as a power cut or a bad disk would
                file.write(os.urandom(min(path.stat().st_size, 16_384)))
    return 2


def locked_for_long(box: Box, _: random.Random) -> int:
    """Another program holds the database's lock, for a moment and for longer than anybody waits."""
    holding = "import sys, time; from appliance import database; from pathlib import Path; "
    holding += "c = database.connect(Path(sys.argv[1])); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); "
    holding += "sys.stdin.read()"
    for seconds in (1.0, 17.0):
        with subprocess.Popen(
            [sys.executable, "-c", holding, str(box.house.settings.database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            time.sleep(seconds)
            if seconds > 5:
                box.says("holds the lock")
                box.until("a caller hears 503", lambda: box.answers["503"] > 0)
            other.kill()
    return 2


def clock_jumps(box: Box, rng: random.Random) -> int:
    """An hour and a month forward, the same back, and a second either way."""
    for ms in (3_600_000, -3_600_000, 30 * DAY_MS, -30 * DAY_MS, -1_000, 1_000):
        box.shim.turn(ms)
        time.sleep(rng.uniform(0.4, 0.9))
    return 6


def decoder_stuck(box: Box, _: random.Random) -> int:
    """Stopped in its tracks, and killed: the one job fails, or is done again; the next has another."""
    struck = 0
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in box.children("work"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                struck += 1
        done = box.answers["202"]
        box.until("more is accepted", lambda done=done: box.answers["202"] > done + len(box.kinds))
    return struck


def receiver_ill(box: Box, _: random.Random) -> int:
    """It hangs, resets, answers half a line, 500, 503 and 404; each is told again."""
    moods = ["hang", "reset", "half", "500", "503", "404"] * 2
    with box.receiver.lock:
        box.receiver.moods += moods
    box.until("all of them were met", lambda: not box.receiver.moods)
    return len(moods)


def out_of_memory(box: Box, _: random.Random) -> int:
    """No more address space for the model process, as it works: it fails its callers or dies; then it is well."""
    pid = box.infer.pid
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.prlimit(pid, resource.RLIMIT_AS)[1]
    resource.prlimit(pid, resource.RLIMIT_AS, (used, hard))
    time.sleep(2.0)
    if box.infer.pid == pid and box.infer.poll() is None:
        resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
    box.send("infer")  # and as the kernel ends it
    return 2


def gpu_lost(box: Box, _: random.Random) -> int:
    """CUDA gives up on the model process, at the adapter: it says so, leaves, and a new one answers."""
    restarts = box.restarts["infer"]
    box.gpu.write_text(str(box.infer.pid))
    box.until("the process leaves", lambda: box.restarts["infer"] > restarts)
    return 1


def stripe_down(box: Box, _: random.Random) -> int:
    """It fails, ends connections, and hangs; whoever moderates notices nothing of it."""
    served = box.stripe
    if served is None:
        return 0
    asked = len(served.asked)
    box.until("it is asked", lambda: len(served.asked) > asked)
    for kind in ("500", "unreached", "held"):
        served.fail(kind)
        if kind == "held":
            box.until("a request hangs", served.holding.is_set)
        done = box.answers["202"]
        box.until("more is accepted", lambda done=done: box.answers["202"] > done + 3)
        box.until("it was met", lambda: not served.faults)
        served.released.set()
    asked = len(served.asked)
    box.until("it is asked again", lambda: len(served.asked) > asked)
    return 3


def weights_torn(box: Box, _: random.Random) -> int:
    """Half of a file, another file of the same length, and the same at a start: refused, the open one kept."""
    models = Models(box.house.settings.inference_socket, 30.0)
    name = next(model.name for model in models.status().models if model.state.value == "ready")
    folder = box.home / "weights" / name
    target = folder.resolve()
    if folder.is_symlink():  # what it leads to is not ours
        folder.unlink()
        folder.mkdir()
        for file in target.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    path = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    whole = path.read_bytes()
    wrong: list[str] = []
    for content in (whole[: len(whole) // 2], bytes(reversed(whole))):
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)
        with contextlib.suppress(Failure):
            models.reload(name)
            wrong.append("a file that is not the one was opened")
        state = next(model for model in models.status().models if model.name == name)
        if state.state.value != "ready":
            wrong.append(f"{name} is {state.state.value} after a reload that was refused")
    with box.away("infer"):
        refused = subprocess.run(
            [sys.executable, "-m", "appliance", "infer"],
            env={**os.environ, **box.environ, "CUSTOMHOUSE_INFERENCE_MODELS": name},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if refused.returncode != 1 or "torn or was replaced" not in refused.stderr:
            wrong.append(f"it started with a torn file: {refused.returncode} {refused.stderr[-300:]}")
        path.with_suffix(".new").write_bytes(whole)
        path.with_suffix(".new").replace(path)
    models.close()
    assert not wrong, wrong
    return 3


def nobody_listens(box: Box, _: random.Random) -> int:
    """Callers that leave in the middle of their request."""
    for _again in range(5):
        with contextlib.suppress(httpx.HTTPError):
            asked = {"Authorization": f"Bearer {box.key}"}
            httpx.post(f"{box.address}/api/v1/moderate/image", content=_dribble(), headers=asked, timeout=2)
    return 5


def _dribble():  # type: ignore[no-untyped-def]
    yield b"--x\r\n"
    raise httpx.WriteError("gone")


SCENARIOS: dict[str, Scenario] = {
    "worker killed": worker_killed,
    "worker hangs": worker_hangs,
    "API killed": api_killed,
    "model process killed": models_killed,
    "SIGTERM": told_to_end,
    "machine restarts": all_at_once,
    "disk fails for a while": disk_fails,
    "single calls fail, live": single_calls_fail,
    "queue.db deleted, torn": queue_lost,
    "database locked": locked_for_long,
    "clock jumps": clock_jumps,
    "decoder stuck, killed": decoder_stuck,
    "receiver hangs, resets, refuses": receiver_ill,
    "model process out of memory": out_of_memory,
    "weights torn, swapped": weights_torn,
    "GPU lost (at the adapter)": gpu_lost,
    "Stripe fails, hangs": stripe_down,
    "callers leave": nobody_listens,
}
