"""A database that was in use before there was a history: what it holds is listed, summed and exported all the same."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from appliance import clock, database
from appliance.database import Connection
from appliance.jobs import export, history, usage
from appliance.jobs.history import Wanted
from appliance.jobs.usage import DAY, MINUTE, PERIODS
from appliance.schema import migrations
from tests import made

ORG = "5f0a7c52-0000-4000-8000-000000000001"
SINCE = 20_590 * DAY

Jobs = list[dict[str, Any]]


@pytest.fixture
def upgraded(tmp_path: Path) -> tuple[Connection, Jobs]:
    path = tmp_path / "customhouse.db"
    conn = database.connect(path)
    migrations.apply(sqlite_utils.Database(conn), stop_before="m003_accounts")
    conn.execute("INSERT INTO organisation (id, name, created_at) VALUES (?, 'A', 0)", (ORG,))
    jobs = made.random_jobs(ORG, 300, SINCE, SINCE + 4 * DAY, seed=21)
    now = clock.now_ms()
    jobs += [made.job(ORG, now - n * MINUTE, text=f"a harbour, number {n}") for n in range(5)]
    random.Random(22).shuffle(jobs)
    for job in jobs:
        job["text"] = job["text"] if job["kind"] == "PROMPT_MODERATION" else None
        conn.execute(
            """
            INSERT INTO job (id, org_id, kind, status, is_prohibited, categories, created_at, completed_at)
            VALUES (:id, :org_id, :kind, :status, :is_prohibited, :categories, :created_at, :completed_at)
            """,
            job,
        )
        conn.execute("INSERT INTO job_input (job_id, text) VALUES (:id, :text)", job)
    conn.close()
    database.migrate(path)
    return database.connect(path), jobs


def test_its_jobs_are_listed_and_counted(upgraded: tuple[Connection, Jobs]) -> None:
    conn, jobs = upgraded
    for prefix, is_prohibited in (("", None), ("a", None), ("b", True), ("", False)):
        wanted = Wanted(prefix=prefix, is_prohibited=is_prohibited)
        found = [
            job
            for job in jobs
            if job["id"].startswith(prefix)
            and (is_prohibited is None or (job["status"] == "completed" and job["is_prohibited"] == int(is_prohibited)))
        ]
        found.sort(key=lambda job: (-job["created_at"], job["id"]))
        page = history.page(conn, ORG, wanted, 100, 20)
        assert page.total == len(found)
        assert [job.id for job in page.jobs] == [job["id"] for job in found[20:120]]


def test_its_usage_is_filled_in(upgraded: tuple[Connection, Jobs]) -> None:
    conn, jobs = upgraded
    days = usage.days(conn, ORG, SINCE, SINCE + 4 * DAY)
    old = [job for job in jobs if job["created_at"] < SINCE + 4 * DAY]
    completed = [job for job in old if job["status"] == "completed"]
    assert sum(day.jobs for day in days) == len(old) == 300
    assert sum(day.rejected for day in days) == sum(job["is_prohibited"] == 1 for job in completed)
    assert sum(day.passed for day in days) == sum(job["is_prohibited"] == 0 for job in completed)
    hour = usage.volume(conn, ORG, PERIODS["hour"], clock.now_ms())
    assert sum(bucket.prompt for bucket in hour) == 5
    _, custom = usage.rejections(conn, ORG, PERIODS["month"], SINCE + 4 * DAY)
    rejected = [job["categories"] for job in completed if job["is_prohibited"] == 1]
    assert set(custom) == {"boats", "dogs"}
    assert custom["dogs"] == sum('"dogs":true' in one for one in rejected)


def test_its_prompts_are_exported_each_with_its_job(upgraded: tuple[Connection, Jobs]) -> None:
    conn, jobs = upgraded
    lines, place = export.piece(conn, ORG, [], export.beginning(0), clock.now_ms() + 1, expose_reasons=False)
    assert place is None
    rows = csv.reader(io.StringIO(lines.decode(), newline=""))
    assert {row[0]: row[6] for row in rows} == {job["id"]: job["text"] or "" for job in jobs}


def test_what_is_submitted_and_deleted_afterwards_is_counted_on(upgraded: tuple[Connection, Jobs]) -> None:
    conn, jobs = upgraded
    made.insert_into(conn, [made.job(ORG, SINCE + 1)])
    conn.execute("DELETE FROM job WHERE id = :id", jobs[0])
    page = history.page(conn, ORG, Wanted(), 100, 0)
    assert page.total == len(jobs)
    assert page.total == conn.execute("SELECT count(*) FROM job").fetchone()[0]
