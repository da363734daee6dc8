"""The ledger under kill -9: `python -m tests.kills --kills 1000 --jobs 5000 --seed 1`.

Clients submit prompts, drawn pictures and jobs that must fail, under Idempotency-Keys, again and again until each is
accepted. Meanwhile worker and API are killed, each a random moment (0 to 500 ms) after it was seen working, and started
again; the model process stays. Then everything is left to finish, and it is asked: is every accepted job closed, each
once; is each charged once and each failed one given back once; do sums, balances and chains hold; was each webhook
told, and never two ways. Two triggers in the scratch database write down every end of a job and of a child, so that a
second one could not hide.
"""

import argparse
import contextlib
import http.server
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import httpx
import msgspec
import numpy as np

from appliance import settings as settings_file
from appliance.accounts import keys, organisations, plans
from appliance.accounts.plans import Changes, ChargeMethod
from appliance.billing import ledger, reconcile
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.text import keywords
from tests.zygote import Fork, Zygote

PRICES = Changes(prompt_micros=800, image_micros=2_000, video_micros=50_000, gpu_second_micros=1_500)
CREDIT_MICROS = 1_000_000_000
BLOCKED = "zeppelin"
"""A word on the scratch organisations' blocklist: such a prompt is prohibited without a model."""

BATCH = 4
"""Texts in a batch."""

_VICTIMS = ("work", "serve")
_CLIENTS = 3
_SLACK = 0.04  # so much of the jobs is submitted ahead of the kills
_MOST_OPEN = 400
_LONGEST_DELAY_S = 0.5
_PATIENCE_S = 60.0
_FINISH_S = 240.0
_STALL_S = 8.0

_WITNESSES = (
    "CREATE TABLE witness_job (job_id TEXT, status TEXT, is_prohibited INTEGER)",
    "CREATE TABLE witness_child (child_id INTEGER, status TEXT)",
    """
    CREATE TRIGGER witness_job_closed AFTER UPDATE OF status ON job WHEN new.status IN ('completed', 'failed')
        BEGIN INSERT INTO witness_job VALUES (new.id, new.status, new.is_prohibited); END
    """,
    """
    CREATE TRIGGER witness_child_done AFTER UPDATE OF status ON child WHEN new.status IN ('completed', 'failed')
        BEGIN INSERT INTO witness_child VALUES (new.id, new.status); END
    """,
)


class Campaign(msgspec.Struct, frozen=True):
    kills: int
    jobs: int
    seed: int


class Wanted(msgspec.Struct, frozen=True):
    """A job that a client means to submit."""

    number: int
    org: str
    kind: str
    """prompt, blocked, batch, image, missing, refused, damaged."""
    webhook: bool


class Accepted(msgspec.Struct, frozen=True):
    """What a 202 said."""

    subject: str
    """What its webhook is about: the job's id, or the batch's."""
    jobs: tuple[str, ...]


class Tally:
    """What the clients and killers saw. Threads share it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.accepted: dict[int, Accepted] = {}
        """By the wanted job's number."""
        self.kills: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        """By themselves: the API's main process gives up when its worker is killed twice in a moment."""
        self.unseen: Counter[str] = Counter()
        """Killed though it was not seen working for a minute, or nothing was left to do."""
        self.retries: Counter[str] = Counter()
        self.replays = 0
        self.oddities: list[str] = []
        self.moved: tuple[int, int, float] = (0, 0, time.monotonic())
        """Kills, answers, and since when they stand there."""
        self.stalls: list[float] = []
        """Seconds for which nothing moved."""
        self.answers = 0

    def odd(self, what: str) -> None:
        with self.lock:
            self.oddities.append(what)

    @property
    def killed(self) -> int:
        return sum(self.kills.values())


class Receiver(http.server.ThreadingHTTPServer):
    """Takes deliveries: the id → how often each body came. What is asked for is never there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.got: dict[str, Counter[bytes]] = {}
        self.lock = threading.Lock()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A worker that is killed in mid-delivery leaves half a request: that is the point."""


