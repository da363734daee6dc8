"""Clients and their keys over HTTP: made, changed, banned, unbanned, credited, and what is left in the audit log."""

from pathlib import Path
from typing import Any

import pytest

from appliance import clock
from appliance.accounts import plans
from appliance.accounts.plans import Changes
from appliance.billing import ledger
from appliance.house import House
from appliance.settings import Settings
from tests.desk import NOBODYS, ClientWith, Desk

WHOLE = {
    "id",
    "name",
    "status",
    "status_reason",
    "rate_limit_per_minute",
    "burst_per_second",
    "charge_method",
    "retain_prompts_days",
    "plan",
    "balance_usd",
    "created_at",
    "effective",
}


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> Desk:
    return Desk(client_with, settings, _migrated)


@pytest.fixture
def path(desk: Desk) -> str:
    return f"/clients/{desk.alice.org_id}"


def test_clients_are_listed_by_name_and_paged(desk: Desk) -> None:
    for name in ("d", "b", "c"):
        desk.done("post", "/clients", {"name": name}, status=201)
    page = desk.done("get", "/clients?limit=2&offset=1")
    assert [one["name"] for one in page["clients"]] == ["Staff", "b"]
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 1)
    assert set(page["clients"][0]) == WHOLE


def test_clients_are_listed_by_how_they_stand(desk: Desk, path: str) -> None:
    desk.done("post", f"{path}/ban", {"reason": "abuse"})
    assert [one["name"] for one in desk.done("get", "/clients?status=terminated")["clients"]] == ["A"]
    assert desk.done("get", "/clients?status=disabled")["total"] == 0
    assert "status must be one of" in desk.refused("get", "/clients?status=gone", status=400)


def test_a_client_is_made_with_what_holds_for_it(desk: Desk) -> None:
    made = desk.done(
        "post", "/clients", {"name": " acme ", "rate_limit_per_minute": 600, "reason": "signed"}, status=201
    )
    assert (made["name"], made["status"], made["rate_limit_per_minute"]) == ("acme", "active", 600)
    assert made["effective"]["rate_limit_per_minute"] == 600
    assert desk.done("get", f"/clients/{made['id']}") == made
    changed, created = desk.lines(subject=made["id"])
    assert (created.action, created.actor, created.reason) == ("organisation.created", desk.actor, "signed")
    assert changed.detail == {"requests_per_minute": [None, 600]}


def test_a_name_is_taken_once(desk: Desk, path: str) -> None:
    assert "'A' already" in desk.refused("post", "/clients", {"name": "A"}, status=409)
    assert "'Staff' already" in desk.refused("put", path, {"name": "Staff", "reason": "x"}, status=409)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name is required"),
        ({"name": 7}, "name must be a string"),
        ({"name": " "}, "1 to 200 characters"),
        ({"name": "x" * 201}, "1 to 200 characters"),
        ({"name": "x", "plan": "none"}, "is none of: developer"),
    ],
)
def test_a_client_that_cannot_be_made_is_not(desk: Desk, body: dict[str, Any], message: str) -> None:
    before = desk.done("get", "/clients")["total"]
    assert message in desk.refused("post", "/clients", body, status=400)
    assert desk.done("get", "/clients")["total"] == before


def test_a_change_holds_what_was_and_what_is(desk: Desk, path: str) -> None:
    desk.done("put", path, {"rate_limit_per_minute": 5, "reason": "slow down"})
    after = desk.done("put", path, {"rate_limit_per_minute": 7, "retain_prompts_days": 0, "reason": "a little"})
    assert (after["rate_limit_per_minute"], after["retain_prompts_days"]) == (7, 0)
    line = desk.lines(action="organisation.changed")[0]
    assert (line.actor, line.org_id, line.reason) == (desk.actor, desk.alice.org_id, "a little")
    assert line.detail == {"requests_per_minute": [5, 7], "retain_prompts_days": [None, 0]}


