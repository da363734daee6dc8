"""`customhouse bench --policies`: a version previewed over a million stored events, and the list of them. The events
are generated here, in a scratch folder that is removed: 90 days, one organisation, three versions, scores as texts have
them (most near 0, a few high). What is previewed is the strict policy."""

import os
import resource
import threading
import time
from typing import Any

import msgspec
import numpy as np

from appliance import clock
from appliance.accounts import organisations
from appliance.bench import rig
from appliance.database import Connection
from appliance.house import House
from appliance.moderations import events, preview, quota, usage
from appliance.moderations.decision import DECISIONS
from appliance.moderations.events import Detail, Filter
from appliance.moderations.preview import Wanted
from appliance.policies import change, rows
from appliance.policies.change import By
from appliance.policies.version import ACTIONS, Version
from appliance.settings import Settings
from appliance.text.analysis import ANALYZERS, JUDGE

AIM_S = 10.0

_DAYS = 90
_STEP = 20_000
_BY = By("operator:bench", "for the benchmark")
_LANGUAGES = ("en", "es", "fr", "de", "unknown", "mixed", "pl")
_SHARES = (0.6, 0.1, 0.08, 0.08, 0.08, 0.03, 0.03)


def run(settings: Settings, events_made: int = preview.MOST) -> dict[str, Any]:
    """Generate, replay, list."""
    with rig.scratch(settings) as scratch:
        house = House(scratch)
        try:
            return _run(house, events_made)
        finally:
            house.close()


def _run(house: House, count: int) -> dict[str, Any]:
    org_id = house.db.write(lambda conn: organisations.create(conn, "bench").id)
    versions = house.db.write(lambda conn: _versions(conn, house, org_id))
    began = time.perf_counter()
    _generate(house, org_id, versions, count)
    made_s = time.perf_counter() - began
    _, body = rows.template(house.settings.policies_dir, "strict")
    before_mb = _resident_mb()
    pauses = _Pauses()
    previewed: dict[str, float] = {}
    for name, wanted in (("first", Wanted(org_id, None, count)), ("again", Wanted(org_id, None, count))):
        began = time.perf_counter()
        with pauses:
            report = preview.run(house.db.reader, wanted, body, has_judge=True)
        previewed[f"{name}, s"] = round(time.perf_counter() - began, 2)
    began = time.perf_counter()
    exported = sum(
        len(chunk) for chunk in preview.every_flip(house.db.reader, Wanted(org_id, None, count), body, has_judge=True)
    )
    export_s = time.perf_counter() - began
    return {
        "events": f"{report.events:,}, made in {made_s:.0f} s, {made_s / report.events * 1e6:.0f} µs each",
        "preview": {**previewed, "aim, s": AIM_S, "events/s": round(report.events / previewed["again, s"])},
        "what came of it": {
            "flipped": report.flipped,
            "not replayed": sum(report.not_replayed.values()),
            "exported": exported,
            "export, s": round(export_s, 2),
        },
        "beside it": {
            "longest pause of another thread, ms": round(pauses.longest_ms, 1),
            "memory more, MB": round(_peak_mb() - before_mb, 1),
        },
        "list, ms": _lists(house, org_id),
        "one query, µs": _queries(house, org_id),
        "database, bytes an event": house.db.path.stat().st_size // report.events,
    }


def _versions(conn: Connection, house: House, org_id: str) -> list[Version]:
    rows.begin(conn, org_id, house.settings.policies_dir)
    policy = rows.find(conn, org_id, rows.DEFAULT)
    found: list[Version] = []
    for warn in (0.6, 0.55, 0.5):
        given = {"analyzers": {"spam": {"thresholds": {"warn": warn}}}}
        policy = change.add(conn, policy, given, ANALYZERS, _BY)
        version = rows.in_force(conn, org_id, policy.slug)
        assert version is not None
        found.append(version)
    return found


