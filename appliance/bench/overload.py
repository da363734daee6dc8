"""`customhouse bench --overload`: three times what the box does, by callers who do not wait; what it says to them, what
becomes of those it lets in, of its memory and of its queue, and how soon it is itself again."""

import threading
import time
from collections import Counter
from typing import Any

import httpx
import msgspec

from appliance import audit
from appliance.accounts import keys, organisations
from appliance.accounts.organisations import Changes
from appliance.bench import callers, openloop, record, rig
from appliance.bench.openloop import Load, Shot
from appliance.bench.rig import Rig
from appliance.database import Connection
from appliance.policies import rows as policies
from appliance.settings import Settings

TIMES = 3.0
_CALM = 40  # probes before, one after the other
_CLIENTS = 16
_CAPACITY_S = 6.0
_RECOVERY_S = 600.0
_EVERY_S = 0.25
_SLACK = 2.0  # recovered = a probe takes at most so many times the calm p99, and …
_SLACK_MS = 50.0  # … so much more


class _Traffic(msgspec.Struct, frozen=True):
    """One way of asking: the request that is repeated, and the probe that tells how a patient caller fares."""

    request: bytes
    accepted: int


def run(settings: Settings, seconds: float = 20.0) -> dict[str, Any]:
    with rig.running(settings) as running:
        port = int(running.address.rpartition(":")[2])
        omnimod = running.house.db.write(lambda conn: _omnimod_key(conn, running))
        text = b'{"modality":"text","input":"The ferry leaves at seven and comes back before dark, ########."}'
        prompt = b'{"prompt":"A watercolour of a lighthouse at dawn, number ########"}'
        decisions = _Traffic(_request("/omnimod/v1/moderations", omnimod, text), 200)
        prompts = _Traffic(_request("/api/v1/moderate/prompt", running.key, prompt), 202)
        _ask(port, decisions.request)  # the first text reads its models
        capacity = callers.rate(callers.Load(port, decisions.request, _CLIENTS, _CAPACITY_S))
        figures: dict[str, Any] = {"decisions": _overloaded(running, port, decisions, capacity, seconds, False)}
        capacity = _verdict_rate(running, port, prompts)
        figures["jobs"] = _overloaded(running, port, prompts, capacity, seconds, True)
    return figures


def _overloaded(
    running: Rig, port: int, traffic: _Traffic, capacity: float, seconds: float, has_jobs: bool
) -> dict[str, Any]:
    _wait_until_idle(running)
    calm = [_probe(running, port, traffic, has_jobs, 50_000_000 + number) for number in range(_CALM)]
    calm_p99 = rig.percentile(calm, 0.99)
    load = Load(port, traffic.request, capacity * TIMES, seconds, begin=60_000_000)
    memory_before = _memory(running)
    most: dict[str, float] = {}
    done = threading.Event()
    watching = threading.Thread(target=_watch, args=(running, most, done))
    watching.start()
    try:
        shots = openloop.fire(load)
        ended = time.monotonic()
        recovered = _recovery_s(running, port, traffic, has_jobs, calm_p99, ended)
    finally:
        done.set()
        watching.join()
    told = summed(shots, traffic.accepted)
    return {
        "capacity_per_s": round(capacity, 1),
        "offered_per_s": round(load.rate, 1),
        **told,
        "calm_p99_ms": round(calm_p99, 1),
        "recovered_s": recovered,
        "memory_mb": {
            name: f"{memory_before[name]:.0f}, at most {most.get(name, 0):.0f}, after {now:.0f}"
            for name, now in _memory(running).items()
        },
        "most_open_jobs": int(most.get("open_jobs", 0)),
        "oldest_job_s": round(most.get("oldest_s", 0.0), 1),
    }