class _Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return  # its sender was killed in the middle: nothing was told
        server: Any = self.server
        with server.lock:
            server.got.setdefault(self.headers["webhook-id"], Counter())[body] += 1
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        return None


class Box:
    """The scratch Customhouse: model process for good, worker and API from the zygote."""

    def __init__(self, home: Path, weights: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "weights").symlink_to(weights.resolve())
        self.port = _free_port()
        self.environ = {
            "CUSTOMHOUSE_HOME": str(home),
            "CUSTOMHOUSE_SERVER_PORT": str(self.port),
            "CUSTOMHOUSE_SERVER_MIN_FREE_DISK_MB": "1",
            "CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
            "CUSTOMHOUSE_MEDIA_DECODERS": "1",
            "CUSTOMHOUSE_WORKER_RETRY_BASE_S": "0.1",
            "CUSTOMHOUSE_WORKER_SWEEP_S": "0.5",
            "CUSTOMHOUSE_WEBHOOKS_SEND_FAILED": "true",
            "CUSTOMHOUSE_WEBHOOKS_TIMEOUT_S": "2",  # and with it the lease of a delivery whose worker was killed
            "CUSTOMHOUSE_BILLING_COUNT_CPU_SECONDS": "true",
            "CUSTOMHOUSE_LOG_LEVEL": "error",
        }
        self.house = House(settings_file.load(environ=self.environ))
        self.keys = self.house.db.write(self._enrol)
        log = home / "processes.log"
        self.zygote = Zygote(self.environ, log)
        with log.open("ab") as file:
            self.infer = subprocess.Popen(
                [sys.executable, "-m", "appliance", "infer"],
                env={**os.environ, **self.environ},
                stderr=file,
                stdout=file,
            )
        self.forks = {what: self.zygote.start(what) for what in ("work", "serve")}
        self._wait()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def restart(self, what: str) -> None:
        self.forks[what].close()
        self.forks[what] = self.zygote.start(what)

    def open_jobs(self) -> int:
        return int(self.house.db.reader().execute("SELECT open_jobs FROM backlog").fetchone()[0])

    def close(self) -> None:
        self.zygote.close()
        self.infer.kill()
        self.infer.wait()
        self.house.close()

    def _enrol(self, conn: Connection) -> dict[str, str]:
        """One organisation a charge method, with credit; their keys."""
        raw: dict[str, str] = {}
        for method in ChargeMethod:
            owner = organisations.create(conn, method.value)
            plans.create(
                conn,
                method.value.replace("_", "-"),
                method.value,
                msgspec.structs.replace(PRICES, charge_method=method),
                actor="operator:kills",
                reason="the campaign",
            )
            conn.execute(
                "UPDATE organisation SET plan = ?, requests_per_minute = 1000000 WHERE id = ?",
                (method.value.replace("_", "-"), owner.id),
            )
            source = ("manual", f"kills {method.value}")
            ledger.post(conn, owner.id, EntryType.CREDIT, CREDIT_MICROS, source=source, description="Credit", now=1)
            keywords.add(conn, BLOCKED, org_id=owner.id, actor="operator:kills")
            raw[method.value] = keys.create(conn, self.house.pepper, owner.id, "kills")[1]
        for statement in _WITNESSES:
            conn.execute(statement)
        return raw

    def _wait(self) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.address}/health", timeout=5).status_code == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the processes did not become ready; see {self.house.settings.home}/processes.log")


