"""`customhouse bench --history`: the list, usage and the export over HTTP, on as many jobs as asked for. The data are
generated here, in a scratch folder that is removed: 400 days, one organisation with nearly all of them, 50 small ones.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

import httpx
import msgspec

from appliance import clock, database
from appliance.accounts import keys, organisations
from appliance.bench import rig
from appliance.database import Connection
from appliance.errors import CustomhouseError
from appliance.house import House
from appliance.jobs import export
from appliance.schema import FOLDER, statements
from appliance.settings import Settings

DAYS = 400
SMALL = 50
AIM_P95_MS = 50.0
AIM_ROWS_PER_S = 200_000

_DAY = 86_400_000
_BYTES_A_JOB = 1500  # with its indexes, and what making those takes beside
_STEP = 100_000  # jobs an INSERT
_START_S = 60.0

Query = Callable[[random.Random, "Stock"], tuple[str, dict[str, Any]]]


class Stock(msgspec.Struct, frozen=True):
    """What was generated."""

    jobs: int
    since: int
    until: int
    ids: list[str]
    """Some of the large organisation's."""


class _Keys(msgspec.Struct, frozen=True):
    large: str
    small: str


# --- what is asked ----------------------------------------------------------------------------------------------------


def _list(**fixed: Any) -> Query:
    return lambda rng, stock: ("/api/v1/jobs", fixed)


def _range(**fixed: Any) -> Query:
    """Between two moments, from an hour to a year apart."""

    def ask(rng: random.Random, stock: Stock) -> tuple[str, dict[str, Any]]:
        length = int(_DAY * 365 ** rng.random())
        since = rng.randrange(stock.since, stock.until - min(length, 300 * _DAY))
        return "/api/v1/jobs", {**fixed, "from": clock.rfc3339(since), "to": clock.rfc3339(since + length)}

    return ask


def _deep(share: float, **fixed: Any) -> Query:
    """Any page among this share of all jobs."""
    return lambda rng, stock: (
        "/api/v1/jobs",
        {**fixed, "limit": 100, "offset": rng.randrange(int(stock.jobs * share))},
    )


def _prefix(length: int, **fixed: Any) -> Query:
    return lambda rng, stock: ("/api/v1/jobs", {**fixed, "search": rng.choice(stock.ids)[:length]})


def _deep_prefix(length: int) -> Query:
    def ask(rng: random.Random, stock: Stock) -> tuple[str, dict[str, Any]]:
        matching = int(stock.jobs * 0.9 / 16**length)
        return "/api/v1/jobs", {"search": rng.choice(stock.ids)[:length], "offset": rng.randrange(max(1, matching))}

    return ask


def _usage(part: str, *periods: str) -> Query:
    return lambda rng, stock: (f"/api/v1/usage{part}", {"period": rng.choice(periods)} if periods else {})


QUERIES: dict[str, Query] = {
    "list: newest page": _list(),
    "list: type": lambda rng, stock: _list(type=rng.choice(["prompt", "image", "video"]))(rng, stock),
    "list: decision": lambda rng, stock: _list(decision=rng.choice(["pass", "reject"]))(rng, stock),
    "list: status": lambda rng, stock: _list(status=rng.choice(["completed", "queued,processing", "failed"]))(
        rng, stock
    ),
    "list: type, decision, status": _list(type="video", decision="reject", status="completed,failed"),
    "list: range": _range(),
    "list: range, type, decision": _range(type="image", decision="reject"),
    "list: deep offset": _deep(0.94),
    "list: deep offset, decision": _deep(0.8, decision="pass"),
    "list: deep offset, type, decision": _deep(0.025, type="image", decision="reject"),
    "list: prefix of 1": _prefix(1),
    "list: prefix of 1, deep offset": _deep_prefix(1),
    "list: prefix of 1, range": lambda rng, stock: (
        "/api/v1/jobs",
        {**_range()(rng, stock)[1], **_prefix(1)(rng, stock)[1]},
    ),
    "list: prefix of 1, type, decision": _prefix(1, type="video", decision="reject"),
    "list: prefix of 2": _prefix(2),
    "list: prefix of 2, deep offset": _deep_prefix(2),
    "list: prefix of 3": _prefix(3),
    "list: prefix of 8": _prefix(8),
    "list: whole id": _prefix(36),
    "usage": _usage(""),
    "usage: volume": _usage("/volume", "month", "week", "day", "hour"),
    "usage: cost": _usage("/cost", "month", "week", "day", "hour"),
    "usage: rejections": _usage("/rejections", "month", "week", "day"),
}


