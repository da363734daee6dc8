"""Policies as operators change them and tenants read them, and as they decide."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from appliance.api.app import create_app
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.moderations import decision
from appliance.policies import body as bodies
from appliance.policies import rows
from appliance.policies.version import Body, Rule, Thresholds
from appliance.settings import Settings
from appliance.text.analysis import ANALYZERS, Result
from tests import orgdesk
from tests.cast import Person, enrol
from tests.desk import NOBODYS, ClientWith
from tests.orgdesk import OrgDesk

SHIPPED = Path(__file__).resolve().parent.parent / "config" / "policies"


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> OrgDesk:
    return OrgDesk(client_with, settings, _migrated)


# --- operators -------------------------------------------------------------------------------------------------------


def test_the_default_is_there_before_anything_is_decided(desk: OrgDesk) -> None:
    (found,) = desk.done("get", "/policies")["policies"]
    assert (found["slug"], found["is_default"], found["version"]["version"]) == ("community-default", True, 1)
    assert found["version"]["made_by"] == "shipped"
    assert desk.done("get", f"/policies/{found['id']}") == found
    assert desk.done("get", "/policies/community-default") == found


def test_a_policy_is_made_of_a_template_and_what_is_said_of_it(desk: OrgDesk) -> None:
    given = {"slug": "kids", "name": "Kids", "template": "strict", "semantic": {"mode": "off"}, "reason": "under 13"}
    made = desk.done("post", "/policies", given, status=201)
    _, strict = rows.template(SHIPPED, "strict")
    assert (made["slug"], made["name"], made["is_default"]) == ("kids", "Kids", False)
    assert made["version"]["semantic"] == {**msgspec.to_builtins(strict.semantic), "mode": "off"}
    assert made["version"]["analyzers"] == msgspec.to_builtins(strict.analyzers)
    assert (made["version"]["made_by"], made["version"]["reason"]) == (desk.actor, "under 13")
    assert [one["slug"] for one in desk.done("get", "/policies")["policies"]] == ["community-default", "kids"]
    (line,) = desk.lines(action="policy.created")
    assert (line.actor, line.subject, line.reason, line.org_id) == (desk.actor, "kids", "under 13", desk.alice.org_id)


def test_a_version_is_the_one_before_with_what_is_named_in_its_place(desk: OrgDesk) -> None:
    before = desk.done("get", "/policies/community-default")["version"]
    change = {"analyzers": {"spam": {"thresholds": {"block": 0.99}}, "emoji": {"enabled": False}}, "reason": "jokes"}
    after = desk.done("post", "/policies/community-default/versions", change, status=201)["version"]
    assert (after["version"], after["is_active"], after["copied_from"]) == (2, True, None)
    assert after["analyzers"]["spam"]["thresholds"] == {**before["analyzers"]["spam"]["thresholds"], "block": 0.99}
    assert after["analyzers"]["emoji"] == {**before["analyzers"]["emoji"], "enabled": False}
    same = [name for name in before["analyzers"] if name not in ("spam", "emoji")]
    assert all(after["analyzers"][name] == before["analyzers"][name] for name in same)
    never = {"analyzers": {"spam": {"thresholds": {"block": None}}}, "reason": "never"}
    third = desk.done("post", "/policies/community-default/versions", never, status=201)["version"]
    assert third["analyzers"]["spam"]["thresholds"]["block"] is None
    (_, line) = desk.lines(action="policy.version_made")
    assert line.detail["moved"] == {
        "analyzers.emoji.enabled": [True, False],
        "analyzers.spam.thresholds.block": [0.95, 0.99],
    }


def test_a_whole_version_has_only_what_it_says(desk: OrgDesk) -> None:
    only = {"blocklist": {"thresholds": {"block": 0.5}}}
    made = desk.done(
        "post", "/policies/community-default/versions", {"analyzers": only, "replace": True, "reason": "r"}, status=201
    )["version"]
    assert set(made["analyzers"]) == {"blocklist"}
    assert made["hash_reuse"] == {"enabled": True, "ttl_seconds": 86400}


def test_going_back_is_a_copy_and_history_stays(desk: OrgDesk) -> None:
    one = desk.done("get", "/policies/community-default")["version"]
    desk.done("post", "/policies/community-default/versions", {"observe_only": True, "reason": "trial"}, status=201)
    back = desk.done("post", "/policies/community-default/activate", {"version": 1, "reason": "over"}, status=201)
    said = back["version"]
    assert (said["version"], said["copied_from"], said["observe_only"], said["id"] != one["id"]) == (3, 1, False, True)
    all_three = desk.done("get", "/policies/community-default/versions")["versions"]
    assert [(v["version"], v["is_active"], v["observe_only"], v["reason"]) for v in all_three] == [
        (3, True, False, "over"),
        (2, False, True, "trial"),
        (1, False, False, None),
    ]
    assert all_three[2] == {**one, "is_active": False}
    again = desk.refused("post", "/policies/community-default/activate", {"version": 3, "reason": "r"}, status=409)
    assert again == "Version 3 of 'community-default' is in force already"
    none = desk.refused("post", "/policies/community-default/activate", {"version": 9, "reason": "r"}, status=404)
    assert none == "The policy 'community-default' has no version 9; the newest is 3"


def test_a_written_version_cannot_be_changed_even_by_hand(desk: OrgDesk) -> None:
    desk.done("get", "/policies")
    with pytest.raises(Exception, match="a policy version never changes"):
        desk.house.db.write(lambda conn: conn.execute("UPDATE policy_version SET body = '{}'"))


def test_the_default_moves_and_is_never_gone(desk: OrgDesk) -> None:
    desk.done("post", "/policies", {"slug": "kids", "is_default": True, "reason": "r"}, status=201)
    assert [(p["slug"], p["is_default"]) for p in desk.done("get", "/policies")["policies"]] == [
        ("kids", True),
        ("community-default", False),
    ]
    back = desk.done("patch", "/policies/community-default", {"is_default": True, "name": "Ours", "reason": "back"})
    assert (back["is_default"], back["name"], back["version"]["version"]) == (True, "Ours", 1)
    message = desk.refused("patch", "/policies/community-default", {"is_default": False, "reason": "r"}, status=400)
    assert "moved by making another policy the default" in message
    assert desk.lines(action="policy.changed")[0].detail["moved"]["is_default"] == [False, True]


def test_every_change_needs_a_reason(desk: OrgDesk) -> None:
    for method, path, body in (
        ("post", "/policies", {"slug": "kids"}),
        ("post", "/policies/community-default/versions", {"observe_only": True}),
        ("post", "/policies/community-default/activate", {"version": 1}),
        ("patch", "/policies/community-default", {"name": "x"}),
    ):
        assert desk.refused(method, path, body, status=400) == "reason is required; it is kept in the audit log"
    assert desk.lines() == []


def test_what_is_sent_again_with_its_key_is_done_once(desk: OrgDesk) -> None:
    key = {"Idempotency-Key": "again"}
    for path, given in (
        ("/policies", {"slug": "kids"}),
        ("/policies/kids/versions", {"observe_only": True}),
        ("/policies/kids/activate", {"version": 1}),
    ):
        first, second = (desk.ask("post", path, {**given, "reason": "r"}, headers=key) for _ in range(2))
        assert (first.status_code, second.status_code) == (201, 201)
        assert first.json() == second.json()
        assert second.headers["idempotent-replayed"] == "true"
    assert desk.done("get", "/policies/kids")["version"]["version"] == 3


def test_a_slug_is_taken_once_and_there_is_an_end_of_policies(desk: OrgDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.policies.change.MOST", 3)
    for slug in ("one", "two"):
        desk.done("post", "/policies", {"slug": slug, "reason": "r"}, status=201)
    taken = desk.refused("post", "/policies", {"slug": "community-default", "reason": "r"}, status=409)
    assert taken == "There is a policy 'community-default' already"
    assert "at most 3" in desk.refused("post", "/policies", {"slug": "three", "reason": "r"}, status=409)


@pytest.mark.parametrize(
    ("given", "field", "issue"),
    [
        ({"analyzers": {"spamm": {}}}, "analyzers.spamm", "is no analyzer; there are: profanity, spam"),
        ({"analyzers": {"spam": True}}, "analyzers.spam", "must be an object"),
        ({"analyzers": []}, "analyzers", "must be an object"),
        ({"analyzers": {"spam": {"weight": 2}}}, "analyzers.spam.weight", "is not known here"),
        ({"analyzers": {"spam": {"enabled": 1}}}, "analyzers.spam.enabled", "must be true or false"),
        ({"analyzers": {"spam": {"thresholds": {"warn": 1.1}}}}, "analyzers.spam.thresholds.warn", "from 0 to 1"),
        ({"analyzers": {"spam": {"thresholds": {"warn": -0.1}}}}, "analyzers.spam.thresholds.warn", "from 0 to 1"),
        ({"analyzers": {"spam": {"thresholds": {"warn": "0.5"}}}}, "analyzers.spam.thresholds.warn", "from 0 to 1"),
        ({"analyzers": {"spam": {"thresholds": {"warn": True}}}}, "analyzers.spam.thresholds.warn", "from 0 to 1"),
        ({"analyzers": {"spam": {"thresholds": {"warn": 0.9}}}}, "analyzers.spam.thresholds", "must rise: warn"),
        ({"analyzers": {"spam": {"thresholds": {"ban": 0.9}}}}, "analyzers.spam.thresholds.ban", "is not known here"),
        ({"hash_reuse": {"ttl_seconds": 0}}, "hash_reuse.ttl_seconds", "from 1 to 2,592,000"),
        ({"hash_reuse": {"ttl_seconds": 1.5}}, "hash_reuse.ttl_seconds", "must be a whole number"),
        ({"hash_reuse": {"ttl_seconds": True}}, "hash_reuse.ttl_seconds", "must be a whole number"),
        ({"hash_reuse": None}, "hash_reuse", "must be an object"),
        ({"semantic": {"mode": "sometimes"}}, "semantic.mode", "must be one of off, ambiguous, always"),
        ({"semantic": {"mode": ["off"]}}, "semantic.mode", "must be one of off, ambiguous, always"),
        ({"semantic": {"fail_mode": "open"}}, "semantic.fail_mode", "must be one of degrade, closed"),
        ({"semantic": {"deadline_ms": 10}}, "semantic.deadline_ms", "from 50 to 20,000"),
        ({"semantic": {"audit_share": 2}}, "semantic.audit_share", "from 0 to 1"),
        ({"observe_only": "yes"}, "observe_only", "must be true or false"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_by_its_member(
    desk: OrgDesk, given: dict[str, Any], field: str, issue: str
) -> None:
    answer = desk.ask("post", "/policies/community-default/versions", {**given, "reason": "r"})
    assert answer.status_code == 400
    (detail,) = answer.json()["details"]
    assert detail["field"] == field
    assert issue in detail["issue"]
    assert answer.json()["message"] == f"{detail['field']} {detail['issue']}"
    assert desk.done("get", "/policies/community-default")["version"]["version"] == 1


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/policies", {"slug": "Kids"}, "A policy's slug has 1 to 64"),
        ("/policies", {"slug": "-kids"}, "A policy's slug has 1 to 64"),
        ("/policies", {}, "slug is required"),
        ("/policies", {"slug": "kids", "name": " "}, "A policy's name has 1 to 100"),
        ("/policies", {"slug": "kids", "template": "../community-default"}, "template is none of: community-default"),
        ("/policies", {"slug": "kids", "is_default": "yes"}, "is_default must be true or false"),
        ("/policies", {"slug": "kids", "analysers": {}}, "analysers is not known here; there are: slug, name"),
        ("/policies/community-default/versions", {"threshold": 1}, "threshold is not known here"),
        ("/policies/community-default/activate", {}, "version is required"),
        ("/policies/community-default/activate", {"version": "1"}, "version must be a whole number"),
        ("/policies/community-default/activate", {"version": 10**30}, "version must be a whole number"),
        ("/policies/community-default/activate", {"version": 1e300}, "version must be a whole number"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(desk: OrgDesk, path: str, body: dict[str, Any], message: str) -> None:
    assert message in desk.refused("post", path, {**body, "reason": "r"}, status=400)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        bodies.draft({"observe_only": 1, "semantic": {"mode": 2}, "analyzers": {"x": {}}}, Body(), ANALYZERS)
    assert [one["field"] for one in refused.value.details or []] == ["analyzers.x", "semantic.mode", "observe_only"]


def test_an_organisation_or_policy_that_is_not_there_is_not_found(desk: OrgDesk) -> None:
    for path in ("/policies", "/policies/community-default", "/policies/community-default/versions"):
        answer = desk.client.get(f"{orgdesk.ORGS}/{NOBODYS}{path}", headers=desk.staff.headers)
        assert (answer.status_code, answer.json()["message"]) == (404, "There is no such organisation")
    for path in ("/policies/nothing", "/policies/nothing/versions"):
        answer = desk.ask("get", path)
        assert (answer.status_code, answer.json()["error"]) == (404, "POLICY_NOT_FOUND")


def test_another_organisations_policy_is_not_found(desk: OrgDesk) -> None:
    charlie = enrol(desk.house, "C", "charlie")
    theirs = desk.client.post(
        f"{orgdesk.ORGS}/{charlie.org_id}/policies", json={"slug": "c", "reason": "r"}, headers=desk.staff.headers
    ).json()
    assert desk.ask("get", f"/policies/{theirs['id']}").status_code == 404
    given = {"observe_only": True, "reason": "r"}
    assert desk.ask("post", f"/policies/{theirs['id']}/versions", given).status_code == 404


# --- tenants ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(house: House) -> Person:
    return enrol(house, "A", "reader", granted=("account:config",), surface="omnimod")


def test_a_tenant_reads_its_own_and_not_who_changed_them(
    house: House, client: TestClient[Any], reader: Person, charlie: Person
) -> None:
    listed = client.get("/v1/policies", headers=reader.headers).json()
    (found,) = listed["policies"]
    assert found["slug"] == "community-default"
    assert {"made_by", "reason"}.isdisjoint(found["version"])
    assert client.get(f"/v1/policies/{found['id']}", headers=reader.headers).json() == found
    (version,) = client.get("/v1/policies/community-default/versions", headers=reader.headers).json()["versions"]
    assert version == found["version"]


def test_a_tenants_refusals_are_omnimods(client: TestClient[Any], reader: Person, alice: Person) -> None:
    unknown = client.get("/v1/policies/nothing", headers=reader.headers)
    assert (unknown.status_code, unknown.json()) == (
        404,
        {"detail": {"code": "policy_not_found", "message": "There is no such policy; see GET /v1/policies"}},
    )
    assert client.get("/v1/policies").json() == {"detail": "Invalid API key"}
    lacking = client.get("/v1/policies", headers=alice.headers)
    assert (lacking.status_code, lacking.json()) == (403, {"detail": "Missing required scope: account:config"})


def test_operators_routes_are_not_there_on_the_network(house: House, reader: Person) -> None:
    with TestClient(create_app(house)) as client:
        answer = client.get(f"{orgdesk.ORGS}/{reader.org_id}/policies", headers=reader.headers)
        assert answer.status_code == 404
        assert client.post(f"{orgdesk.ORGS}//{reader.org_id}/policies").status_code == 404


# --- what is shipped, and what decides -------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", rows.templates(SHIPPED))
def test_a_shipped_policy_is_sound(slug: str) -> None:
    name, body = rows.template(SHIPPED, slug)
    assert name
    assert bodies.draft(msgspec.to_builtins(body), Body(), ANALYZERS) == body


def test_what_is_shipped() -> None:
    assert rows.templates(SHIPPED) == ["community-default", "observe", "permissive", "rules-only", "strict"]
    default, observe = (rows.template(SHIPPED, slug)[1] for slug in ("community-default", "observe"))
    assert observe == msgspec.structs.replace(default, observe_only=True)
    strict, default, permissive = (rows.template(SHIPPED, s)[1] for s in ("strict", "community-default", "permissive"))
    for name, rule in default.analyzers.items():
        for step in ("warn", "review", "block"):
            tight, middle, loose = (
                getattr(body.analyzers[name].thresholds, step) or 2.0
                for body in (strict, msgspec.structs.replace(default, analyzers={name: rule}), permissive)
            )
            assert tight <= middle <= loose, (name, step)


def test_the_gravest_analyzer_decides_and_those_switched_off_do_not() -> None:
    body = Body(
        analyzers={
            "spam": Rule(thresholds=Thresholds(warn=0.5, block=0.9)),
            "url": Rule(thresholds=Thresholds(review=0.5)),
            "nsfw": Rule(enabled=False, thresholds=Thresholds(block=0.1)),
        }
    )
    scores = {"spam": Result(0.9), "url": Result(0.6), "nsfw": Result(1.0), "emoji": Result(1.0)}
    made = decision.decide(body, scores)
    assert (made.action, made.word, made.severity, made.flagged) == ("block", "block", "critical", ("spam", "url"))
    made = decision.decide(body, {**scores, "spam": Result(0.89)})
    assert (made.action, made.word) == ("review", "flag")
    assert decision.decide(body, {}).action == "allow"
