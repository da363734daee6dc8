"""LiteLLM's generic guardrail (C.4): what a proxy asks before a prompt goes out and before an answer comes back.

A verdict that cannot be had is an error, and LiteLLM then stops the request, unless its own setting says otherwise.
"""

import base64
import binascii
from typing import Annotated, Any, Literal, cast

import msgspec
from litestar import Request, Response, post

from appliance.accounts.keys import Caller
from appliance.api import auth, enforced, form, openai, pictures
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.pictures import Screened
from appliance.errors import InvalidRequest

AnyRequest = Request[Caller, Any, Any]

PICTURES = 8
_Image = Annotated[str, msgspec.Meta(min_length=1)]


class Guarded(msgspec.Struct, frozen=True, omit_defaults=True):
    action: Literal["NONE", "BLOCKED", "GUARDRAIL_INTERVENED"]
    blocked_reason: str | None = None
    """Analyzers and the policy: nothing of what was sent."""


GUARD = Entry(
    id="litellm_guardrail",
    tag="Guardrails",
    summary="LiteLLM's generic guardrail",
    description=(
        "`guardrail: generic_guardrail_api` with this server as `api_base` and a key as `api_key`. Screened are "
        "`texts`, what `structured_messages` and `tool_calls` say besides, and `images` (http(s), data: or base64). "
        "`additional_provider_specific_params` may name a `policy`, and in `block_at` the least of its actions that "
        "stops: block (the default), review or warn. Definitions of tools are not read. No text is ever rewritten."
    ),
    answer=Answer(
        200,
        Guarded,
        "Whether it may go on.",
        {
            "passed": {"action": "NONE"},
            "stopped": {"action": "BLOCKED", "blocked_reason": "Stopped by the policy community-default: blocklist"},
        },
    ),
    scope=("moderations:create", "moderate:prompt"),
    credentials=("header:x-api-key", "bearer"),
    errors=("INVALID_REQUEST", "POLICY_NOT_FOUND", "QUOTA_EXCEEDED", "PAYMENT_REQUIRED"),
    fields=(
        Field("input_type", "Whether it was asked (request) or answered (response): both are screened alike."),
        Field("texts", "Of the messages.", shape=list[str] | None),
        Field("images", "Addresses, data: URLs or base64.", shape=list[_Image] | None),
        Field("structured_messages", "The messages, as for a chat completion.", shape=list[dict[str, Any]] | None),
        Field("tool_calls", "What the model calls.", shape=list[dict[str, Any]] | None),
        Field("additional_provider_specific_params", "`policy`, `block_at`.", shape=dict[str, Any] | None),
    ),
    examples={"text": {"input_type": "request", "texts": ["Good morning, everybody!"]}},
    is_json_only=True,
)


@post("/beta/litellm_basic_guardrail_api", status_code=200, **operation(GUARD))
async def litellm_guardrail(request: AnyRequest) -> Response[Guarded]:
    async with form.wide_json_object(request, openai.BODY_BYTES, door(request).bodies) as given:
        if not isinstance(given.get("input_type", "request"), str):
            raise _wrong("input_type", "must be a string")
        chosen = enforced.members(given, "additional_provider_specific_params")
        cut = enforced.cut(chosen.get("policy"), chosen.get("block_at"))
        images = _strings(given, "images")
        if len(images) > PICTURES:
            raise _wrong("images", f"may hold {PICTURES} at most")
        if images:
            auth.check_scope(request.user, ("moderations:create", "moderate:image"))
        texts = _strings(given, "texts")
        for name in _MORE:
            texts += enforced.strings(_objects(given, name), passing_over=_NOT_SAID)
        stopped = enforced.stopping(await enforced.screen(request, "litellm", texts, cut), cut)
        if stopped:
            return Response(Guarded("BLOCKED", enforced.reason(stopped)))
        for image in images:
            found = await _look(request, image)
            if found.is_prohibited:
                names = ", ".join(name for name, is_true in found.categories.items() if is_true)
                return Response(Guarded("BLOCKED", f"Stopped by the picture checks: {names}"))
    return Response(Guarded("NONE"))


ROUTES = [litellm_guardrail]


_MORE = ("structured_messages", "tool_calls")
_NOT_SAID = frozenset(
    {"role", "id", "type", "index", "tool_call_id", "image_url", "input_audio", "file", "cache_control", "source"}
)
"""Members of messages and calls whose strings nobody wrote; pictures come as `images`."""


def _strings(given: dict[str, Any], name: str) -> list[str]:
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in cast("list[Any]", value)):
        raise _wrong(name, "must be a list of strings")
    return cast("list[str]", value)


def _objects(given: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in cast("list[Any]", value)):
        raise _wrong(name, "must be a list of objects")
    return cast("list[dict[str, Any]]", value)


async def _look(request: AnyRequest, image: str) -> Screened:
    if not image:
        raise _wrong("images", "holds an empty string")
    if image.startswith(("http://", "https://", "data:")):
        return await pictures.screen(request, "litellm", field="images", url=image)
    try:
        content = base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("images", "must be http(s) or data: URLs, or base64") from None
    return await pictures.screen(request, "litellm", field="images", content=content)


def _wrong(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])