def test_null_is_what_the_plan_says_again(desk: Desk, path: str) -> None:
    desk.house.db.write(
        lambda conn: plans.create(conn, "big", "Big", Changes(requests_per_minute=900), actor="x", reason="x")
    )
    desk.done("put", path, {"rate_limit_per_minute": 5, "charge_method": "per_job", "plan": "big", "reason": "x"})
    body = desk.done("put", path, {"rate_limit_per_minute": None, "charge_method": None, "reason": "x"})
    assert (body["rate_limit_per_minute"], body["charge_method"], body["plan"]) == (None, None, "big")
    assert (body["effective"]["rate_limit_per_minute"], body["effective"]["charge_method"]) == (900, "none")


def test_the_same_again_leaves_no_line(desk: Desk, path: str) -> None:
    body = {"rate_limit_per_minute": 5, "reason": "x"}
    desk.done("put", path, body)
    before = len(desk.lines())
    desk.done("put", path, body)
    assert len(desk.lines()) == before


def test_a_limit_holds_at_once_for_all_keys(desk: Desk, path: str) -> None:
    desk.done("put", path, {"rate_limit_per_minute": 1, "reason": "x"})
    codes = [desk.client.get("/api/v1/me/moderation-config", headers=desk.alice.headers).status_code for _ in range(2)]
    assert codes == [200, 429]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"rate_limit_per_minute": 0}, "requests_per_minute is 1 to 1,000,000"),
        ({"rate_limit_per_minute": "60"}, "must be a whole number or null"),
        ({"rate_limit_per_minute": True}, "must be a whole number or null"),
        ({"burst_per_second": -1}, "burst_per_second is 0 to"),
        ({"retain_prompts_days": 36501}, "retain_prompts_days is 0 to 36,500"),
        ({"charge_method": "monthly"}, "charge_method must be one of"),
        ({"plan": "none"}, "is none of: developer"),
        ({"plan": 7}, "plan must be a string"),
        ({"status": "terminated"}, "to ban, POST to the client's /ban"),
        ({"status": 1}, "status must be a string"),
    ],
)
def test_a_value_that_cannot_be_is_refused(desk: Desk, path: str, body: dict[str, Any], message: str) -> None:
    before = desk.done("get", path)
    assert message in desk.refused("put", path, {**body, "reason": "x"}, status=400)
    assert desk.done("get", path) == before


def test_a_pause_refuses_the_keys_and_ends(desk: Desk, path: str) -> None:
    assert desk.done("put", path, {"status": "disabled", "reason": "invoice"})["status_reason"] == "invoice"
    answer = desk.client.get("/api/v1/me/moderation-config", headers=desk.alice.headers)
    assert (answer.status_code, answer.json()["message"]) == (403, "Organization disabled")
    assert desk.done("put", path, {"status": "active", "reason": "paid"})["status_reason"] is None
    assert desk.client.get("/api/v1/me/moderation-config", headers=desk.alice.headers).status_code == 200


# --- bans ------------------------------------------------------------------------------------------------------------


def test_a_ban_terminates_the_account_and_unbanning_restores_it(desk: Desk, path: str) -> None:
    banned = desk.done("post", f"{path}/ban", {"reason": "abuse"})
    assert (banned["status"], banned["status_reason"]) == ("terminated", "abuse")
    answer = desk.client.get("/api/v1/me/moderation-config", headers=desk.alice.headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "ACCOUNT_TERMINATED")
    assert desk.done("post", f"{path}/unban", {"reason": "appeal"})["status"] == "active"
    assert desk.client.get("/api/v1/me/moderation-config", headers=desk.alice.headers).status_code == 200
    assert [(line.action, line.reason) for line in desk.lines(subject=desk.alice.org_id)] == [
        ("organisation.active", "appeal"),
        ("organisation.terminated", "abuse"),
    ]


def test_a_ban_again_changes_nothing(desk: Desk, path: str) -> None:
    desk.done("post", f"{path}/ban", {"reason": "abuse"})
    assert desk.done("post", f"{path}/ban", {"reason": "again"})["status_reason"] == "abuse"
    assert len(desk.lines(action="organisation.terminated")) == 1


def test_who_is_not_banned_is_not_unbanned(desk: Desk, path: str) -> None:
    assert "active, not banned" in desk.refused("post", f"{path}/unban", {"reason": "x"}, status=409)


