"""OmniMod's dashboard functions at /admin/v1/orgs/{org}, and what a tenant's key sees of them at /v1."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance import clock
from appliance.house import House
from appliance.moderations import sampling
from appliance.settings import Settings
from tests import decided, recorded
from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.desk import NOBODYS, ClientWith
from tests.orgdesk import ORGS, OrgDesk

Client = TestClient[Any]


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> OrgDesk:
    return OrgDesk(client_with, settings, _migrated)


# --- bodies, as a person has read them -------------------------------------------------------------------------------

_FIXED = (
    (re.compile(r"mev_[0-9A-Z]{26}"), "mev_…"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "…"),
    (re.compile(r"omad_live_\w{40}"), "omad_live_…"),
    (re.compile(r"(omad_live|stars)_\w{6}"), "…"),
    (re.compile(r"key:(stars|omad_live)_\w{6}"), "key:…"),
    (re.compile(r'"id": \d+,'), '"id": 1,'),
    (re.compile(r'"took_ms": [0-9.]+'), '"took_ms": 1'),
    (re.compile(r'"20\d\d-[^"]*Z"'), '"2026-05-19T12:00:00.000Z"'),
)


def check(name: str, body: Any) -> None:
    said = recorded.pretty(body)
    for what, instead in _FIXED:
        said = what.sub(instead, said)
    recorded.check(f"omnimod_{name}.json", said)


def test_every_route_answers_as_was_recorded(desk: OrgDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    noon = clock.now().replace(year=2026, month=5, day=3, hour=12, minute=0, second=0, microsecond=0)
    monkeypatch.setattr(clock, "now", lambda: noon)
    on_plan(desk.house, desk.alice, "free", 100)
    check("api_key_created", desk.done("post", "/api-keys", {"name": "site", "reason": "Launch"}, status=201))
    check("api_keys", desk.done("get", "/api-keys"))
    given: dict[str, Any] = {
        "slug": "kids",
        "name": "Kids",
        "template": "rules-only",
        "reason": "For the under-13 rooms",
    }
    check("policy_created", desk.done("post", "/policies", given, status=201))
    limits = {"analyzers": {"spam": {"thresholds": {"warn": 0.7}}}}
    old = decided.begun(desk.house, desk.alice)
    fields: dict[str, Any] = {"version": old, "action": "warn", "flagged": ("spam",), "severity": "high"}
    decided.record(desk.house, desk.alice, decided.asked({"spam": 0.65}, "flag", **fields))
    check("policy_preview", desk.done("post", "/policies/community-default/preview", limits))
    desk.done("post", "/policies/kids/versions", {**limits, "reason": "Jokes were flagged"}, status=201)
    desk.done("post", "/policies/kids/activate", {"version": 1, "reason": "Too much got through"}, status=201)
    check("policy_versions", desk.done("get", "/policies/kids/versions"))
    check("events", desk.done("get", "/events"))
    event_id = desk.done("get", "/events")["events"][0]["id"]
    check("event", desk.done("get", f"/events/{event_id}"))
    check("usage", desk.done("get", "/usage"))
    check("quota", desk.done("get", "/quota"))
    check("plans", desk.done("get", "/plans"))
    check("org", desk.done("patch", "/org", {"rate_limit_per_minute": 600, "reason": "Agreed by mail"}))
    check("overview", desk.done("get", "/overview"))
    check("audit", desk.done("get", "/audit"))


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_keys_life_is_shown_once_rotated_with_grace_and_revoked(desk: OrgDesk) -> None:
    made = desk.done("post", "/api-keys", {"name": "site", "environment": "test", "reason": "new"}, status=201)
    assert made["key"].startswith("omad_test_")
    assert (made["surface"], made["scopes"]) == ("omnimod", ["moderations:create"])
    path = f"/api-keys/{made['id']}"
    second = desk.done("post", f"{path}/rotate", {"grace_seconds": 60, "reason": "yearly"}, status=201)
    assert (second["rotated_from"], second["key"] != made["key"]) == (made["id"], True)
    revoked = desk.done("post", f"/api-keys/{second['id']}/revoke", {"reason": "leaked"})
    assert revoked["revoked_at"] is not None
    listed = desk.done("get", "/api-keys")["api_keys"]
    assert not any("key" in one for one in listed)
    by_id = {one["id"]: one for one in listed}
    assert by_id[made["id"]]["expires_at"] is not None
    assert by_id[second["id"]]["revoked_at"] is not None
    assert [(line.action, line.reason) for line in desk.lines()] == [
        ("key.revoked", "leaked"), ("key.rotated", "yearly"), ("key.created", "new"),
    ]  # fmt: skip


def test_a_key_is_changed_under_its_own_organisation_only(desk: OrgDesk) -> None:
    charlie = enrol(desk.house, "C", "charlie")
    for verb in ("rotate", "revoke"):
        message = desk.refused("post", f"/api-keys/{charlie.key_id}/{verb}", {"reason": "r"}, status=404)
        assert message == "There is no such key"
    assert desk.client.get("/api/v1/jobs", headers=charlie.headers).status_code == 200


def test_every_change_of_keys_and_of_the_organisation_needs_a_reason(desk: OrgDesk) -> None:
    for method, path, body in (
        ("post", "/api-keys", {"name": "k"}),
        ("post", f"/api-keys/{desk.alice.key_id}/rotate", {}),
        ("post", f"/api-keys/{desk.alice.key_id}/revoke", {"reason": " "}),
        ("patch", "/org", {"status": "disabled"}),
    ):
        assert desk.refused(method, path, body, status=400) == "reason is required; it is kept in the audit log"
    assert desk.lines() == []


# --- the organisation ------------------------------------------------------------------------------------------------


def test_an_organisation_is_paused_and_resumed_and_its_keys_hear_it(desk: OrgDesk) -> None:
    tenant = enrol(desk.house, "A", "tenant", granted=("account:config",), surface="omnimod")
    assert desk.done("patch", "/org", {"status": "disabled", "reason": "unpaid"})["status"] == "disabled"
    answer = desk.client.get("/v1/quota", headers=tenant.headers)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Organization disabled"})
    assert desk.done("patch", "/org", {"status": "active", "reason": "paid"})["status"] == "active"
    assert desk.client.get("/v1/quota", headers=tenant.headers).status_code == 200
    assert [line.reason for line in desk.lines()] == ["paid", "unpaid"]


def test_a_plan_holds_from_the_next_request_on(desk: OrgDesk) -> None:
    assert desk.done("get", "/quota")["monthly_request_quota"] is None
    changed = desk.done("patch", "/org", {"plan_tier": "free", "name": "Acme", "reason": "trial"})
    assert (changed["plan_tier"], changed["name"]) == ("free", "Acme")
    assert desk.done("get", "/quota")["monthly_request_quota"] == 100
    shown = {one["slug"]: one for one in desk.done("get", "/plans")["plans"]}
    assert set(shown) == {"developer", "free", "growth", "launch", "standard"}  # flex is hidden
    assert [slug for slug, one in shown.items() if one["is_current"]] == ["free"]
    desk.done("patch", "/org", {"plan_tier": "flex", "reason": "by hand"})
    assert "flex" in {one["slug"] for one in desk.done("get", "/plans")["plans"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"status": "terminated"}, "status must be active or disabled"),
        ({"plan_tier": "gold"}, "'gold' is none of"),
        ({"rate_limit_per_minute": 0}, "requests_per_minute is 1 to"),
        ({"rate_limit_per_minute": "60"}, "rate_limit_per_minute must be a whole number"),
        ({"name": " "}, "1 to 200 characters"),
        ({"plan_tier": 1}, "plan_tier must be a string"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(desk: OrgDesk, given: dict[str, Any], message: str) -> None:
    assert message in desk.refused("patch", "/org", {**given, "reason": "r"}, status=400)


@pytest.mark.parametrize(
    "path", ["org", "api-keys", "events", "events/mev_x", "usage", "quota", "plans", "overview", "audit", "policies"]
)
def test_an_organisation_that_is_not_there_is_not_found(desk: OrgDesk, path: str) -> None:
    answer = desk.client.get(f"{ORGS}/{NOBODYS}/{path}", headers=desk.staff.headers)
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")


def test_the_audit_lines_are_the_organisations_own(desk: OrgDesk) -> None:
    charlie = enrol(desk.house, "C", "charlie")
    desk.done("patch", "/org", {"rate_limit_per_minute": 5, "reason": "alice's"})
    desk.client.patch(
        f"{ORGS}/{charlie.org_id}/org", json={"name": "D", "reason": "charlie's"}, headers=desk.staff.headers
    )
    assert [one["reason"] for one in desk.done("get", "/audit")["lines"]] == ["alice's"]


def test_the_overview_tells_the_last_day_and_what_answers(desk: OrgDesk) -> None:
    decided.record(desk.house, desk.alice, decided.asked(), decided.asked(decision="block"))
    decided.record(desk.house, desk.alice, decided.asked(decision="flag"))
    desk.house.db.write(
        lambda conn: conn.execute("UPDATE moderation_event SET created_at = 0 WHERE decision = 'block'")
    )
    found = desk.done("get", "/overview")
    assert found["last_24_hours"] == {"requests": 2, "by_decision": {"allow": 1, "flag": 1, "block": 0}}
    assert found["quota"]["used"] == 3
    assert found["provider"] == {"status": "degraded", "rules": "ready", "heads": "unreachable", "judge": "off"}
    assert found["sampling"] == {"rates": []}


def test_the_overview_tells_how_often_the_judge_would_have_decided_otherwise(desk: OrgDesk) -> None:
    passed = decided.asked()
    decided.record(desk.house, desk.alice, passed, decided.asked())
    version = passed[1].version
    sample = sampling.Sample(
        event_id=passed[1].event_id,
        org_id=desk.alice.org_id,
        policy_id=version.policy_id,
        version_id=version.id,
        action="allow",
        judge="a-judge",
        probability=0.9,
        judge_action="block",
        is_agreed=False,
        created_at=1,
    )
    desk.house.db.write(lambda conn: sampling.record(conn, sample))
    [rate] = desk.done("get", "/overview")["sampling"]["rates"]
    assert (rate["version_id"], rate["sampled"], rate["disagreed"], rate["missed"], rate["share"]) == (
        version.id,
        1,
        1,
        1,
        1.0,
    )


# --- tenants ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tenant(house: House) -> Person:
    return enrol(house, "A", "tenant", granted=("account:config",), surface="omnimod")


@pytest.mark.parametrize("path", ["usage", "quota", "plans", "org", "overview", "events", "policies"])
def test_a_tenant_reads_what_operators_do_of_it(client: Client, tenant: Person, alice: Person, path: str) -> None:
    assert client.get(f"/v1/{path}", headers=tenant.headers).status_code == 200
    lacking = client.get(f"/v1/{path}", headers=alice.headers)
    assert (lacking.status_code, lacking.json()) == (403, {"detail": "Missing required scope: account:config"})
    assert client.get(f"/v1/{path}").json() == {"detail": "Invalid API key"}
    assert client.post(f"/v1/{path}", headers=tenant.headers).status_code == 405


def test_a_month_is_named_as_a_month(house: House, client: Client, tenant: Person) -> None:
    decided.record(house, tenant, decided.asked())
    month = clock.now().isoformat()[:7]
    assert client.get(f"/v1/usage?period={month}", headers=tenant.headers).json()["standard_requests"] == 1
    assert client.get("/v1/usage?period=1999-01", headers=tenant.headers).json()["standard_requests"] == 0
    for wrong in ("2026", "2026-13", "2026-1", "2026-01-01", "abcd-ef", "٢٠٢٦-01"):
        answer = client.get("/v1/usage", params={"period": wrong}, headers=tenant.headers)
        assert answer.json() == {
            "detail": {
                "code": "invalid_request",
                "message": "period must be a month, YYYY-MM",
                "errors": [{"field": "period", "issue": "must be a month, YYYY-MM"}],
            }
        }, wrong


def test_rate_goes_first_and_quota_second_and_neither_uses_up_the_other(
    client_with: ClientWith, settings: Settings
) -> None:
    client, house = client_with(settings)
    tenant = enrol(house, "A", "t", granted=("account:config", "moderations:create"), surface="omnimod")
    on_plan(house, tenant, "free", 0)
    given = {"modality": "text", "input": "hello community"}
    refused = client.post("/v1/moderations", json=given, headers=tenant.headers)
    assert (refused.status_code, refused.json()["detail"]["code"]) == (429, "quota_exceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert client.get("/v1/quota", headers=tenant.headers).json()["used"] == 0
    assert json.loads(client.get("/v1/events", headers=tenant.headers).text)["events"] == []
