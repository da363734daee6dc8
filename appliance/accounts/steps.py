"""The additional optional steps of the prompt pipeline (seed 000): which analyzers of the text engine an organisation
has switched on after the blocklist, each with the score from which on it rejects."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from appliance import audit
from appliance.database import Connection
from appliance.errors import InvalidRequest


def parse(given: object, known: Sequence[str]) -> dict[str, float]:
    """Analyzer → threshold, of an object that says so. Raises InvalidRequest that names each member that is not one of
    `known`, or no number over 0 and up to 1."""
    if not isinstance(given, dict):
        raise InvalidRequest("steps must be an object: analyzer to threshold")
    steps = cast("dict[str, Any]", given)
    details = [{"field": f"steps.{name}", "issue": "unknown analyzer"} for name in steps if name not in known]
    if details:
        raise InvalidRequest(f"The analyzers are {', '.join(known)}", details=details)
    details = [
        {"field": f"steps.{name}", "issue": "must be a number over 0 and up to 1"}
        for name, value in steps.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1
    ]
    if details:
        raise InvalidRequest(f"{details[0]['field']} must be a number over 0 and up to 1", details=details)
    return {name: float(steps[name]) for name in known if name in steps}


def of(conn: Connection, org_id: str) -> dict[str, float]:
    """What is switched on, with its threshold."""
    row = conn.execute("SELECT prompt_steps FROM organisation WHERE id = :id", {"id": org_id}).fetchone()
    return msgspec.json.decode(row["prompt_steps"], type=dict[str, float])


def replace(
    conn: Connection, org_id: str, steps: dict[str, float], *, actor: str, reason: str | None = None
) -> dict[str, float]:
    """The whole new state, for prompts submitted from now on."""
    before = of(conn, org_id)
    if steps != before:
        conn.execute(
            "UPDATE organisation SET prompt_steps = :steps WHERE id = :id",
            {"id": org_id, "steps": msgspec.json.encode(steps).decode()},
        )
        audit.record(conn, actor, "prompt.steps", org_id, org_id=org_id, reason=reason, moved=[before, steps])
    return steps