def wanted(campaign: Campaign) -> list[Wanted]:
    """The jobs, by the seed: prompts mostly, some pictures, and a tenth that must fail."""
    rng = random.Random(campaign.seed)
    kinds = ["prompt", "blocked", "batch", "image", "missing", "refused", "damaged"]
    found = rng.choices(kinds, weights=[74, 9, 2, 5, 6, 2, 2], k=campaign.jobs)
    orgs = rng.choices([method.value for method in ChargeMethod], weights=[6, 3, 1], k=campaign.jobs)
    return [Wanted(n, org, kind, rng.random() < 0.25) for n, (org, kind) in enumerate(zip(orgs, found, strict=True))]


def run(campaign: Campaign, home: Path, weights: Path, *, say: Any = None) -> dict[str, Any]:
    """The campaign and its report; `report["faults"]` is empty when all holds."""
    began = time.monotonic()
    receiver = Receiver()
    box = Box(home, weights)
    tally = Tally()
    stop = threading.Event()
    todo = wanted(campaign)
    clients = [
        threading.Thread(target=_submit, args=(box, receiver, campaign, todo[n::_CLIENTS], tally, stop, n))
        for n in range(_CLIENTS)
    ]
    killers = [threading.Thread(target=_kill, args=(box, what, campaign, tally, stop)) for what in _VICTIMS]
    threads = [*clients, *killers]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(1.0)
            _watch(box, tally)
            for killer, what in zip(killers, _VICTIMS, strict=True):  # who has killed enough looks after nobody
                if not killer.is_alive() and not box.forks[what].is_alive:
                    box.restart(what)
            if say is not None:
                say(
                    f"{time.monotonic() - began:6.0f} s  {tally.killed} kills  {len(tally.accepted)} accepted  "
                    f"{box.open_jobs()} open"
                )
        left = _finish(box)
        return _report(campaign, box, receiver, todo, tally, left, time.monotonic() - began)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        box.close()
        receiver.shutdown()
        receiver.server_close()


def _watch(box: Box, tally: Tally) -> None:
    """When nothing moves for long, have both processes write down where each of their threads is."""
    kills, answers, since = tally.moved
    if (tally.killed, tally.answers) != (kills, answers):
        if time.monotonic() - since > _STALL_S:
            tally.stalls.append(round(time.monotonic() - since, 1))
        tally.moved = (tally.killed, tally.answers, time.monotonic())
    elif _STALL_S < time.monotonic() - since < _STALL_S + 1.5:
        for pid in _forks(box.house.settings.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)
            time.sleep(0.2)  # or they write into each other's lines