def run(settings: Settings, jobs: int = 10_000_000, each: int = 200) -> dict[str, Any]:
    """Generate, serve, ask. Raises CustomhouseError when the disk is too small."""
    with rig.scratch(settings) as scratch:
        need, free = jobs * _BYTES_A_JOB, shutil.disk_usage(scratch.home).free
        if free < need:
            raise CustomhouseError(
                f"{scratch.home.parent}: {jobs:,} jobs need {need / 1e9:.0f} GB for the time of the benchmark, and "
                f"{free / 1e9:.0f} GB are free; set TMPDIR to a larger disk, or ask for fewer with --jobs"
            )
        made, generated = generate(scratch, jobs)
        stock, their_keys = made
        with _served(scratch) as (address, pid):
            queries = _measured(address, their_keys, stock, each)
            served = _exported(address, their_keys, stock, pid)
        alone = _exported_alone(scratch)
    return {
        "generated": generated,
        "queries": queries,
        "export over HTTP": served,
        "export, generator alone": alone,
        "aims": f"each query p95 <= {AIM_P95_MS:g} ms, export >= {AIM_ROWS_PER_S:,} rows/s",
    }


# --- asking -----------------------------------------------------------------------------------------------------------


def _measured(address: str, their_keys: _Keys, stock: Stock, each: int) -> dict[str, dict[str, Any]]:
    """Every class one request after the other, then all classes mixed from two clients at once, and a small one's."""
    rng = random.Random(7)  # noqa: S311  # which questions are asked
    figures: dict[str, dict[str, Any]] = {}
    with _client(address, their_keys.large) as large, _client(address, their_keys.small) as small:
        for name, query in QUERIES.items():
            figures[name] = _summary([_asked(large, *query(rng, stock)) for _ in range(each)])
        figures["small organisation: newest page"] = _summary([_asked(small, "/api/v1/jobs", {}) for _ in range(each)])
        deep = [_asked(small, "/api/v1/jobs", {"offset": rng.randrange(1000)}) for _ in range(each)]
        figures["small organisation: deep offset"] = _summary(deep)
    waits: list[float] = []

    def mixed(number: int) -> None:
        own = random.Random(number)  # noqa: S311  # which questions are asked
        with _client(address, their_keys.large) as http:
            waits.extend(_asked(http, *own.choice(list(QUERIES.values()))(own, stock)) for _ in range(each * 2))

    rig.in_parallel(2, mixed)
    figures["all of these mixed, 2 clients"] = _summary(waits)
    return figures


