"""`customhouse bench --soak MINUTES`: mixed traffic against real processes, and a record of what they take. Does
anything grow, is anything lost, does it become slower?

Written to a folder: record.jsonl (a line a process and a line a surface, every few seconds), summary.json, soak.svg.
"""

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from appliance import audit
from appliance.accounts import keys, organisations
from appliance.accounts.organisations import Changes
from appliance.bench import plot, record, rig
from appliance.bench.record import Share, Taken
from appliance.bench.rig import Rig
from appliance.bench.traffic import Receiver, Traffic
from appliance.database import Connection
from appliance.policies import rows as policies
from appliance.settings import Settings

EVERY_S = 3.0
WARM = 1 / 3
"""The first part of the run, in which caches fill and allocators find their size, is not judged."""
BOUNDS = {"pss_mb": 40.0, "fds": 12.0, "threads": 4.0}
"""What each process may grow by in an hour. A leak of one 4 KB page a job is 70 MB an hour at 5 jobs a second."""

LEAST_S = 240.0
"""Of a steady part shorter than this nothing is said: what a process takes in its first minutes is no leak."""

_SETTLE_S = 600.0
NAMES = {"serve": "api", "work": "worker", "infer": "models"}

Points = dict[str, dict[str, list[tuple[float, float]]]]
"""Figure → process or surface → (seconds, value)."""


