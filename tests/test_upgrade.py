"""A database of the release before there were accounts, as it was in use: what is on it works on after an upgrade, and
an upgrade that two processes begin, or that is killed, does no harm."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from litestar.testing import TestClient

from appliance import clock, database, schema
from appliance.accounts import custom
from appliance.api.app import create_app
from appliance.billing import ledger, reconcile
from appliance.database import Connection
from appliance.house import House, digest
from appliance.jobs import advance, rows
from appliance.jobs.job import Finding
from appliance.settings import Settings
from appliance.text import keywords
from appliance.text.lexicons import Lexicons
from appliance.webhooks import deliveries, endpoints
from appliance.work import erase, retention
from appliance.work.erase import Scope

ROOT = Path(__file__).resolve().parent.parent
PEPPER = b"p" * 32
DAY = 86_400_000
A, C = "0a000000-0000-4000-8000-000000000001", "0c000000-0000-4000-8000-000000000002"
KEY_OF = {A: "stars_" + "a" * 40, C: "stars_" + "c" * 40}
PLAN = {"checks": ["nsfw", "ai_adult_general", "underage", "text"], "custom": {"dogs": "Is there a dog?"}}
FINDING = {
    "categories": {"nsfw": True},
    "scores": [{"category": "nsfw", "model": "m", "label": "x", "score": 0.9, "threshold": 0.5, "device": "cpu"}],
    "is_prohibited": False,
    "detail": {"tokens": 7},
}


def job_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def used(path: Path, jobs: int = 12, before: str = "m003_accounts") -> None:
    """The tables of issue 2, with rows as that release wrote them. Jobs go round: a prompt that passed, one that was
    rejected, an image that failed, a video with frames, and a prompt and an image that still wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    conn = database.connect(path)
    schema.migrations.apply(sqlite_utils.Database(conn), stop_before=before)
    now = clock.now_ms()
    conn.execute("BEGIN")
    for org, name in ((A, "A"), (C, "C")):
        conn.execute("INSERT INTO organisation (id, name, created_at) VALUES (?, ?, ?)", (org, name, now - 50 * DAY))
        scopes = '["moderate:prompt","moderate:image","moderate:video","job:read","usage:read"]'
        conn.execute(
            "INSERT INTO api_key (id, org_id, name, prefix, digest, scopes, created_at) VALUES (?, ?, 'k', ?, ?, ?, ?)",
            (f"key-{name}", org, KEY_OF[org][:12], digest(PEPPER, KEY_OF[org]), scopes, now - 50 * DAY),
        )
        conn.execute("INSERT INTO webhook_endpoint VALUES (?, 'http://receiver.example/x', NULL, NULL, 0, 0)", (org,))
        conn.execute(
            "INSERT INTO webhook_secret VALUES (?, 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz', NULL, NULL, 0)", (org,)
        )
    conn.execute(
        "INSERT INTO custom_category VALUES ('cat', ?, 'dogs', 'Dogs', 'Is there a dog?', 1, ?, ?)", (A, now, now)
    )
    conn.execute("INSERT INTO keyword VALUES ('kw', ?, 'mild word', 'word', NULL, 1, ?)", (A, now))
    conn.execute("INSERT INTO idempotency VALUES (?, 'r', 'k', 'f', NULL, ?)", (A, now))
    conn.execute(
        "INSERT INTO audit (at, actor, action, subject) VALUES (?, 'operator:x', 'key.created', 'stars_aaa')", (now,)
    )
    for number in range(jobs):
        _job(conn, number, A if number % 4 else C, now - (jobs - number) * 1000)
    conn.execute("COMMIT")
    conn.close()


