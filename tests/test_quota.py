"""The month's quota: counted with the event, refused before and after, for a batch all or nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest

from appliance import clock
from appliance.database import Connection
from appliance.errors import QuotaExceeded
from appliance.house import House
from appliance.moderations import events, quota, usage
from appliance.moderations.events import Filter
from tests.cast import Person
from tests.decided import asked, on_plan


def at(monkeypatch: pytest.MonkeyPatch, moment: str) -> int:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    return int(now.timestamp() * 1000)


def record(house: House, who: Person, count: int = 1, **how: Any) -> None:
    made = [asked(**how) for _ in range(count)]
    house.db.write(lambda conn: events.record_all(conn, who.org_id, who.key_id, made))


def of(house: House, who: Person) -> quota.Quota:
    return quota.of(house.db.reader(), who.org_id)


def test_a_plan_without_a_quota_has_no_end(house: House, alice: Person) -> None:
    record(house, alice, 3)
    found = of(house, alice)
    assert (found.plan_tier, found.monthly_request_quota, found.used, found.remaining) == ("standard", None, 3, None)


def test_the_quota_ends_with_the_last_request_of_it_and_says_when_there_is_more(
    house: House, alice: Person, charlie: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, "2026-11-29T23:59:59.500")
    on_plan(house, alice, "free", 2)
    record(house, alice)
    record(house, alice, mode="cache_hit")  # counts too
    record(house, charlie, 5)
    with pytest.raises(QuotaExceeded) as refused:
        record(house, alice)
    assert (refused.value.plan, refused.value.quota, refused.value.used) == ("free", 2, 2)
    assert refused.value.retry_after_s == 86_401
    assert (of(house, alice).used, of(house, alice).remaining) == (2, 0)
    assert len(events.page(house.db.reader(), alice.org_id, Filter())[0]) == 2
    at(monkeypatch, "2026-12-01T00:00:00")
    record(house, alice)
    assert (of(house, alice).used, of(house, alice).remaining) == (1, 1)
    assert clock.rfc3339(of(house, alice).resets_at) == "2027-01-01T00:00:00.000Z"


def test_a_batch_that_does_not_fit_uses_nothing_up(house: House, alice: Person) -> None:
    on_plan(house, alice, "free", 5)
    record(house, alice, 3)
    with pytest.raises(QuotaExceeded):
        record(house, alice, 3)
    assert of(house, alice).remaining == 2
    record(house, alice, 2)
    assert of(house, alice).remaining == 0


def test_who_asks_before_the_work_is_told_before_the_work(house: House, alice: Person) -> None:
    on_plan(house, alice, "free", 2)
    conn = house.db.reader()
    quota.check(conn, alice.org_id, 2)
    with pytest.raises(QuotaExceeded):
        quota.check(conn, alice.org_id, 3)
    record(house, alice, 2)
    with pytest.raises(QuotaExceeded):
        quota.check(conn, alice.org_id)


def test_a_quota_of_nothing_refuses_the_first(house: House, alice: Person) -> None:
    on_plan(house, alice, "free", 0)
    with pytest.raises(QuotaExceeded):
        record(house, alice)


def test_a_smaller_quota_than_was_used_leaves_nothing_and_not_less(house: House, alice: Person) -> None:
    record(house, alice, 3)
    on_plan(house, alice, "free", 2)
    assert of(house, alice).remaining == 0


def test_use_is_told_by_day_up_to_today_and_adds_up(
    house: House, alice: Person, charlie: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, "2026-10-31T23:00:00")
    record(house, alice)
    at(monkeypatch, "2026-11-01T00:00:00")
    record(house, alice, 2, decision="block")
    record(house, charlie, 9)
    at(monkeypatch, "2026-11-03T12:00:00")
    record(house, alice, decision="flag", mode="rules_plus_llm", text_llm_credits=1)
    record(house, alice, mode="cache_hit")
    found = usage.of(house.db.reader(), alice.org_id)
    assert (found.period, found.standard_requests, found.text_llm_credits, found.cache_hits) == ("2026-11", 4, 1, 1)
    assert found.by_decision == {"allow": 1, "flag": 1, "block": 2}
    assert [(one.date, one.requests) for one in found.daily] == [
        ("2026-11-01", 2), ("2026-11-02", 0), ("2026-11-03", 2),
    ]  # fmt: skip
    before = usage.of(house.db.reader(), alice.org_id, "2026-10")
    assert (before.standard_requests, len(before.daily)) == (1, 31)
    assert usage.of(house.db.reader(), alice.org_id, "2026-12").daily == []


def test_the_months_total_is_read_from_the_primary_key(house: House, alice: Person) -> None:
    conn: Connection = house.db.reader()
    seen: list[str] = []
    conn.set_trace_callback(seen.append)
    quota.of(conn, alice.org_id)
    conn.set_trace_callback(None)
    plan = [row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {seen[-1]}")]
    assert all("SCAN" not in line for line in plan), plan