def run(
    settings: Settings, minutes: float, folder: Path, pace: float = 1.0, every_s: float = EVERY_S
) -> dict[str, Any]:
    """The summary, which also stands in `folder`. Raises CustomhouseError when the processes do not start."""
    folder.mkdir(parents=True, exist_ok=True)
    receiver = Receiver()
    points: Points = defaultdict(lambda: defaultdict(list))
    also = {
        "CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",  # the receiver's
        "CUSTOMHOUSE_LIMITS_FAILED_AUTH_PER_MINUTE": "1000000",  # wrong keys are part of it
    }
    load_before = os.getloadavg()[0]
    try:
        with rig.running(settings, also=also) as running:
            began_with = dict(running.supervisor.pids)
            omnimod = running.house.db.write(lambda conn: _omnimod_key(conn, running))
            traffic = Traffic(running.address, running.key, omnimod, receiver.url, pace)
            traffic.start()
            with (folder / "record.jsonl").open("wb") as lines:
                _record(running, traffic, points, lines, minutes * 60, every_s)
            traffic.stop()
            lost = _settled(running, traffic, receiver)
            ended_with = dict(running.supervisor.pids)
    finally:
        receiver.close()
    summary = {
        "minutes": minutes,
        "pace": pace,
        "machine": {"cores": os.cpu_count(), "load_before": load_before, "load_after": os.getloadavg()[0]},
        "processes": judged(points),
        "restarted": [NAMES[name] for name, pid in began_with.items() if ended_with.get(name) != pid],
        "surfaces": _surfaces(points),
        **lost,
        "wrong_answers": traffic.wrong(),
    }
    summary["is_well"] = is_well(summary)
    (folder / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
    (folder / "soak.svg").write_text(plot.svg(_panels(points), f"customhouse bench --soak {minutes:g}, pace {pace:g}"))
    summary["plot"] = _sparks(points)
    summary["folder"] = str(folder)
    return summary


def is_well(summary: dict[str, Any]) -> bool:
    """Nothing grows, nothing was lost or told wrongly, and no process fell over."""
    verdicts = [one["verdict"] for figures in summary["processes"].values() for one in figures.values()]
    lost = summary["jobs"]["without_verdict"] + summary["webhooks"]["never_told"] + summary["webhooks"]["unstable_ids"]
    return "grows" not in verdicts and not lost and not summary["restarted"] and not summary["wrong_answers"]


def judged(points: Points) -> dict[str, dict[str, dict[str, Any]]]:
    """Process → figure → its slope over the steady part, and whether that is growth."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for figure, bound in BOUNDS.items():
        for process, taken in points[figure].items():
            steady = taken[int(len(taken) * WARM) :]
            if len(steady) < 2:
                continue
            slope = record.slope(steady)
            is_long = steady[-1][0] - steady[0][0] >= LEAST_S
            found[process][figure] = {
                **msgspec.to_builtins(slope),
                "bound_per_hour": bound,
                "verdict": slope.says(bound) if is_long else "too short a run",
            }
    return dict(found)


def _record(running: Rig, traffic: Traffic, points: Points, lines: Any, seconds: float, every_s: float) -> None:
    began, number = time.monotonic(), 0
    shares: dict[str, Share] = defaultdict(Share)
    while (at := time.monotonic() - began) < seconds:
        number += 1
        time.sleep(max(0.0, number * every_s - at))
        at = round(time.monotonic() - began, 1)
        for command, pid in running.supervisor.pids.items():
            name, taken = NAMES[command], record.of(pid)
            share = shares[name].since(taken.cpu_s)
            lines.write(msgspec.json.encode({"at_s": at, "process": name, **_told(taken), "cpu": share}) + b"\n")
            for figure, value in (*_told(taken).items(), ("cpu", share)):
                points[figure][name].append((at, value))
        for surface, figures in traffic.look().items():
            line = {"at_s": at, "surface": surface, **msgspec.to_builtins(figures)}
            lines.write(msgspec.json.encode(line) + b"\n")
            for figure in ("count", "errors", "turned_away", "p50_ms", "p99_ms"):
                points[figure][surface].append((at, getattr(figures, figure)))
        lines.flush()


def _told(taken: Taken) -> dict[str, float]:
    return {name: getattr(taken, name) for name in taken.__struct_fields__}


def _settled(running: Rig, traffic: Traffic, receiver: Receiver) -> dict[str, Any]:
    """Once everything that was accepted is over: each 202 has one verdict, and each webhook was told, by one id."""
    began = time.monotonic()
    hooked = {job for job, surface in traffic.accepted.items() if surface != "refused"}
    reader = running.house.db.reader()
    while time.monotonic() - began < _SETTLE_S:
        (open_jobs,) = reader.execute("SELECT open_jobs FROM backlog").fetchone()
        ended = {row[0] for row in reader.execute("SELECT id FROM job WHERE status = 'completed'")}
        if open_jobs == 0 and hooked & ended <= receiver.deliveries().keys():
            break
        time.sleep(0.5)
    states = {row["id"]: row for row in reader.execute("SELECT id, status, completed_at FROM job")}
    rows = {row[0]: row[1] for row in reader.execute("SELECT job_id, count(*) FROM delivery GROUP BY job_id")}
    told = receiver.deliveries()
    completed = {job for job in hooked if job in states and states[job]["status"] == "completed"}
    by_surface: dict[str, int] = defaultdict(int)
    for surface in traffic.accepted.values():
        by_surface[surface] += 1
    over = [job for job in traffic.accepted if job in states and states[job]["status"] in ("completed", "failed")]
    failed = [job for job in hooked if job in states and states[job]["status"] == "failed"]
    return {
        "jobs": {
            "accepted": len(traffic.accepted),
            "by_surface": dict(by_surface),
            "without_verdict": len(traffic.accepted) - len(over),
            "failed": len(failed),
        },
        "webhooks": {
            "owed": len(completed),
            "never_told": len(completed - told.keys()),
            "told_again": sum(count - 1 for by_id in told.values() for count in by_id.values()),
            "unstable_ids": sum(len(by_id) - 1 for by_id in told.values()),
            "rows_a_job": max(rows.values(), default=0),
        },
        "settled_s": round(time.monotonic() - began, 1),
    }


def _surfaces(points: Points) -> dict[str, dict[str, float]]:
    """Of the whole run; and the p99 in the first and in the last third, which says whether it became slower."""
    found: dict[str, dict[str, float]] = {}
    for surface, counts in points["count"].items():
        p50, p99 = ([value for _, value in points[name][surface]] for name in ("p50_ms", "p99_ms"))
        third = max(1, len(p99) // 3)
        found[surface] = {
            "count": sum(value for _, value in counts),
            "errors": sum(value for _, value in points["errors"][surface]),
            "turned_away": sum(value for _, value in points["turned_away"][surface]),
            "p50_ms": rig.percentile(p50, 0.5),
            "p99_ms": rig.percentile(p99, 0.99),
            "p99_ms_first_third": rig.percentile(p99[:third], 0.5),
            "p99_ms_last_third": rig.percentile(p99[-third:], 0.5),
        }
    return found


def _panels(points: Points) -> dict[str, dict[str, list[tuple[float, float]]]]:
    titles = {
        "pss_mb": "Memory, MB (PSS, children included)",
        "fds": "File descriptors",
        "threads": "Threads",
        "cpu": "Cores busy",
        "p99_ms": "p99 of each few seconds, ms",
    }
    return {title: dict(points[figure]) for figure, title in titles.items()}


def _sparks(points: Points) -> list[str]:
    """For the terminal."""
    lines: list[str] = []
    for figure in ("pss_mb", "fds", "threads", "cpu", "p99_ms"):
        for name, taken in points[figure].items():
            values = [value for _, value in taken]
            lines.append(
                f"{figure:<8} {name:<10} {plot.spark(taken)}  {min(values):,.4g} to {max(values):,.4g}, "
                f"now {values[-1]:,.4g}"
            )
    return lines


def _omnimod_key(conn: Connection, running: Rig) -> str:
    org_id = organisations.get_or_create(conn, "bench-text").id
    often = Changes(requests_per_minute=1_000_000, plan="flex")
    organisations.change(conn, org_id, often, actor=audit.operator(), reason="a benchmark")
    policies.begin(conn, org_id, running.house.settings.policies_dir)
    return keys.create(conn, running.house.pepper, org_id, "bench", surface="omnimod")[1]