def _job(conn: Connection, number: int, org: str, at: int) -> None:
    kind, status, is_prohibited, code = (
        ("PROMPT_MODERATION", "completed", 0, None),
        ("PROMPT_MODERATION", "completed", 1, None),
        ("IMAGE_MODERATION", "failed", None, "MEDIA_UNREACHABLE"),
        ("VIDEO_MODERATION", "completed", 1, None),
        ("PROMPT_MODERATION", "queued", None, None),
        ("IMAGE_MODERATION", "queued", None, None),
    )[number % 6]
    name, is_open = job_id(number), status == "queued"
    categories = None if is_open else json.dumps({"nsfw": bool(is_prohibited), "custom": {"dogs": False}})
    conn.execute(
        """
        INSERT INTO job (id, org_id, key_id, kind, status, plan, is_prohibited, categories, error_code, created_at,
            completed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (name, org, "key-A" if org == A else "key-C", kind, status, json.dumps(PLAN), is_prohibited, categories, code,
         at, None if is_open else at + 500),
    )  # fmt: skip
    is_prompt = kind == "PROMPT_MODERATION"
    conn.execute(
        "INSERT INTO job_input (job_id, text, url) VALUES (?, ?, ?)",
        (
            name,
            f"lighthouse {number:06d} " * (1 + number % 400) if is_prompt else None,
            None if is_prompt else "http://m.example/x",
        ),
    )
    child = conn.execute(
        "INSERT INTO child (job_id, kind, status, finding, created_at) VALUES (?, ?, ?, ?, ?)",
        (name, {"P": "TEXT_MODERATION", "I": "NSFW_CLASSIFICATION", "V": "FRAME_EXTRACTION"}[kind[0]], status,
         json.dumps(FINDING) if status == "completed" else None, at),
    ).lastrowid  # fmt: skip
    if kind == "VIDEO_MODERATION":
        conn.execute(
            """
            INSERT INTO child (job_id, parent_id, kind, at_ms, status, finding, created_at)
            VALUES (?, ?, 'FRAME_MODERATION', 0, 'completed', ?, ?)
            """,
            (name, child, json.dumps(FINDING), at),
        )
    if not is_open and code is None:
        sent = number % 12 < 6
        conn.execute(
            """
            INSERT INTO delivery (id, org_id, job_id, url, is_global, body, status, attempts, next_at, created_at,
                finished_at) VALUES (?, ?, ?, 'http://receiver.example/x', 1, ?, ?, ?, ?, ?, ?)
            """,
            (f"wh_{name}", org, name, json.dumps({"job_id": name}), "delivered" if sent else "pending", int(sent), at,
             at, at if sent else None),
        )  # fmt: skip
        if sent:
            conn.execute(
                "INSERT INTO delivery_attempt (delivery_id, at, http_status, ms) VALUES (?, ?, 204, 3.5)",
                (f"wh_{name}", at),
            )


@pytest.fixture
def upgraded(settings: Settings) -> Iterator[House]:
    settings.home.mkdir()
    (settings.home / "pepper").write_bytes(PEPPER)
    used(settings.database)
    house = House(settings)
    yield house
    house.close()


@pytest.fixture
def api(upgraded: House) -> Iterator[TestClient[Any]]:
    with TestClient(create_app(upgraded), raise_server_exceptions=True) as client:
        yield client


def headers(org: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY_OF[org]}"}


# --- what is on it ---------------------------------------------------------------------------------------------------


def test_a_migration_that_was_released_is_never_edited() -> None:
    """A database out there has run it as it was: what is to change comes as a new one."""
    released = {
        "001_initial.sql": "aee61a4984bf529e98edf6da30fcec5154a0557414b529f40ed9f4cef5c18eaa",
        "002_keyword_version.sql": "7dc1108dfa467b28b265c90c2613981b3b1fc0f72158b5e496b7c438b966a38f",
    }
    folder = Path(schema.__file__).parent
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in released} == released


def test_an_upgraded_database_has_the_schema_of_a_new_one(upgraded: House, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    database.migrate(new)
    conn = database.connect(new)
    query = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    expected = [tuple(row) for row in conn.execute(query)]
    conn.close()
    assert [tuple(row) for row in upgraded.db.reader().execute(query)] == expected
    assert upgraded.db.reader().execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert upgraded.db.reader().execute("PRAGMA foreign_key_check").fetchall() == []


def test_its_jobs_are_answered_as_they_were(api: TestClient[Any]) -> None:
    for number in range(12):
        org, other = (A, C) if number % 4 else (C, A)
        body = api.get(f"/api/v1/job/{job_id(number)}", headers=headers(org)).json()
        status = ("completed", "completed", "failed", "completed", "queued", "queued")[number % 6]
        verdict = (False, True, None, True, None, None)[number % 6]
        assert (body["status"], body["is_prohibited"], body["api_key_name"]) == (status, verdict, "k")
        assert api.get(f"/api/v1/job/{job_id(number)}", headers=headers(other)).status_code == 404


def test_its_jobs_are_listed_summed_and_exported(api: TestClient[Any]) -> None:
    listed = api.get("/api/v1/jobs", headers=headers(A)).json()
    assert listed["total"] == 9
    assert [job["job_id"] for job in listed["jobs"]] == [job_id(n) for n in range(11, -1, -1) if n % 4]
    volume = api.get("/api/v1/usage/volume?period=week", headers=headers(A)).json()
    assert sum(one["prompt"] + one["image"] + one["video"] for one in volume["data"]) == 9
    rejected = api.get("/api/v1/usage/rejections", headers=headers(A)).json()
    assert rejected["categories"]["nsfw"] == 4
    today = time.strftime("%Y-%m-%d", time.gmtime(time.time() - DAY / 1000))
    later = time.strftime("%Y-%m-%d", time.gmtime(time.time() + DAY / 1000))
    sheet = api.get(f"/api/v1/jobs/export?from={today}&to={later}", headers=headers(A)).content.decode("utf-8-sig")
    prompts = {row["job_id"]: row["prompt"] for row in csv.DictReader(io.StringIO(sheet, newline=""))}
    assert prompts[job_id(1)] == "lighthouse 000001 " * 2
    assert prompts[job_id(3)] == ""


def test_its_keys_are_limited_and_nothing_is_charged(upgraded: House, api: TestClient[Any]) -> None:
    answer = api.post("/api/v1/moderate/prompt", data={"prompt": "a new lighthouse"}, headers=headers(A))
    assert answer.status_code == 202
    assert answer.headers["x-ratelimit-limit"] == str(upgraded.settings.limits.requests_per_minute)
    assert api.get("/api/v1/billing/balance", headers=headers(A)).status_code == 200
    assert ledger.balance(upgraded.db.reader(), A) == 0
    assert reconcile.check(upgraded.db.reader()).is_whole
    new = rows.job(upgraded.db.reader(), answer.json()["job_id"])
    assert new is not None
    assert new.seq == 13


def test_its_open_jobs_are_finished_and_told(upgraded: House) -> None:
    now = clock.now_ms()
    assert rows.open_jobs(upgraded.db.reader()) == 4
    assert set(rows.waiting(upgraded.db.reader(), now, now, 10)) == {job_id(n) for n in (4, 5, 10, 11)}

    def finish(conn: Connection) -> advance.FollowUp:
        (child,) = rows.claim(conn, job_id(10), "w", 5, now, now + 1000)
        rows.complete(conn, child, Finding(categories={"text": False}), True, now)
        return advance.close_if_done(conn, upgraded.settings, job_id(10), now)

    assert upgraded.db.write(finish) == advance.FollowUp(job_id(10), is_closed=True, delivery_id=f"wh_{job_id(10)}")
    found = rows.input_of(upgraded.db.reader(), job_id(10))
    assert found is not None
    assert found.text == "lighthouse 000010 " * 11
    assert [
        finding.scores[0].score
        for child in rows.children_of(upgraded.db.reader(), job_id(3))
        if (finding := child.finding)
    ] == [0.9, 0.9]


def test_its_deliveries_are_sent_on_and_its_addresses_kept(upgraded: House) -> None:
    now = clock.now_ms()
    reader = upgraded.db.reader()
    assert {one.org_id for one in endpoints.every(reader)} == {A, C}
    waiting = [
        one.id for one in deliveries.every(reader, org_id=None, status=None, limit=50) if one.finished_at is None
    ]
    assert set(waiting) == {f"wh_{job_id(n)}" for n in (6, 7, 9)}
    claim = upgraded.db.write(lambda conn: deliveries.claim(conn, f"wh_{job_id(7)}", now, 1000))
    assert claim is not None
    assert (json.loads(claim.body), len(claim.secrets)) == ({"job_id": job_id(7)}, 1)
    assert [one.http_status for one in deliveries.attempts(reader, f"wh_{job_id(1)}")] == [204]


def test_its_terms_and_categories_are_in_force(upgraded: House) -> None:
    assert [one.keyword for one in keywords.every(upgraded.db.reader(), A)] == ["mild word"]
    lexicons = Lexicons(upgraded)
    assert lexicons.match(A, "a mild word here") is not None
    assert lexicons.match(C, "a mild word here") is None
    (category,) = custom.every(upgraded.db.reader(), A)
    assert (category.slug, category.question, category.version, category.enabled) == (
        "dogs",
        "Is there a dog?",
        1,
        True,
    )
    assert [one.version for one in custom.history(upgraded.db.reader(), A)] == [1]


def test_its_prompts_stand_in_the_file_once_and_go_by_retention_and_erase(upgraded: House) -> None:
    """The table that they stood in was made anew, and the old one's pages are zeroed."""
    assert database.empty_log(upgraded.db.path, 5)
    raw = upgraded.db.path.read_bytes()
    assert {n: raw.count(f"lighthouse {n:06d} ".encode()) for n in (0, 1, 4, 6, 7, 10)} == {
        n: n + 1 for n in (0, 1, 4, 6, 7, 10)
    }
    upgraded.db.write(lambda conn: conn.execute("UPDATE organisation SET retain_prompts_days = 0 WHERE id = ?", (C,)))
    assert retention.run(upgraded)["prompts"] == 2  # its jobs are 0, 4 and 8, of which 4 is open
    erase.erase(upgraded, Scope(job_id=job_id(1)), actor="operator:x", reason="asked")
    raw = upgraded.db.path.read_bytes()
    assert b"lighthouse 000000" not in raw
    assert b"lighthouse 000001" not in raw
    assert b"lighthouse 000004" in raw


# --- how it is upgraded ----------------------------------------------------------------------------------------------

MIGRATE = "import sys; from pathlib import Path; from appliance import database; database.migrate(Path(sys.argv[1]))"


def start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", MIGRATE, str(path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def applied(path: Path) -> list[str]:
    conn = database.connect(path)
    names = [row["name"] for row in conn.execute("SELECT name FROM _sqlite_migrations ORDER BY name")]
    conn.close()
    return names


def jobs_and_texts(path: Path) -> tuple[int, int]:
    conn = database.connect(path)
    jobs = conn.execute("SELECT count(*) FROM job").fetchone()[0]
    texts = conn.execute("SELECT count(*) FROM job_input WHERE text IS NOT NULL").fetchone()[0]
    conn.close()
    return jobs, texts


def test_several_processes_that_upgrade_at_once_do_it_once(tmp_path: Path) -> None:
    path = tmp_path / "customhouse.db"
    used(path, 3000)
    running = [start(path) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    names = applied(path)
    assert names == sorted(set(names))
    assert len(names) == len(schema.migrations.names)
    assert jobs_and_texts(path) == (3000, 1500)


def test_an_upgrade_that_is_killed_is_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "customhouse.db"
    used(path, 3000)
    begun = time.monotonic()
    whole = tmp_path / "whole.db"
    used(whole, 3000)
    assert start(whole).wait(120) == 0
    took_s = time.monotonic() - begun
    for share in (0.2, 0.35, 0.5, 0.65, 0.8):
        process = start(path)
        time.sleep(took_s * share / 2)
        process.kill()
        process.wait()
        assert jobs_and_texts(path) == (3000, 1500)
    assert start(path).wait(120) == 0
    assert applied(path) == applied(whole)
    assert jobs_and_texts(path) == (3000, 1500)
    conn = database.connect(path)
    assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    conn.close()
