"""Plans and their prices over HTTP, beside the verbs of tests/test_plans.py."""

from pathlib import Path
from typing import Any

import pytest

from appliance.accounts import plans
from appliance.settings import Settings
from tests.desk import ClientWith, Desk

SHIPPED = ["developer", "flex", "free", "growth", "launch", "standard"]
GROWTH = {"slug": "volume", "name": "Growth", "charge_method": "per_job", "prompt_usd": 0.0008, "image_usd": "0.002"}


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> Desk:
    return Desk(client_with, settings, _migrated)


def test_a_plan_is_made_with_its_prices_to_the_millionth(desk: Desk) -> None:
    made = desk.done("post", "/plans", {**GROWTH, "requests_per_minute": 600, "reason": "new list"}, status=201)
    assert (made["prompt_usd"], made["image_usd"], made["video_usd"]) == (0.0008, 0.002, 0.0)
    assert (made["requests_per_minute"], made["burst_per_second"], made["is_hidden"]) == (600, None, False)
    assert desk.done("get", "/plans/volume") == made
    assert [one["slug"] for one in desk.done("get", "/plans")["plans"]] == [*SHIPPED, "volume"]
    held = plans.get(desk.house.db.reader(), "volume")
    assert (held.prompt_micros, held.image_micros) == (800, 2000)
    line = desk.lines(action="plan.created")[0]
    assert (line.actor, line.subject, line.reason) == (desk.actor, "volume", "new list")


def test_a_change_leaves_what_is_not_named(desk: Desk) -> None:
    made = desk.done("post", "/plans", GROWTH, status=201)
    given = {"image_usd": 0.003, "requests_per_minute": 5, "name": None, "is_hidden": None, "charge_method": None}
    after = desk.done("put", "/plans/volume", {**given, "reason": "dearer"})
    assert after == {**made, "image_usd": 0.003, "requests_per_minute": 5, "updated_at": after["updated_at"]}
    assert (
        desk.done("put", "/plans/volume", {"requests_per_minute": None, "reason": "x"})["requests_per_minute"] is None
    )
    assert [line.reason for line in desk.lines(action="plan.changed")] == ["x", "dearer"]


def test_the_five_plans_of_omnimod_are_there_with_their_quotas(desk: Desk) -> None:
    found = {one["slug"]: one for one in desk.done("get", "/plans")["plans"]}
    assert {slug: found[slug]["monthly_request_quota"] for slug in SHIPPED} == {
        "free": 100,
        "developer": 10_000,
        "launch": 100_000,
        "growth": 1_000_000,
        "flex": None,
        "standard": None,
    }
    assert [slug for slug in SHIPPED if found[slug]["is_hidden"]] == ["flex"]


def test_a_quota_is_set_changed_and_taken_away(desk: Desk) -> None:
    made = desk.done("post", "/plans", {**GROWTH, "monthly_request_quota": 0}, status=201)
    assert made["monthly_request_quota"] == 0
    for quota in (5_000_000, None):
        changed = desk.done("put", "/plans/volume", {"monthly_request_quota": quota, "reason": "r"})
        assert changed["monthly_request_quota"] == quota
    assert desk.lines(action="plan.changed")[0].detail["moved"] == {"monthly_request_quota": [5_000_000, None]}


def test_a_plan_that_somebody_is_on_stays(desk: Desk) -> None:
    desk.done("post", "/plans", GROWTH, status=201)
    client = f"/clients/{desk.alice.org_id}"
    assert desk.done("put", client, {"plan": "volume", "reason": "up"})["effective"]["charge_method"] == "per_job"
    assert "on the plan 'volume': 1" in desk.refused("delete", "/plans/volume?reason=old", status=409)
    desk.done("put", client, {"plan": "standard", "reason": "down"})
    desk.done("delete", "/plans/volume?reason=old", status=204)
    assert "there are: developer, flex, free, growth, launch, standard" in desk.refused(
        "get", "/plans/volume", status=404
    )
    assert "not removed" in desk.refused("delete", "/plans/standard?reason=old", status=409)
    assert desk.lines(action="plan.removed")[0].reason == "old"


def test_a_price_of_stripes_is_one_plans(desk: Desk) -> None:
    for slug in ("team", "works"):
        desk.done("post", "/plans", {"slug": slug, "name": slug}, status=201)
    sold = {"stripe_price": "price_team", "reason": "sold"}
    desk.done("put", "/plans/team", sold)
    desk.done("put", "/plans/team", {**sold, "name": "Team"})
    assert "'team' is sold as already" in desk.refused("put", "/plans/works", sold, status=400)
    more = {"slug": "third", "name": "Third", "stripe_price": "price_team"}
    assert "'team' is sold as already" in desk.refused("post", "/plans", more, status=400)


def test_a_slug_is_taken_once(desk: Desk) -> None:
    desk.done("post", "/plans", GROWTH, status=201)
    assert "already" in desk.refused("post", "/plans", GROWTH, status=409)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slug": None}, "slug is required"),
        ({"slug": "Growth"}, "is not usable"),
        ({"name": None}, "name is required"),
        ({"name": " "}, "1 to 100 characters"),
        ({"prompt_usd": -1}, "prompt_usd must not be negative"),
        ({"prompt_usd": 0.0000001}, "more than six decimals"),
        ({"prompt_usd": 2_000_000}, "at most a million dollars"),
        ({"charge_method": "monthly"}, "charge_method must be one of"),
        ({"is_hidden": "no"}, "is_hidden must be true or false"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"burst_per_second": "1"}, "burst_per_second must be a whole number"),
        ({"stripe_price": "x"}, "stripe_price"),
        ({"monthly_request_quota": -1}, "monthly_request_quota is 0 to 1,000,000,000,000"),
        ({"monthly_request_quota": "100"}, "monthly_request_quota must be a whole number or null"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(desk: Desk, change: dict[str, Any], message: str) -> None:
    assert message in desk.refused("post", "/plans", {**GROWTH, **change}, status=400)
    assert len(desk.done("get", "/plans")["plans"]) == len(SHIPPED)
