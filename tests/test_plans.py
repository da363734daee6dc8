"""Plans: made, changed, removed; what holds for an organisation."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.accounts import organisations, plans
from appliance.accounts.plans import Changes, ChargeMethod, Plan
from appliance.database import Connection
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.house import House
from tests.cast import Person

WHO: dict[str, Any] = {"actor": "operator:test", "reason": "a test"}


def _make(house: House, slug: str = "volume", **fields: Any) -> Plan:
    return house.db.write(lambda conn: plans.create(conn, slug, "Growth", Changes(**fields), **WHO))


def _put_on(house: House, org_id: str, **columns: Any) -> None:
    sets = ", ".join(f"{name} = :{name}" for name in columns)
    house.db.write(
        lambda conn: conn.execute(f"UPDATE organisation SET {sets} WHERE id = :id", {**columns, "id": org_id})
    )


def test_everybody_starts_on_the_standard_plan_which_charges_nothing(house: House, alice: Person) -> None:
    held = plans.terms(house.db.reader(), alice.org_id)
    assert (held.plan, held.charge_method, held.prompt_micros) == ("standard", ChargeMethod.NONE, 0)
    assert (held.requests_per_minute, held.burst_per_second) == (None, None)


def test_a_plan_holds_for_those_on_it_and_their_own_word_goes_first(
    house: House, alice: Person, charlie: Person
) -> None:
    _make(house, charge_method=ChargeMethod.PER_JOB, prompt_micros=800, requests_per_minute=600, burst_per_second=20)
    _put_on(house, alice.org_id, plan="volume", requests_per_minute=5, charge_method="gpu_time")
    held = plans.terms(house.db.reader(), alice.org_id)
    assert (held.requests_per_minute, held.burst_per_second) == (5, 20)
    assert (held.charge_method, held.prompt_micros) == (ChargeMethod.GPU_TIME, 800)
    assert plans.terms(house.db.reader(), charlie.org_id).plan == "standard"


def test_a_change_says_in_the_audit_log_what_was_and_what_is(house: House) -> None:
    _make(house, prompt_micros=800)
    changed = house.db.write(
        lambda conn: plans.change(conn, "volume", Changes(prompt_micros=900, requests_per_minute=None), **WHO)
    )
    assert (changed.prompt_micros, changed.name) == (900, "Growth")
    line = house.db.reader().execute("SELECT * FROM audit WHERE action = 'plan.changed'").fetchone()
    assert (line["actor"], line["reason"], line["subject"]) == ("operator:test", "a test", "volume")
    assert json.loads(line["detail"]) == {"moved": {"prompt_micros": [800, 900]}}


def test_a_change_to_what_is_already_so_leaves_no_line(house: House) -> None:
    made = _make(house, prompt_micros=800)
    assert house.db.write(lambda conn: plans.change(conn, "volume", Changes(prompt_micros=800), **WHO)) == made
    assert not house.db.reader().execute("SELECT 1 FROM audit WHERE action = 'plan.changed'").fetchone()


def test_a_plan_is_not_removed_under_those_on_it(house: House, alice: Person) -> None:
    _make(house)
    _put_on(house, alice.org_id, plan="volume")
    remove: Callable[[Connection], None] = lambda conn: plans.remove(conn, "volume", **WHO)  # noqa: E731
    with pytest.raises(Conflict, match="on the plan 'volume': 1;"):
        house.db.write(remove)
    _put_on(house, alice.org_id, plan="standard")
    house.db.write(remove)
    assert "volume" not in [plan.slug for plan in plans.every(house.db.reader())]


def test_the_standard_plan_stays(house: House) -> None:
    with pytest.raises(Conflict, match="what new organisations are on"):
        house.db.write(lambda conn: plans.remove(conn, "standard", **WHO))


def test_a_hidden_plan_still_holds(house: House, alice: Person) -> None:
    _make(house, is_hidden=True, image_micros=2_000)
    _put_on(house, alice.org_id, plan="volume")
    assert plans.get(house.db.reader(), "volume").is_hidden is True
    assert plans.terms(house.db.reader(), alice.org_id).image_micros == 2_000


def test_unusable_plans_are_refused_with_the_field(house: House) -> None:
    unusable: list[tuple[dict[str, Any], str]] = [
        ({"prompt_micros": -1}, "prompt_micros"),
        ({"gpu_second_micros": 10**13}, "gpu_second_micros"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"burst_per_second": -1}, "burst_per_second"),
        ({"stripe_price": "prod_1"}, "stripe_price"),
        ({"name": " "}, "name"),
    ]
    for fields, field in unusable:
        with pytest.raises(InvalidRequest) as refused:
            house.db.write(
                lambda conn, fields=fields: plans.create(conn, "p", fields.get("name", "P"), Changes(**fields), **WHO)
            )
        assert refused.value.details is not None
        assert refused.value.details[0]["field"] == field
    with pytest.raises(InvalidRequest, match="not usable"):
        house.db.write(lambda conn: plans.create(conn, "Growth Plan", "P", Changes(), **WHO))
    _make(house)
    with pytest.raises(Conflict, match="already"):
        _make(house)
    with pytest.raises(NotFound, match="there are: developer, flex, free, growth, launch, standard, volume"):
        plans.get(house.db.reader(), "moon")
    with pytest.raises(NotFound):
        plans.terms(house.db.reader(), "nobody")


def test_every_organisation_stands_on_a_plan_of_that_name(house: House, alice: Person) -> None:
    assert {one.plan for one in organisations.every(house.db.reader())} == {"standard"}