def test_a_ban_is_not_ended_by_a_pause(desk: Desk, path: str) -> None:
    desk.done("post", f"{path}/ban", {"reason": "abuse"})
    for status in ("active", "disabled"):
        assert "banned" in desk.refused("put", path, {"status": status, "reason": "x"}, status=409)


def test_a_banned_client_reads_nothing_through_any_route(desk: Desk, path: str) -> None:
    desk.done("post", f"{path}/ban", {"reason": "abuse"})
    paths = desk.client.get("/schema/openapi.json").json()["paths"]
    tried = 0
    for template, item in paths.items():
        for method, operation in item.items():
            if operation["security"] == [{"bearer": []}]:
                where = template.replace("{token}", desk.alice.key).replace("{", "").replace("}", "")
                answer = desk.client.request(method, where, headers=desk.alice.headers)
                assert answer.status_code == 403, (method, where)
                assert "This account has been terminated" in answer.text, (method, where)  # in each surface's words
                tried += 1
    assert tried > 40


def test_another_process_sees_a_ban_at_once(desk: Desk, path: str, client_with: ClientWith) -> None:
    other, _ = client_with(desk.settings)
    assert other.get("/api/v1/me/moderation-config", headers=desk.alice.headers).status_code == 200
    desk.done("post", f"{path}/ban", {"reason": "abuse"})
    assert other.get("/api/v1/me/moderation-config", headers=desk.alice.headers).status_code == 403
    desk.done("post", f"{path}/unban", {"reason": "appeal"})
    assert other.get("/api/v1/me/moderation-config", headers=desk.alice.headers).status_code == 200


# --- credit ----------------------------------------------------------------------------------------------------------


def test_credit_stands_in_the_ledger_with_its_reason(desk: Desk, path: str) -> None:
    body = desk.done("post", f"{path}/credit", {"amount_usd": "25.50", "reason": "goodwill"}, status=201)
    assert (body["amount_usd"], body["balance_usd"], body["client_id"]) == (25.5, 25.5, desk.alice.org_id)
    assert desk.done("get", path)["balance_usd"] == 25.5
    entry = ledger.last(desk.house.db.reader(), desk.alice.org_id)
    assert entry is not None
    assert (entry.id, entry.type, entry.amount_micros, entry.description) == (
        body["record_id"],
        "credit",
        25_500_000,
        "goodwill",
    )
    line = desk.lines(action="billing.credited")[0]
    assert (line.org_id, line.reason, line.detail["amount_micros"]) == (desk.alice.org_id, "goodwill", 25_500_000)


def test_credit_with_an_idempotency_key_is_given_once(desk: Desk, path: str) -> None:
    body = {"amount_usd": 5, "reason": "goodwill"}
    key = {"Idempotency-Key": "ticket-4711"}
    first = desk.done("post", f"{path}/credit", body, headers=key, status=201)
    assert desk.done("post", f"{path}/credit", body, headers=key, status=201) == first
    assert desk.done("get", path)["balance_usd"] == 5.0
    answer = desk.ask("post", f"{path}/credit", {**body, "amount_usd": 6}, headers=key)
    assert (answer.status_code, answer.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    desk.house.db.write(lambda conn: conn.execute("DELETE FROM idempotency"))  # as a day later
    answer = desk.ask("post", f"{path}/credit", body, headers=key)
    assert (answer.status_code, answer.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(desk.lines(action="billing.credited")) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/clients", {"name": "acme"}),
        ("/plans", {"slug": "gold", "name": "Gold"}),
        ("/keywords", {"keyword": "zorblax"}),
    ],
)
def test_what_is_made_under_an_idempotency_key_is_made_once(desk: Desk, path: str, body: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "ticket-4711"}
    first, second = (desk.ask("post", path, body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (None, "amount_usd must be a number"),
        (0, "amount_usd must be more than 0"),
        (-5, "amount_usd must not be negative"),
        ("a lot", "amount_usd must be a number"),
        (True, "amount_usd must be a number"),
        (0.0000001, "more than six decimals"),
        (1e12, "above a billion"),
    ],
)
def test_an_amount_that_is_none_is_refused(desk: Desk, path: str, amount: object, message: str) -> None:
    given = {"amount_usd": amount, "reason": "x"}
    assert message in desk.refused("post", f"{path}/credit", given, status=400)
    assert desk.done("get", path)["balance_usd"] == 0


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_works(desk: Desk, path: str) -> None:
    made = desk.done("post", f"{path}/keys", {"name": "production", "scopes": ["job:read"]}, status=201)
    answer = desk.client.get(f"/api/v1/job/{NOBODYS}", headers={"Authorization": f"Bearer {made['key']}"})
    assert answer.json()["error"] == "JOB_NOT_FOUND"
    listed = desk.done("get", f"{path}/keys")["keys"]
    assert [one["name"] for one in listed] == ["production", "alice"]
    assert all("key" not in one for one in listed)
    assert {name: value for name, value in made.items() if name != "key"} == {**listed[0], "last_used_at": None}
    line = desk.lines(action="key.created")[0]
    assert (line.subject, line.org_id, line.detail) == (made["prefix"], desk.alice.org_id, {"scopes": ["job:read"]})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name is required"),
        ({"name": ""}, "1 to 200 characters"),
        ({"name": "x", "scopes": "job:read"}, "must be a list of strings"),
        ({"name": "x", "scopes": [1]}, "must be a list of strings"),
        ({"name": "x", "scopes": ["job:write"]}, "Unknown scope 'job:write'"),
        ({"name": "x", "surface": "moon"}, "stars or omnimod"),
        ({"name": "x", "environment": "dev"}, "live or test"),
        ({"name": "x", "expires_at": "soon"}, "expires_at must be a moment"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at has passed already"),
    ],
)
def test_a_key_that_cannot_be_made_is_not(desk: Desk, path: str, body: dict[str, Any], message: str) -> None:
    assert message in desk.refused("post", f"{path}/keys", body, status=400)
    assert len(desk.done("get", f"{path}/keys")["keys"]) == 1


