"""GET and PUT /api/v1/me/prompt-steps: what prompts are checked for besides, after the blocklist."""

from typing import Any

import msgspec
from litestar import Request, get, put

from appliance.accounts import steps
from appliance.accounts.keys import Caller
from appliance.api import form
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import Door, door
from appliance.errors import InvalidRequest
from appliance.text.analysis import HEADS, STEPS


class StepsGiven(msgspec.Struct, frozen=True):
    """Analyzer → the score from which on it rejects, over 0 and up to 1. What is left out is off."""

    steps: dict[str, float]


class AnalyzerKind(msgspec.Struct, frozen=True):
    analyzer: str
    by: str
    """`rules`, or `model`."""


class StepsBody(msgspec.Struct, frozen=True):
    steps: dict[str, float]
    available: list[AnalyzerKind]


_EXAMPLE = {"steps": {"spam": 0.8}, "available": [{"analyzer": "spam", "by": "rules"}]}
_ANSWER = Answer(200, StepsBody, "The steps as they are now.", {"spam": _EXAMPLE})

READ = Entry(
    id="get_prompt_steps",
    tag="Account",
    summary="Get the additional steps of prompts",
    description="Which analyzers are asked of a prompt after the blocklist, each with its threshold; all are off at "
    "first.",
    answer=_ANSWER,
    scope="account:config",
)
REPLACE = Entry(
    id="put_prompt_steps",
    tag="Account",
    summary="Replace the additional steps of prompts",
    description="The body is the complete new state: an analyzer that is left out is off. A prompt whose score reaches "
    "a threshold is rejected, and the reason names the analyzer. It counts for prompts submitted from now on, and only "
    "while the check `text` is on.",
    answer=_ANSWER,
    scope="account:config",
    errors=("INVALID_REQUEST",),
    body=StepsGiven,
    examples={"spam and harassment": {"steps": {"spam": 0.8, "harassment": 0.7}}, "none": {"steps": {}}},
    is_json_only=True,
)

_PATH = "/api/v1/me/prompt-steps"


@get(_PATH, **operation(READ))
async def get_prompt_steps(request: Request[Caller, Any, Any]) -> StepsBody:
    return _body(door(request), request.user.org_id)


@put(_PATH, **operation(REPLACE))
async def put_prompt_steps(request: Request[Caller, Any, Any]) -> StepsBody:
    there = door(request)
    caller = request.user
    given = await form.json_object(request)
    if "steps" not in given:
        raise InvalidRequest("steps is required", details=[{"field": "steps", "issue": "is required"}])
    wanted = steps.parse(given["steps"], STEPS)
    await there.house.db.write_async(lambda conn: steps.replace(conn, caller.org_id, wanted, actor=caller.actor))
    return _body(there, caller.org_id)


ROUTES = [get_prompt_steps, put_prompt_steps]


def _body(there: Door, org_id: str) -> StepsBody:
    available = [AnalyzerKind(name, "model" if name in HEADS else "rules") for name in STEPS]
    return StepsBody(steps.of(there.house.db.reader(), org_id), available)
