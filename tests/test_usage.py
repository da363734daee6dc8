"""GET /api/v1/usage and its parts: the contract's shapes, sums that agree with a plain loop, and what stays."""

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance import clock
from appliance.billing import ledger
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import history, usage
from appliance.jobs.history import Wanted
from appliance.jobs.usage import DAY, HOUR, MINUTE, PERIODS
from tests import made
from tests.cast import Person, enrol
from tests.test_history import planned

Client = TestClient[Any]

T0 = 1_779_192_000_000  # 2026-05-19T12:00Z
NOW = datetime(2026, 5, 19, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def may(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the 19th of May 2026, half a minute past noon."""
    monkeypatch.setattr(clock, "now", lambda: NOW)


def asked(client: Client, person: Person, part: str = "", **query: Any) -> dict[str, Any]:
    response = client.get(f"/api/v1/usage{part}", params=query, headers=person.headers)
    assert response.status_code == 200, response.text
    return response.json()


def entry(conn: Connection, job: dict[str, Any], type: EntryType, micros: int) -> None:
    source = ("job" if type is EntryType.CHARGE else "job_failed", job["id"])
    kind = job["kind"].removesuffix("_MODERATION").lower()
    ledger.post(
        conn,
        job["org_id"],
        type,
        micros,
        source=source,
        description="x",
        now=job["created_at"] + 5 * DAY,
        job_id=job["id"],
        modality=kind,
    )


@pytest.mark.usefixtures("may")
def test_a_month_has_the_contracts_members_and_every_day_up_to_today(
    client: Client, house: House, alice: Person, charlie: Person
) -> None:
    paid = made.job(alice.org_id, T0 - DAY, gpu_ms=1250, tokens=300)
    failed = made.job(alice.org_id, T0, kind="IMAGE_MODERATION", status="failed", is_prohibited=None, gpu_ms=250)
    made.insert(
        house,
        [
            paid,
            failed,
            made.job(alice.org_id, T0, is_prohibited=1),
            made.job(alice.org_id, T0, status="queued", is_prohibited=None),
            made.job(alice.org_id, T0 - 30 * DAY, tokens=7),
            made.job(charlie.org_id, T0, tokens=9),
        ],
    )

    def change(conn: Connection) -> None:
        entry(conn, paid, EntryType.CHARGE, -800)
        entry(conn, failed, EntryType.CHARGE, -2000)
        entry(conn, failed, EntryType.REFUND, 2000)

    house.db.write(change)
    body = asked(client, alice)
    assert list(body) == [
        "billing_period",
        "total_tokens",
        "total_cost_usd",
        "total_gpu_seconds",
        "total_jobs",
        "passed_jobs",
        "rejected_jobs",
        "daily",
    ]
    daily = body.pop("daily")
    assert body == {
        "billing_period": "2026-05-01",
        "total_tokens": 300,
        "total_cost_usd": 0.0008,
        "total_gpu_seconds": 1.5,
        "total_jobs": 4,
        "passed_jobs": 1,
        "rejected_jobs": 1,
    }
    assert [day["date"] for day in daily] == [f"2026-05-{day:02}" for day in range(1, 20)]
    assert daily[0] == {"date": "2026-05-01", "tokens": 0, "cost_usd": 0.0, "gpu_seconds": 0.0}
    assert daily[17] == {"date": "2026-05-18", "tokens": 300, "cost_usd": 0.0008, "gpu_seconds": 1.25}
    assert daily[18] == {"date": "2026-05-19", "tokens": 0, "cost_usd": 0.0, "gpu_seconds": 0.25}


@pytest.mark.usefixtures("may")
@pytest.mark.parametrize(
    ("given", "first", "days"),
    [
        ("2026-05-31", "2026-05-01", 19),
        ("2026-04-15", "2026-04-01", 30),
        ("2024-02-29", "2024-02-01", 29),
        ("2026-06-01", "2026-06-01", 0),
        ("9999-12-31", "9999-12-01", 0),
        ("0001-01-01", "0001-01-01", 31),
    ],
)
def test_any_day_names_its_month(client: Client, alice: Person, given: str, first: str, days: int) -> None:
    body = asked(client, alice, billing_period=given)
    assert (body["billing_period"], len(body["daily"]), body["total_jobs"]) == (first, days, 0)


@pytest.mark.usefixtures("may")
@pytest.mark.parametrize("part", ["volume", "cost"])
@pytest.mark.parametrize(
    ("period", "bucket", "count", "first", "last"),
    [
        ("hour", "minute", 60, "2026-05-19T11:01:00.000Z", "2026-05-19T12:00:00.000Z"),
        ("day", "hour", 24, "2026-05-18T13:00:00.000Z", "2026-05-19T12:00:00.000Z"),
        ("week", "day", 7, "2026-05-13T00:00:00.000Z", "2026-05-19T00:00:00.000Z"),
        ("month", "day", 30, "2026-04-20T00:00:00.000Z", "2026-05-19T00:00:00.000Z"),
    ],
)
def test_buckets_are_filled_with_zeros_up_to_now(
    client: Client, house: House, alice: Person, part: str, period: str, bucket: str, count: int, first: str, last: str
) -> None:
    jobs = [made.job(alice.org_id, T0 + 5), made.job(alice.org_id, T0 + 5, kind="VIDEO_MODERATION")]
    made.insert(house, jobs)
    house.db.write(lambda conn: [entry(conn, job, EntryType.CHARGE, -1) for job in jobs])
    body = asked(client, alice, f"/{part}", period=period)
    assert list(body) == ["period", "bucket", "data"]
    assert (body["period"], body["bucket"]) == (period, bucket)
    data = body["data"]
    assert (len(data), data[0]["ts"], data[-1]["ts"]) == (count, first, last)
    assert list(data[0]) == ["ts", "pre", "post", "prompt", "image", "video"]
    one = 1 if part == "volume" else 0.000001
    assert list(data[-1].values())[1:] == [0, 0, one, 0, one]
    assert all(list(one.values())[1:] == [0, 0, 0, 0, 0] for one in data[:-1])


@pytest.mark.usefixtures("may")
def test_without_a_period_volume_and_cost_are_of_a_week_and_rejections_of_a_month(
    client: Client, alice: Person
) -> None:
    assert asked(client, alice, "/volume")["period"] == "week"
    assert asked(client, alice, "/cost")["period"] == "week"
    body = asked(client, alice, "/rejections")
    assert body == {
        "period": "month",
        "categories": {"ai_adult_general": 0, "underage": 0, "nsfw": 0, "custom": {}},
    }


@pytest.mark.usefixtures("may")
def test_rejections_are_counted_by_category(client: Client, house: House, alice: Person) -> None:
    def image(at: int, categories: dict[str, Any], **how: Any) -> dict[str, Any]:
        how = {"is_prohibited": 1, "kind": "IMAGE_MODERATION", **how}
        return made.job(alice.org_id, at, categories=json.dumps({"custom": {}, **categories}), **how)

    made.insert(
        house,
        [
            image(T0, {"nsfw": True, "underage": True, "ai_adult_general": False}),
            image(T0 - DAY, {"nsfw": True, "custom": {"boats": True, "dogs": False}}),
            image(T0 - 10 * DAY, {"underage": True, "custom": {"cats": True}}),
            image(T0 - 40 * DAY, {"nsfw": True}),
            image(T0, {"nsfw": False, "custom": {"boats": False}}, is_prohibited=0),
            made.job(alice.org_id, T0, is_prohibited=1),
        ],
    )
    month = asked(client, alice, "/rejections", period="month")["categories"]
    assert month == {"ai_adult_general": 0, "underage": 2, "nsfw": 2, "custom": {"boats": 1, "cats": 1, "dogs": 0}}
    assert list(month) == ["ai_adult_general", "underage", "nsfw", "custom"]
    week = asked(client, alice, "/rejections", period="week")["categories"]
    assert week == {"ai_adult_general": 0, "underage": 1, "nsfw": 2, "custom": {"boats": 1, "dogs": 0}}
    day = asked(client, alice, "/rejections", period="day")["categories"]
    assert day == {"ai_adult_general": 0, "underage": 1, "nsfw": 1, "custom": {"boats": 0}}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("", "billing_period", "2026-05"),
        ("", "billing_period", "2026-02-30"),
        ("", "billing_period", "20260501"),
        ("", "billing_period", "May"),
        ("", "billing_period", ""),
        ("/volume", "period", "year"),
        ("/volume", "period", "WEEK"),
        ("/cost", "period", "minute"),
        ("/rejections", "period", "hour"),
        ("/rejections", "period", ""),
    ],
)
def test_an_unknown_period_is_an_invalid_request(
    client: Client, alice: Person, path: str, name: str, value: str
) -> None:
    response = client.get(f"/api/v1/usage{path}", params={name: value}, headers=alice.headers)
    assert response.status_code == 400
    assert response.json()["error"] == "INVALID_REQUEST"
    assert response.json()["details"][0]["field"] == name


@pytest.mark.parametrize("path", ["", "/volume", "/cost", "/rejections"])
def test_a_key_without_usage_read_is_forbidden(client: Client, house: House, path: str) -> None:
    narrow = enrol(house, "A", "narrow", granted=("job:read",))
    response = client.get(f"/api/v1/usage{path}", headers=narrow.headers)
    assert response.status_code == 403
    assert response.json()["message"] == "Missing required scope: usage:read"


def summed(jobs: list[dict[str, Any]], org_id: str) -> dict[int, Counter[str]]:
    """Per hour, by a plain loop."""
    hours: dict[int, Counter[str]] = {}
    for job in jobs:
        if job["org_id"] != org_id:
            continue
        sums = hours.setdefault(job["created_at"] // HOUR * HOUR, Counter())
        sums["jobs"] += 1
        if job["status"] not in ("completed", "failed"):
            continue
        sums.update(tokens=job["tokens"], gpu_ms=job["gpu_ms"])
        if job["status"] == "completed" and job["is_prohibited"] is not None:
            sums["rejected" if job["is_prohibited"] else "passed"] += 1
    return hours


def agree(house: House, jobs: list[dict[str, Any]], org_id: str, since: int, until: int) -> None:
    days = {day.at: day for day in usage.days(house.db.reader(), org_id, since, until)}
    expected: dict[int, Counter[str]] = {}
    for hour, sums in summed(jobs, org_id).items():
        expected.setdefault(hour // DAY * DAY, Counter()).update(sums)
    for at, day in days.items():
        want = expected.get(at, Counter())
        got = (day.jobs, day.passed, day.rejected, day.tokens, day.gpu_ms)
        assert got == tuple(want[name] for name in ("jobs", "passed", "rejected", "tokens", "gpu_ms"))


def test_usage_agrees_with_a_plain_loop_however_jobs_change(house: House, alice: Person, charlie: Person) -> None:
    rng = random.Random(12)
    since, until = 20_590 * DAY, 20_594 * DAY
    jobs = made.random_jobs(alice.org_id, 400, since, until, seed=13)
    jobs += made.random_jobs(charlie.org_id, 100, since, until, seed=14)
    made.insert(house, jobs)
    agree(house, jobs, alice.org_id, since, until)

    def change(conn: Connection) -> None:
        for job in rng.sample(jobs, 250):
            status, verdict = rng.choice(made.STATES)
            job.update(status=status, is_prohibited=verdict, gpu_ms=rng.randrange(900), tokens=rng.randrange(50))
            conn.execute(
                "UPDATE job SET status = :status, is_prohibited = :is_prohibited, gpu_ms = :gpu_ms, tokens = :tokens "
                "WHERE id = :id",
                job,
            )

    house.db.write(change)
    agree(house, jobs, alice.org_id, since, until)
    agree(house, jobs, charlie.org_id, since, until)


def test_a_deleted_job_leaves_the_list_and_stays_in_usage(house: House, alice: Person) -> None:
    since = 20_590 * DAY
    jobs = made.random_jobs(alice.org_id, 60, since, since + DAY, seed=15)
    made.insert(house, jobs)
    house.db.write(lambda conn: entry(conn, jobs[0], EntryType.CHARGE, -800))
    before = usage.days(house.db.reader(), alice.org_id, since, since + DAY)
    house.db.write(lambda conn: conn.execute("DELETE FROM job WHERE created_at % 2 = 0 OR id = :id", jobs[0]))
    left = [job for job in jobs if job["created_at"] % 2 and job is not jobs[0]]
    page = history.page(house.db.reader(), alice.org_id, Wanted(), 100, 0)
    assert page.total == len(page.jobs) == len(left)
    assert usage.days(house.db.reader(), alice.org_id, since, since + DAY) == before
    agree(house, jobs, alice.org_id, since, since + DAY)
    # what is refunded after the job has gone counts where the entry was made
    house.db.write(lambda conn: entry(conn, jobs[0], EntryType.REFUND, 800))
    later = usage.days(house.db.reader(), alice.org_id, since, since + 7 * DAY)
    assert (later[0].micros, later[5].micros + later[6].micros) == (800, -800)


def test_a_job_that_closes_later_counts_where_it_was_submitted(house: House, alice: Person) -> None:
    at = 20_590 * DAY + 7 * HOUR + 3 * MINUTE
    job = made.job(alice.org_id, at, status="queued", is_prohibited=None, kind="IMAGE_MODERATION")
    made.insert(house, [job])
    categories = '{"nsfw":true,"custom":{"dogs":true}}'
    house.db.write(
        lambda conn: conn.execute(
            "UPDATE job SET status = 'completed', is_prohibited = 1, categories = ?, gpu_ms = 40, completed_at = ?",
            (categories, at + 3 * DAY),
        )
    )
    conn = house.db.reader()
    for period, now in ((PERIODS["hour"], at + 59 * MINUTE), (PERIODS["day"], at + HOUR), (PERIODS["week"], at)):
        assert sum(bucket.image for bucket in usage.volume(conn, alice.org_id, period, now)) == 1
    built_in, custom = usage.rejections(conn, alice.org_id, PERIODS["day"], at)
    assert (built_in, custom) == ({"ai_adult_general": 0, "underage": 0, "nsfw": 1}, {"dogs": 1})
    day = usage.days(conn, alice.org_id, 20_590 * DAY, 20_591 * DAY)[0]
    assert (day.jobs, day.rejected, day.gpu_ms) == (1, 1, 40)


def test_old_minutes_are_purged_in_small_steps_and_the_hours_stay(house: House, alice: Person, charlie: Person) -> None:
    start = 20_590 * DAY
    made.insert(house, [made.job(who.org_id, start + n * MINUTE) for who in (alice, charlie) for n in range(30)])
    before = start + 20 * MINUTE
    assert [house.db.write(lambda conn: usage.purge_minutes(conn, before, 15)) for _ in range(4)] == [15, 15, 10, 0]
    conn = house.db.reader()
    minutes = usage.volume(conn, alice.org_id, PERIODS["hour"], start + 59 * MINUTE)
    assert [bucket.prompt for bucket in minutes] == [0] * 20 + [1] * 10 + [0] * 30
    assert usage.days(conn, alice.org_id, start, start + DAY)[0].jobs == 30


def test_no_question_of_usage_scans_a_table(house: House, alice: Person) -> None:
    made.insert(house, made.random_jobs(alice.org_id, 50, T0 - DAY, T0, seed=16))

    def ask(conn: Connection) -> None:
        usage.days(conn, alice.org_id, T0 // DAY * DAY - 30 * DAY, T0 // DAY * DAY)
        for period in PERIODS.values():
            usage.volume(conn, alice.org_id, period, T0)
            usage.cost(conn, alice.org_id, period, T0)
        usage.rejections(conn, alice.org_id, PERIODS["month"], T0)

    for plan in planned(house, ask):
        assert any("USING PRIMARY KEY (org_id=?" in step for step in plan), plan
        assert not any(step.startswith("SCAN") for step in plan), plan
    deletion = """
        EXPLAIN QUERY PLAN SELECT org_id, step, at FROM usage INDEXED BY usage_minute
        WHERE step = 60000 AND at < 5 ORDER BY at LIMIT 5
        """
    (step,) = [row["detail"] for row in house.db.reader().execute(deletion)]
    assert step == "SEARCH usage USING COVERING INDEX usage_minute (at<?)"


def test_months_are_utc_whatever_the_zone_of_the_machine(
    client: Client, house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 5, 31, 23, 59, tzinfo=UTC))
    made.insert(house, [made.job(alice.org_id, T0 // DAY * DAY - 18 * DAY - 1), made.job(alice.org_id, T0)])
    body = asked(client, alice)
    assert (body["billing_period"], body["total_jobs"], len(body["daily"])) == ("2026-05-01", 1, 31)
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 5, 31, 23, 59, tzinfo=UTC) + timedelta(minutes=1))
    assert asked(client, alice)["billing_period"] == "2026-06-01"
