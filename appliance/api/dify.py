"""Dify's API extension for moderation (C.4): one address, which is asked before a conversation's input is used and
while its output is written."""

from typing import Any, Literal

import msgspec
from litestar import Request, Response, post

from appliance.accounts.keys import Caller
from appliance.api import enforced, form, openai, query
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.errors import InvalidRequest

AnyRequest = Request[Caller, Any, Any]

REPLY = "This cannot be answered here."


class Pong(msgspec.Struct, frozen=True):
    result: Literal["pong"]


class Moderated(msgspec.Struct, frozen=True):
    flagged: bool
    preset_response: str = ""
    """What Dify says instead."""
    action: Literal["direct_output"] = "direct_output"


QUERY = (
    Field("policy", "A policy's slug or id; else the default one decides."),
    Field("block_at", "The least of its actions that counts as flagged.", choices=enforced.CUTS, default="block"),
    Field("reply", "What Dify says in place of what was flagged.", default=REPLY, longest=500),
)
EXTENSION = Entry(
    id="dify_extension",
    tag="Guardrails",
    summary="Dify's moderation extension",
    description=(
        "The address of an API extension in Dify, with a key of this server as its API key. Answers `ping`, "
        "`app.moderation.input` (the variables and the query) and `app.moderation.output` (a piece of the answer)."
    ),
    answer=Answer(
        200,
        Pong | Moderated,
        "What Dify does with it.",
        {
            "ping": {"result": "pong"},
            "passed": {"flagged": False, "preset_response": "", "action": "direct_output"},
            "flagged": {"flagged": True, "preset_response": REPLY, "action": "direct_output"},
        },
    ),
    scope=("moderations:create", "moderate:prompt"),
    errors=("INVALID_REQUEST", "POLICY_NOT_FOUND", "QUOTA_EXCEEDED"),
    query=QUERY,
    fields=(
        Field(
            "point",
            "What is asked.",
            is_required=True,
            choices=("ping", "app.moderation.input", "app.moderation.output"),
        ),
        Field("params", "app_id, and inputs and query, or text.", shape=dict[str, Any] | None),
    ),
    examples={"input": {"point": "app.moderation.input", "params": {"inputs": {}, "query": "Good morning!"}}},
    is_json_only=True,
)


@post("/compat/dify", status_code=200, **operation(EXTENSION))
async def dify_extension(request: AnyRequest) -> Response[Pong | Moderated]:
    async with form.wide_json_object(request, openai.BODY_BYTES, door(request).bodies) as given:
        point, params = given.get("point"), enforced.members(given, "params")
        match point:
            case "ping":
                return Response(Pong("pong"))
            case "app.moderation.input":
                texts = [*enforced.strings(params.get("inputs")), *enforced.strings(params.get("query"))]
            case "app.moderation.output":
                texts = [*enforced.strings(params.get("text"))]
            case _:
                raise InvalidRequest(
                    "point must be ping, app.moderation.input or app.moderation.output",
                    details=[{"field": "point", "issue": "is not known"}],
                )
    cut = enforced.cut(query.sent(request, "policy"), query.sent(request, "block_at"))
    reply = query.sent(request, "reply") or REPLY
    if len(reply) > 500:
        raise query.refused("reply", "is over 500 characters")
    stopped = enforced.stopping(await enforced.screen(request, "dify", texts, cut), cut)
    return Response(Moderated(bool(stopped), reply if stopped else ""))


ROUTES = [dify_extension]