def _generate(house: House, org_id: str, versions: list[Version], count: int) -> None:
    rng = np.random.default_rng(4)
    now = clock.now_ms()
    span = _DAYS * 86_400_000
    judge = ANALYZERS.index(JUDGE)
    body = msgspec.json.encode(Detail(matched={"spam": ("free money",)}, language_confidence=0.98)).decode()
    replays = [preview.Replay(house.db.reader, version.body, has_judge=True) for version in versions]
    for start in range(0, count, _STEP):
        length = min(_STEP, count - start)
        scores = (rng.random((length, len(ANALYZERS))) ** 24).astype("<f4")
        languages = rng.choice(_LANGUAGES, size=length, p=_SHARES).tolist()
        of: list[int] = rng.integers(0, len(versions), length).tolist()
        asked = rng.random(length)
        made: list[dict[str, Any]] = []
        acted = np.empty((len(versions), length), dtype=np.int8)
        judged = np.empty((len(versions), length), dtype=np.bool_)
        unclear = np.array([language not in ("en", "es", "fr", "de") for language in languages])
        for number, replay in enumerate(replays):
            acted[number], judged[number] = replay.as_decided(scores, unclear)
        for place in range(length):
            number = of[place]
            row = scores[place]
            if not judged[number, place]:
                row[judge] = np.nan
            action = ACTIONS[int(acted[number, place])]
            made.append(
                {
                    "id": f"mev_{clock.new_ulid()}",
                    "org": org_id,
                    "policy": versions[number].policy_id,
                    "version": versions[number].id,
                    "decision": DECISIONS[action],
                    "action": action,
                    "language": languages[place],
                    "hash": os.urandom(32),
                    "scores": row.tobytes(),
                    "body": body,
                    "external": f"comment-{start + place}" if asked[place] < 0.5 else None,
                    "at": now - span + span * (start + place) // count,
                }
            )
        house.db.write(lambda conn, made=made: _insert(conn, made))


def _insert(conn: Connection, made: list[dict[str, Any]]) -> None:
    conn.executemany(
        """
        INSERT INTO moderation_event (id, org_id, request_id, origin, modality, policy_id, version_id, decision,
            engine_action, severity, language, content_hash, scores, body, external_id, created_at)
        VALUES (:id, :org, 'req_bench', 'omnimod', 'text', :policy, :version, :decision, :action, 'low', :language,
            :hash, :scores, :body, :external, :at)
        """,
        made,
    )


def _lists(house: House, org_id: str) -> dict[str, float]:
    """The median of 50 pages of 100, from random places."""
    conn = house.db.reader()
    now = clock.now_ms()
    wanted = {
        "newest": Filter(),
        "block": Filter(decision="block"),
        "allow": Filter(decision="allow"),
        "policy": Filter(policy_id=rows.find(conn, org_id, rows.DEFAULT).id),
        "external_id": Filter(external_id="comment-17"),
        "language": Filter(language="pl"),
        "origin that nobody uses": Filter(origin="dify"),
        "block, pl, a week": Filter(decision="block", language="pl", since=now - 7 * 86_400_000),
    }
    return {name: _median_ms(lambda one=one: events.page(conn, org_id, one, limit=100)) for name, one in wanted.items()}


def _queries(house: House, org_id: str) -> dict[str, float]:
    conn = house.db.reader()
    return {
        "quota": round(1000 * _median_ms(lambda: quota.of(conn, org_id)), 1),
        "last 24 hours": round(1000 * _median_ms(lambda: usage.last_day(conn, org_id)), 1),
    }


def _median_ms(ask: Any, times: int = 50) -> float:
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1000)
    return round(sorted(took)[times // 2], 3)


class _Pauses:
    """How long a thread that wants to run each millisecond has to wait: what the event loop would feel."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()

    def __enter__(self) -> None:
        self._is_over.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        assert self._thread is not None
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.is_set():
            began = time.perf_counter()
            time.sleep(0.001)
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - began) * 1000 - 1)


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
