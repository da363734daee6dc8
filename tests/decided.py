"""Verdicts made by hand, as a surface has them: for tests of what is kept of them."""

from collections.abc import Mapping
from typing import Any

from appliance import clock
from appliance.accounts import organisations, plans
from appliance.accounts.organisations import Changes
from appliance.database import Connection
from appliance.house import House
from appliance.moderations import events
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies import rows
from appliance.policies.version import Body, Version
from appliance.text.analysis import Analysis, Result
from appliance.text.language import Language
from tests.cast import Person

NOWHERE = Version("a-version", "a-policy", "made-up", 1, Body())
ACTIONS = {"allow": "allow", "flag": "review", "block": "block"}


def asked(
    scores: Mapping[str, float | Result] | None = None,
    decision: str = "allow",
    *,
    ask: Ask | None = None,
    version: Version = NOWHERE,
    language: str = "en",
    **fields: Any,
) -> tuple[Ask, Verdict]:
    """What was asked, and a verdict on it, now."""
    results = {
        name: score if isinstance(score, Result) else Result(score) for name, score in (scores or {"spam": 0.1}).items()
    }
    made = Verdict(
        event_id=f"mev_{clock.new_ulid()}",
        request_id="req_1",
        decision=decision,
        **{"action": ACTIONS[decision], "severity": "none", "flagged": (), **fields},
        analysis=Analysis(Language(language, 0.9), results),
        version=version,
        content_hash="sha256:" + "ab" * 32,
        created_at=clock.now_ms(),
        is_cached=fields.get("mode") == "cache_hit",
    )
    return ask or Ask("a lighthouse", "omnimod"), made


def record(house: House, who: Person, *made: tuple[Ask, Verdict]) -> list[str]:
    """Their events' ids."""
    house.db.write(lambda conn: events.record_all(conn, who.org_id, who.key_id, made))
    return [one.event_id for _, one in made]


def begun(house: House, who: Person) -> Version:
    """The shipped default, as the organisation's own."""
    house.db.write(lambda conn: rows.begin(conn, who.org_id, house.settings.policies_dir))
    found = rows.in_force(house.db.reader(), who.org_id, None)
    assert found is not None
    return found


def on_plan(house: House, who: Person, slug: str, quota: int | None) -> None:
    """That organisation is on that plan, which has this quota."""

    def change(conn: Connection) -> None:
        plans.change(conn, slug, plans.Changes(monthly_request_quota=quota), actor="operator:test", reason="a test")
        organisations.change(conn, who.org_id, Changes(plan=slug), actor="operator:test", reason="a test")

    house.db.write(change)