def summed(shots: list[Shot], accepted: int) -> dict[str, Any]:
    """What became of them. Latency of those that were let in by halves: it must not grow from the first to the last."""
    let_in = [one for one in shots if one.status == accepted]
    refused = [one for one in shots if one.status == 503]
    halves = [let_in[: len(let_in) // 2], let_in[len(let_in) // 2 :]]
    statuses = Counter("unanswered" if one.status == 0 else "unsent" if one.status < 0 else one.status for one in shots)
    return {
        "answers": {str(status): count for status, count in statuses.most_common()},
        "refused_with_retry_after": f"{sum(one.retry_after >= 0 for one in refused)} of {len(refused)}",
        "accepted_p50_ms": _at(let_in, 0.5),
        "accepted_p99_ms": _at(let_in, 0.99),
        "accepted_p99_ms_by_halves": [_at(half, 0.99) for half in halves],
        "refused_p99_ms": _at(refused, 0.99),
    }


def _at(shots: list[Shot], share: float) -> float | None:
    return round(rig.percentile([one.ms for one in shots], share), 1) if shots else None


def _verdict_rate(running: Rig, port: int, traffic: _Traffic) -> float:
    """Prompts a second that the worker closes while there is always another one waiting."""
    done = threading.Event()
    reader = running.house.db.reader()

    def closed() -> int:
        (count,) = reader.execute("SELECT count(*) FROM job WHERE completed_at IS NOT NULL").fetchone()
        return int(count)

    def feed() -> None:
        number = 0
        with httpx.Client(base_url=running.address, headers={"Authorization": f"Bearer {running.key}"}) as http:
            while not done.is_set():
                number += 1
                http.post("/api/v1/moderate/prompt", json={"prompt": f"A quiet harbour in the rain, number {number}"})

    threads = [threading.Thread(target=feed) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    before, began = closed(), time.perf_counter()
    time.sleep(_CAPACITY_S)
    rate = (closed() - before) / (time.perf_counter() - began)
    done.set()
    for thread in threads:
        thread.join()
    return rate


def _probe(running: Rig, port: int, traffic: _Traffic, has_jobs: bool, number: int) -> float:
    """Milliseconds that a patient caller waits for a verdict."""
    began = time.perf_counter()
    status, body = _ask(port, traffic.request.replace(openloop.NUMBER, b"%08d" % number))
    if status != traffic.accepted:
        return float("inf")
    if has_jobs:
        job, reader = msgspec.json.decode(body)["job_id"], running.house.db.reader()
        while reader.execute("SELECT completed_at FROM job WHERE id = ?", (job,)).fetchone()[0] is None:
            if time.perf_counter() - began > _RECOVERY_S:
                return float("inf")
            time.sleep(0.002)
    return (time.perf_counter() - began) * 1000


def _recovery_s(
    running: Rig, port: int, traffic: _Traffic, has_jobs: bool, calm_p99: float, ended: float
) -> float | None:
    """Seconds from the last answer to the overload until three probes in a row fare as before it; None = never."""
    in_a_row, number = 0, 70_000_000
    since: float | None = None
    while time.monotonic() - ended < _RECOVERY_S:
        number += 1
        began = time.monotonic()
        if _probe(running, port, traffic, has_jobs, number) <= calm_p99 * _SLACK + _SLACK_MS:
            since = began if in_a_row == 0 else since
            in_a_row += 1
            if in_a_row == 3 and since is not None:
                return round(since - ended, 2)
        else:
            in_a_row = 0
        time.sleep(0.05)
    return None


def _watch(running: Rig, most: dict[str, float], done: threading.Event) -> None:
    """The most that was seen of each figure."""
    while not done.wait(_EVERY_S):
        reader = running.house.db.reader()
        (open_jobs,) = reader.execute("SELECT open_jobs FROM backlog").fetchone()
        oldest = reader.execute(
            "SELECT created_at FROM job WHERE status IN ('queued', 'processing') ORDER BY created_at LIMIT 1"
        ).fetchone()
        now = {**_memory(running), "open_jobs": float(open_jobs)}
        now["oldest_s"] = 0.0 if oldest is None else time.time() - oldest["created_at"] / 1000
        for name, value in now.items():
            most[name] = max(most.get(name, 0.0), value)


def _memory(running: Rig) -> dict[str, float]:
    """MB of each process and its children, shared pages counted once."""
    return {name: record.of(pid).pss_mb for name, pid in running.supervisor.pids.items()}


def _wait_until_idle(running: Rig) -> None:
    until = time.monotonic() + _RECOVERY_S
    while time.monotonic() < until:
        if running.house.db.reader().execute("SELECT open_jobs FROM backlog").fetchone()[0] == 0:
            return
        time.sleep(0.2)


def _ask(port: int, request: bytes) -> tuple[int, bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    path = lines[0].split(" ")[1]
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=headers, timeout=60)
    except httpx.HTTPError:
        return 0, b""
    return answer.status_code, answer.content


def _request(path: str, key: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    ).encode() + body


def _omnimod_key(conn: Connection, running: Rig) -> str:
    org_id = organisations.get_or_create(conn, "bench-text").id
    often = Changes(requests_per_minute=1_000_000, plan="flex")
    organisations.change(conn, org_id, often, actor=audit.operator(), reason="a benchmark")
    policies.begin(conn, org_id, running.house.settings.policies_dir)
    return keys.create(conn, running.house.pepper, org_id, "bench", surface="omnimod")[1]