def _client(address: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def _asked(http: httpx.Client, path: str, query: dict[str, Any]) -> float:
    """Milliseconds until the whole answer is there."""
    begun = time.perf_counter()
    answer = http.get(path, params=query)
    took = (time.perf_counter() - begun) * 1000
    answer.raise_for_status()
    return took


def _summary(waits: list[float]) -> dict[str, Any]:
    p95 = rig.percentile(waits, 0.95)
    return {
        "p50_ms": round(rig.percentile(waits, 0.5), 1),
        "p95_ms": round(p95, 1),
        "is_met": p95 <= AIM_P95_MS,
    }


def _exported(address: str, their_keys: _Keys, stock: Stock, pid: int) -> dict[str, Any]:
    """A year, to the last byte, while another client asks for the newest page."""
    span = {"from": clock.rfc3339(stock.until - 366 * _DAY), "to": clock.rfc3339(stock.until)}
    before = rig.peak_mb(pid, is_reset=True)
    rows, size, begun = -1, 0, time.perf_counter()
    with (
        _client(address, their_keys.large) as http,
        http.stream("GET", "/api/v1/jobs/export", params=span) as answer,
    ):
        answer.raise_for_status()
        for piece in answer.iter_raw():
            rows += piece.count(b"\n")
            size += len(piece)
    took = time.perf_counter() - begun
    return {
        "rows": rows,
        "mb": round(size / 1e6),
        "rows_per_s": round(rows / took),
        "is_met": rows / took >= AIM_ROWS_PER_S,
        "peak_mb_before": before,
        "peak_mb": rig.peak_mb(pid),
    }


def _exported_alone(settings: Settings) -> dict[str, Any]:
    conn = database.connect(settings.database)
    row = conn.execute("SELECT id FROM organisation WHERE name = 'large'").fetchone()
    place: export.Place | None = export.beginning(0)
    rows, begun, busy = 0, time.perf_counter(), time.process_time()
    custom = export.slugs(conn, row["id"], 0, clock.now_ms())
    while place is not None:
        lines, place = export.piece(conn, row["id"], custom, place, clock.now_ms(), expose_reasons=False)
        rows += lines.count(b"\n")
    took, busy = time.perf_counter() - begun, time.process_time() - busy
    conn.close()
    # the second tells of a machine that others use meanwhile
    return {"rows": rows, "rows_per_s": round(rows / took), "rows_per_cpu_s": round(rows / busy)}


@contextlib.contextmanager
def _served(settings: Settings) -> Generator[tuple[str, int]]:
    """The API alone; its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {
        **os.environ,
        "CUSTOMHOUSE_HOME": str(settings.home),
        "CUSTOMHOUSE_SERVER_PORT": str(port),
        "CUSTOMHOUSE_LOG_LEVEL": "error",
    }
    server = subprocess.Popen([sys.executable, "-m", "appliance", "serve"], env=environ)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health/live", timeout=2).status_code == 200:
                    break
            if server.poll() is not None or time.monotonic() > until:
                raise CustomhouseError("the benchmark's server did not become ready; see its message above")
            time.sleep(0.1)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(30)


# --- generating -------------------------------------------------------------------------------------------------------


def generate(settings: Settings, jobs: int) -> tuple[tuple[Stock, _Keys], dict[str, Any]]:
    """The scratch database, filled as one is that was in use for 400 days. In bulk, without triggers: what they would
    have counted is filled in as a migration does it."""
    house = House(settings)
    their_keys, names, key_ids = house.db.write(lambda conn: _enrolled(conn, house.pepper))
    house.close()
    conn = database.connect(settings.database)
    # random ids touch every page of their index in each step: through a log, that would be written a hundred times
    for setting in ("foreign_keys = OFF", "journal_mode = OFF", "synchronous = OFF", "cache_size = -3000000"):
        conn.execute(f"PRAGMA {setting}")
    until = clock.now_ms()
    since = until - DAYS * _DAY
    took: dict[str, Any] = {}
    begun = time.monotonic()
    beside = conn.execute(
        "SELECT type, name, sql FROM sqlite_master "
        "WHERE tbl_name IN ('job', 'job_content') AND type IN ('index', 'trigger') AND sql IS NOT NULL"
    ).fetchall()
    for row in beside:
        conn.execute(f"DROP {row['type']} {row['name']}")
    conn.execute("BEGIN")
    for first in range(0, jobs, _STEP):
        _fill(conn, first, min(jobs, first + _STEP), jobs, since, until, names, key_ids)
    took["rows_s"] = round(time.monotonic() - begun, 1)
    for row in beside:
        conn.execute(row["sql"])
    took["indexes_s"] = round(time.monotonic() - begun - took["rows_s"], 1)
    filling = time.monotonic()
    for statement in statements(FOLDER / "005_history_filled.sql"):
        conn.execute(statement)
    took["counts_and_usage_s"] = round(time.monotonic() - filling, 1)
    conn.execute(
        "UPDATE usage SET prompt_micros = prompt_jobs * 800, image_micros = image_jobs * 2000, "
        "video_micros = video_jobs * 20000"
    )
    conn.execute("UPDATE backlog SET open_jobs = (SELECT count(*) FROM job WHERE status IN ('queued', 'processing'))")
    ids = [row["id"] for row in conn.execute("SELECT id FROM job WHERE seq % :n = 1", {"n": max(1, jobs // 1000)})]
    conn.execute("COMMIT")
    conn.execute("PRAGMA journal_mode = WAL")
    conn.close()
    generated = {"jobs": jobs, "gb": round(settings.database.stat().st_size / 1e9, 2), **took}
    return (Stock(jobs, since, until + 1000, ids), their_keys), generated


def _enrolled(conn: Connection, pepper: bytes) -> tuple[_Keys, list[str], list[str]]:
    """The organisations, the large one first, with a key each that no limit of requests holds back."""
    ids: list[str] = []
    key_ids: list[str] = []
    raw: list[str] = []
    for name in ["large", *(f"small-{number}" for number in range(SMALL))]:
        organisation = organisations.get_or_create(conn, name)
        key, shown = keys.create(conn, pepper, organisation.id, "bench")
        ids.append(organisation.id)
        key_ids.append(key.id)
        raw.append(shown)
    conn.execute("UPDATE organisation SET requests_per_minute = 1000000")
    return _Keys(raw[0], raw[1]), ids, key_ids


_TEXT = (
    "a lighthouse at dawn above a quiet harbour, painted in thin watercolour, with gulls over the pier and a small "
    'boat that comes home; soft light, long shadows, the sea is calm and the "old" town still sleeps behind its wall'
)


def _fill(
    conn: Connection, first: int, last: int, jobs: int, since: int, until: int, org_ids: list[str], key_ids: list[str]
) -> None:
    """Jobs `first` to `last` of so many: one in twenty of a small organisation; more by day than by night; 70 %
    prompts, 27 % images, 3 % videos; 10 % rejected, 2 % failed, the last few still open."""
    conn.execute(
        """
        WITH RECURSIVE number (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number WHERE n < :last - 1),
        drawn AS MATERIALIZED (
            SELECT n, lower(hex(randomblob(16))) AS hex, abs(random() % 100) AS kind, abs(random() % 100) AS state,
                iif(n % 20 = 0, 1 + n / 20 % :small, 0) AS org,
                CAST(:since + (n + 0.8 * :a_day / 6.2832 * sin(6.2832 * n / :a_day)) * :step AS INTEGER) AS at
            FROM number)
        INSERT INTO job (seq, id, org_id, key_id, kind, status, request_id, plan, is_prohibited, categories, reason,
            error_code, created_at, started_at, completed_at, gpu_ms, tokens)
        SELECT n + 1,
            substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-4' || substr(hex, 14, 3) || '-a' || substr(hex, 18, 3)
                || '-' || substr(hex, 21, 12),
            :orgs ->> org, :keys ->> org,
            CASE WHEN kind < 70 THEN 'PROMPT_MODERATION' WHEN kind < 97 THEN 'IMAGE_MODERATION'
                ELSE 'VIDEO_MODERATION' END,
            CASE WHEN n > :jobs - 300 THEN iif(n % 3, 'queued', 'processing') WHEN state < 2 THEN 'failed'
                ELSE 'completed' END,
            'req_' || substr(hex, 1, 24), '{"checks":["ai_adult_general","underage","nsfw","text"],"custom":{}}',
            CASE WHEN n > :jobs - 300 OR state < 2 THEN NULL ELSE state < 12 END,
            CASE WHEN n > :jobs - 300 THEN NULL
                WHEN kind < 70 OR state < 2 THEN '{"custom":{}}'
                ELSE '{"ai_adult_general":' || iif(state < 5, 'true', 'false') || ',"underage":false,"nsfw":'
                    || iif(state BETWEEN 4 AND 11, 'true', 'false') || ',"custom":'
                    || iif(n % 5 = 0, '{"logos":false,"weapons":' || iif(state = 11, 'true', 'false') || '}', '{}')
                    || '}'
                END,
            iif(state BETWEEN 2 AND 11 AND kind < 70, 'The text contained a blacklisted keyword.', NULL),
            iif(state < 2, 'MEDIA_UNREACHABLE', NULL),
            at, at + 40, iif(n > :jobs - 300, NULL, at + 300 + kind * 17), kind * 3, kind
        FROM drawn
        """,
        {
            "first": first,
            "last": last,
            "jobs": jobs,
            "small": SMALL,
            "since": since,
            "a_day": jobs / DAYS,
            "step": (until - since) / jobs,
            "orgs": msgspec.json.encode(org_ids).decode(),
            "keys": msgspec.json.encode(key_ids).decode(),
        },
    )
    conn.execute(
        """
        INSERT INTO job_content (seq, job_id, text, url)
        SELECT seq, id, iif(kind = 'PROMPT_MODERATION', seq || ': ' || substr(:text, 1, 20 + seq * 37 % 180), NULL),
            iif(kind = 'PROMPT_MODERATION', NULL, 'https://media.example/' || substr(id, 1, 8) || '.jpg')
        FROM job WHERE seq > :first AND seq <= :last
        """,
        {"first": first, "last": last, "text": _TEXT},
    )