def _forks(home: Path) -> list[int]:
    """All that the zygote started and what those forked, also one whose parent is gone."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            is_ours = entry.name.isdigit() and b"tests.zygote" in (entry / "cmdline").read_bytes()
            if is_ours and str(home).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


# --- clients ---------------------------------------------------------------------------------------------------------


def _submit(
    box: Box,
    receiver: Receiver,
    campaign: Campaign,
    todo: list[Wanted],
    tally: Tally,
    stop: threading.Event,
    client: int,
) -> None:
    """Submit each until it is accepted, no faster than the kills come."""
    rng = random.Random(campaign.seed * 100 + client)
    with httpx.Client(base_url=box.address, timeout=20) as http:
        for one in todo:
            while not stop.is_set() and _is_ahead(box, campaign, tally):
                time.sleep(0.02)
            again = rng.random() < 0.05
            while not stop.is_set():
                accepted = _ask(http, box, receiver, one, tally)
                if accepted is None:
                    time.sleep(rng.uniform(0.02, 0.15))
                    continue
                with tally.lock:
                    before = tally.accepted.setdefault(one.number, accepted)
                    tally.answers += 1
                if before != accepted:
                    tally.odd(f"the same Idempotency-Key made {before} and {accepted}")
                if not again:
                    break
                again = False  # once more on purpose: it must be the same job
                tally.replays += 1


def _is_ahead(box: Box, campaign: Campaign, tally: Tally) -> bool:
    share = tally.killed / campaign.kills if campaign.kills else 1.0
    return len(tally.accepted) > campaign.jobs * (share + _SLACK) or box.open_jobs() > _MOST_OPEN


def _ask(http: httpx.Client, box: Box, receiver: Receiver, one: Wanted, tally: Tally) -> Accepted | None:
    """None when it has to be asked again."""
    data: dict[str, Any] = {"webhook_url": f"{receiver.address}/hook"} if one.webhook else {}
    files: dict[str, Any] | None = None
    path = "/api/v1/moderate/image"
    match one.kind:
        case "prompt":
            path, data["prompt"] = "/api/v1/moderate/prompt", f"a quiet harbour in the evening, number {one.number}"
        case "blocked":
            path, data["prompt"] = "/api/v1/moderate/prompt", f"a {BLOCKED} over the sea, number {one.number}"
        case "batch":
            path = "/api/v1/moderate/text/batch"
            words = [BLOCKED if n == 0 else "lighthouse" for n in range(BATCH)]
            data["items"] = [{"key": str(n), "text": f"a {word} at dawn, {one.number}"} for n, word in enumerate(words)]
        case "missing":
            data["image_url"] = f"{receiver.address}/missing-{one.number}.png"
        case "refused":
            data["image_url"] = f"http://127.0.0.1:9/refused-{one.number}.png"
        case "damaged":
            files = {"image_file": ("a.png", picture(one.number)[:60])}
        case _:
            files = {"image_file": ("a.png", picture(one.number))}
    headers = {"Authorization": f"Bearer {box.keys[one.org]}", "Idempotency-Key": f"kills-{one.number}"}
    try:
        if one.kind == "batch":
            answer = http.post(path, json=data, headers=headers)
        else:
            answer = http.post(path, data=data, files=files, headers=headers)
    except httpx.TransportError as error:
        tally.retries[type(error).__name__] += 1
        return None
    if answer.status_code == 202:
        body = answer.json()
        if one.kind == "batch":
            return Accepted(body["batch_id"], tuple(item["job_id"] for item in body["items"]))
        return Accepted(body["job_id"], (body["job_id"],))
    tally.retries[str(answer.status_code)] += 1
    if answer.status_code not in (409, 503):
        tally.odd(f"job {one.number} ({one.kind}) was answered {answer.status_code}: {answer.text[:200]}")
        time.sleep(1.0)
    return None


def picture(number: int) -> bytes:
    """A drawn circle on a plain ground, another for each number."""
    rng = np.random.default_rng(number)
    canvas = np.full((96, 96, 3), rng.integers(120, 255, 3), dtype=np.uint8)
    colour = [int(value) for value in rng.integers(0, 120, 3)]
    cv2.circle(canvas, (int(rng.integers(30, 66)), 48), int(rng.integers(10, 28)), colour, -1)
    return bytes(cv2.imencode(".png", canvas)[1])


# --- killers ---------------------------------------------------------------------------------------------------------


def _kill(box: Box, what: str, campaign: Campaign, tally: Tally, stop: threading.Event) -> None:
    """Kill one of the two processes, half of all times, each a random moment after it was seen working."""
    rng = random.Random(f"{campaign.seed} {what}")
    for _ in range(campaign.kills // 2 + (campaign.kills % 2 if what == "work" else 0)):
        seen = _claims(box)
        answers = tally.answers
        until = time.monotonic() + _PATIENCE_S
        while not stop.is_set() and time.monotonic() < until:
            if not box.forks[what].is_alive:
                tally.ended[what] += 1
                if what == "work":
                    tally.odd("the worker ended by itself")
                box.restart(what)
            if _is_done(box, campaign, tally) or (_claims(box) - seen if what == "work" else tally.answers > answers):
                break
            time.sleep(0.01)
        if stop.wait(rng.uniform(0, _LONGEST_DELAY_S)):
            return
        victim = box.forks[what]
        if what == "serve" and rng.random() < 0.3 and (child := _child(victim)):
            child.signal(signal.SIGKILL)  # the server starts another one itself
            child.close()
            tally.kills["api worker"] += 1
            continue
        victim.signal(signal.SIGKILL)
        tally.kills["worker" if what == "work" else "api"] += 1
        while victim.is_alive:
            time.sleep(0.001)
        box.restart(what)


def _claims(box: Box) -> set[str]:
    """The claims that stand now: each has a name of its own, so a new one shows that the worker works."""
    rows = box.house.db.reader().execute("SELECT worker FROM child WHERE status = 'processing'")
    return {str(row["worker"]) for row in rows}


def _is_done(box: Box, campaign: Campaign, tally: Tally) -> bool:
    """Nothing is left that could be seen working: kill all the same."""
    return len(tally.accepted) >= campaign.jobs and box.open_jobs() == 0


def _child(of: Fork) -> Fork | None:
    """The process that the server forked to answer requests, while it is there."""
    try:
        named = Path(f"/proc/{of.pid}/task/{of.pid}/children").read_text().split()
        child = Fork(int(named[0])) if named else None
        if child is not None and f"PPid:\t{of.pid}\n" in Path(f"/proc/{child.pid}/status").read_text():
            return child
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


# --- the end ---------------------------------------------------------------------------------------------------------


def _finish(box: Box) -> dict[str, int]:
    """Wait until nothing is open any more; how much was when patience ended."""
    until = time.monotonic() + _FINISH_S
    while True:
        for what in _VICTIMS:
            if not box.forks[what].is_alive:
                box.restart(what)
        row = box.house.db.reader().execute(
            """
            SELECT (SELECT count(*) FROM job WHERE status IN ('queued', 'processing')) AS jobs,
                (SELECT count(*) FROM delivery WHERE status IN ('pending', 'sending')) AS deliveries
            """
        )
        left = dict(row.fetchone())
        if not any(left.values()) or time.monotonic() > until:
            return left
        time.sleep(0.2)


def _report(
    campaign: Campaign,
    box: Box,
    receiver: Receiver,
    todo: list[Wanted],
    tally: Tally,
    left: dict[str, int],
    took_s: float,
) -> dict[str, Any]:
    conn = box.house.db.reader()

    def count(statement: str, *bound: Any) -> int:
        return int(conn.execute(statement, bound).fetchone()[0])

    jobs = {row["id"]: dict(row) for row in conn.execute("SELECT id, org_id, status, kind, gpu_ms FROM job")}
    names = {one.id: one.name for one in organisations.every(conn)}
    entries: dict[str, Counter[str]] = {}
    for row in conn.execute("SELECT job_id, type FROM ledger WHERE job_id IS NOT NULL"):
        entries.setdefault(row["job_id"], Counter())[row["type"]] += 1
    due = {job_id: _due(names[job["org_id"]], job["status"], job["gpu_ms"]) for job_id, job in jobs.items()}
    told = {delivery[3:]: bodies for delivery, bodies in receiver.got.items()}
    to_tell = {tally.accepted[one.number].subject for one in todo if one.webhook and one.number in tally.accepted}
    accepted = [job_id for one in tally.accepted.values() for job_id in one.jobs]
    whole = reconcile.check(conn)
    failed = conn.execute("SELECT error_code, count(*) FROM job WHERE status = 'failed' GROUP BY 1").fetchall()
    faults = {
        "jobs that nobody was told of": sorted(set(jobs) - set(accepted)),
        "accepted jobs that are not there": sorted(set(accepted) - set(jobs)),
        "jobs accepted for two requests": [job_id for job_id, times in Counter(accepted).items() if times > 1],
        "wanted jobs that were never accepted": [one.number for one in todo if one.number not in tally.accepted],
        "jobs that are open": [job_id for job_id, job in jobs.items() if job["status"] not in ("completed", "failed")],
        "jobs with more than one end": _twice(conn, "SELECT job_id FROM witness_job GROUP BY 1 HAVING count(*) > 1"),
        "children with more than one end": _twice(
            conn, "SELECT child_id FROM witness_child GROUP BY 1 HAVING count(*) > 1"
        ),
        "jobs whose entries are not what is due": [
            f"{job_id}: {dict(entries.get(job_id, {}))} instead of {dict(wants)}"
            for job_id, wants in due.items()
            if entries.get(job_id, Counter()) != wants
        ],
        "entries of no job": sorted(set(entries) - set(jobs)),
        "the ledger": [msgspec.to_builtins(fault) for fault in whole.evidence],
        "deliveries told two ways": [job_id for job_id, bodies in told.items() if len(bodies) > 1],
        "deliveries of no wanted job": sorted(set(told) - to_tell),
        "deliveries never told": sorted(to_tell - set(told)),
        "the database": [row[0] for row in conn.execute("PRAGMA integrity_check") if row[0] != "ok"],
        "not finished": [f"{what}: {number}" for what, number in left.items() if number],
        "oddities": tally.oddities,
    }
    return {
        "campaign": msgspec.to_builtins(campaign),
        "took_s": round(took_s, 1),
        "kills": dict(tally.kills),
        "killed_unseen": dict(tally.unseen),
        "gave_up": dict(tally.ended),
        "jobs": {
            "accepted": len(accepted),
            "completed": count("SELECT count(*) FROM job WHERE status = 'completed'"),
            "prohibited": count("SELECT count(*) FROM job WHERE is_prohibited"),
            "failed": {row[0]: row[1] for row in failed},
            "tries_lost_to_kills": count("SELECT ifnull(sum(attempts - 1), 0) FROM child"),
        },
        "stalls_s": tally.stalls,
        "clients": {"asked_again": dict(tally.retries), "repeated_on_purpose": tally.replays},
        "ledger": {
            "entries": whole.entries,
            "charged": whole.charged_jobs,
            "refunded": whole.refunded_jobs,
            "balance_micros": whole.balance_micros,
            "sum_micros": count("SELECT sum(amount_micros) FROM ledger"),
        },
        "webhooks": {
            "told": len(told),
            "told_more_than_once": sum(1 for bodies in told.values() if bodies.total() > 1),
        },
        "faults": {what: found for what, found in faults.items() if found},
    }  # fmt: skip


def _due(org: str, status: str, gpu_ms: int) -> Counter[str]:
    """The entries that such a job must have."""
    failed = status == "failed"
    match ChargeMethod(org):
        case ChargeMethod.PER_JOB:
            return Counter({"charge": 1, "refund": 1}) if failed else Counter({"charge": 1})
        case ChargeMethod.GPU_TIME:
            assert PRICES.gpu_second_micros is not msgspec.UNSET
            return Counter({"charge": 1}) if not failed and gpu_ms * PRICES.gpu_second_micros >= 500 else Counter()
        case ChargeMethod.NONE:
            return Counter()


def _twice(conn: Connection, statement: str) -> list[Any]:
    return [row[0] for row in conn.execute(statement)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS"))
    parser.add_argument("--report", type=Path, help="where the report goes besides, and the processes' log beside it")
    asked = parser.parse_args()
    if asked.weights is None:
        parser.error("--weights or CUSTOMHOUSE_TEST_WEIGHTS names the folder of fetched models")
    spoken = 0.0

    def say(line: str) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= 10:
            spoken = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="customhouse-kills-", ignore_cleanup_errors=True) as folder:
        report = run(Campaign(asked.kills, asked.jobs, asked.seed), Path(folder) / "home", asked.weights, say=say)
        log = (Path(folder) / "home" / "processes.log").read_text()
        if report["faults"]:
            print(log[-3_000:], file=sys.stderr)
    written = json.dumps(report, indent=2)
    print(written)
    if asked.report is not None:
        asked.report.write_text(written)
        asked.report.with_suffix(".log").write_text(log)
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(_main())