def test_an_expiry_is_kept(desk: Desk, path: str) -> None:
    body = {"name": "x", "expires_at": "2099-01-01T00:00:00+01:00"}
    assert desk.done("post", f"{path}/keys", body, status=201)["expires_at"] == "2098-12-31T23:00:00.000Z"


def test_a_rotated_key_dies_or_lives_through_its_grace(desk: Desk) -> None:
    new = desk.done("post", f"/keys/{desk.alice.key_id}/rotate", {"reason": "yearly", "grace_seconds": 60}, status=201)
    for key in (desk.alice.key, new["key"]):
        headers = {"Authorization": f"Bearer {key}"}
        assert desk.client.get("/api/v1/me/moderation-config", headers=headers).status_code == 200
    assert new["rotated_from"] == desk.alice.key_id
    desk.done("post", f"/keys/{new['id']}/rotate", {"reason": "leaked"}, status=201)
    headers = {"Authorization": f"Bearer {new['key']}"}
    assert desk.client.get("/api/v1/me/moderation-config", headers=headers).status_code == 401
    assert [line.reason for line in desk.lines(action="key.rotated")] == ["leaked", "yearly"]


@pytest.mark.parametrize("grace", [-1, "60", 1e9, 10**12])
def test_a_grace_that_is_none_is_refused(desk: Desk, grace: object) -> None:
    body = {"reason": "x", "grace_seconds": grace}
    assert "grace_seconds" in desk.refused("post", f"/keys/{desk.alice.key_id}/rotate", body, status=400)


def test_a_revoked_key_is_refused_at_once_and_revoking_is_safe_to_repeat(desk: Desk) -> None:
    for _ in range(2):
        body = desk.done("post", f"/keys/{desk.alice.key_id}/revoke", {"reason": "leaked"})
        assert body["revoked_at"] is not None
    answer = desk.client.get("/api/v1/me/moderation-config", headers=desk.alice.headers)
    assert (answer.status_code, answer.json()["message"]) == (401, "API key has been revoked")
    assert len(desk.lines(action="key.revoked")) == 1
    assert desk.refused("post", f"/keys/{desk.alice.key_id}/rotate", {"reason": "x"}, status=400)


def test_a_client_of_the_second_issue_has_what_was_added_since(house: House) -> None:
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO organisation (id, name, created_at) VALUES ('old', 'old', ?)", (clock.now_ms(),)
        )
    )
    assert plans.terms(house.db.reader(), "old").plan == "standard"
