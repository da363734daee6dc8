"""moderation-config: which of the four checks an organisation has turned off. Only those are kept."""

from typing import Any, cast

import msgspec

from appliance import audit
from appliance.categories import CHECKS
from appliance.database import Connection
from appliance.errors import InvalidRequest, NotFound

UNDERAGE_WARNING = (
    "When underage is enabled, jobs are rejected if the check fires. Account termination is not automatic — it is a "
    "manual admin action triggered separately. Disabling underage removes that rejection signal, so make sure you have "
    "an alternative CSAM-detection control in place before turning it off."
)
"""The contract's own words (seed 002), said before it is turned off."""


def parse(body: object) -> dict[str, bool]:
    """The checks that a PUT body turns off. Raises InvalidRequest unless it is such an object."""
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object")
    given = cast("dict[str, Any]", body)
    details = [{"field": key, "issue": "unknown check"} for key in given if key not in CHECKS]
    if details:
        raise InvalidRequest(f"Allowed keys are {', '.join(CHECKS)}", details=details)
    details = [
        {"field": key, "issue": "must be a boolean"} for key, value in given.items() if not isinstance(value, bool)
    ]
    if details:
        raise InvalidRequest(f"{details[0]['field']} must be true or false", details=details)
    return {check: False for check in CHECKS if given.get(check) is False}


def off(conn: Connection, org_id: str) -> dict[str, bool]:
    """Only the checks that are off: `{"nsfw": False}`."""
    row = conn.execute("SELECT checks_off FROM organisation WHERE id = :id", {"id": org_id}).fetchone()
    return msgspec.json.decode(row["checks_off"], type=dict[str, bool])


def on(conn: Connection, org_id: str) -> list[str]:
    """The checks that are on."""
    disabled = off(conn, org_id)
    return [check for check in CHECKS if check not in disabled]


def replace(conn: Connection, org_id: str, disabled: dict[str, bool], *, actor: str) -> None:
    """The whole new state, for jobs submitted from now on. Turning `underage` off leaves an audit line."""
    was_off = off(conn, org_id)
    _put(conn, org_id, disabled)
    if "underage" in disabled and "underage" not in was_off:
        audit.record(conn, actor, "checks.underage_off", org_id, org_id=org_id)


def switch(
    conn: Connection, org_id: str, check: str, is_on: bool, *, actor: str, reason: str | None = None
) -> dict[str, bool]:
    """One check by the operator's hand, for jobs submitted from now on; always with an audit line. The checks that are
    off then. Raises NotFound, or InvalidRequest when it is so already."""
    if check not in CHECKS:
        raise NotFound(f"There is no check {check!r}; there are: {', '.join(CHECKS)}")
    disabled = off(conn, org_id)
    if (check not in disabled) == is_on:
        raise InvalidRequest(f"{check} is {'on' if is_on else 'off'} already")
    left = {one: False for one in CHECKS if (one in disabled if one != check else not is_on)}
    _put(conn, org_id, left)
    action = "checks.turned_on" if is_on else "checks.underage_off" if check == "underage" else "checks.turned_off"
    audit.record(conn, actor, action, org_id, org_id=org_id, reason=reason, check=check)
    return left


def by_org(conn: Connection) -> dict[str, dict[str, bool]]:
    """Organisation → the checks that are off."""
    rows = conn.execute("SELECT id, checks_off FROM organisation")
    return {row["id"]: msgspec.json.decode(row["checks_off"], type=dict[str, bool]) for row in rows}


def _put(conn: Connection, org_id: str, disabled: dict[str, bool]) -> None:
    conn.execute(
        "UPDATE organisation SET checks_off = :checks WHERE id = :id",
        {"id": org_id, "checks": msgspec.json.encode(disabled).decode()},
    )
