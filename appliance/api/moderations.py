"""POST /v1/moderations: one path, two services. Whose request it is, its body tells (C.1, sharing the path)."""

from typing import Any

from litestar import Request, Response, post

from appliance.accounts.keys import Caller
from appliance.api import auth, dialects, form, idempotency, omnimod, omnimod_request, openai
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import door

AnyRequest = Request[Caller, Any, Any]

MODERATE = Entry(
    id="create_moderation",
    tag="Moderations",
    summary="Decide on a text at once",
    description=(
        "OmniMod's request, or OpenAI's: with `modality` it is OmniMod's; else with `model` or a list as `input` "
        "OpenAI's; else with `policy`, `force_fresh`, `metadata` or `language` OmniMod's; else by the key: `omad_…` is "
        "OmniMod's, any other OpenAI's. The `Idempotency-Key` counts for OmniMod's; OpenAI's is decided each time."
    ),
    answer=Answer(
        200,
        omnimod.Body | openai.Moderation,
        "The decision, as the one or the other says it.",
        {"omnimod": omnimod.EXAMPLE, "openai": openai.EXAMPLE},
    ),
    scope=("moderations:create", "moderate:prompt"),
    dialect=dialects.SHARED,
    errors=("INVALID_REQUEST", "POLICY_NOT_FOUND", "QUOTA_EXCEEDED", "PAYMENT_REQUIRED"),
    fields=omnimod_request.FIELDS,
    or_fields=openai.FIELDS,
    examples={"omnimod": {"modality": "text", "input": "hello community"}, "openai": openai.REQUEST},
    is_json_only=True,
    has_idempotency=True,
)


@post("/v1/moderations", status_code=200, **operation(MODERATE))
async def create_moderation(request: AnyRequest) -> Response[Any]:
    async with form.wide_json_object(request, openai.BODY_BYTES, door(request).bodies) as given:
        request.scope["state"]["dialect"] = dialect = _whose(request, given)
        idempotency.key_of(request)  # in either, one that is none is refused
        return await (omnimod if dialect == "omnimod" else openai).moderate(request, given)


ROUTES = [create_moderation]


def _whose(request: AnyRequest, given: dict[str, Any]) -> str:
    if "modality" in given:
        return "omnimod"
    if "model" in given or isinstance(given.get("input"), list):
        return "openai"
    if given.keys() & {"policy", "force_fresh", "metadata", "language"}:
        return "omnimod"
    return "omnimod" if auth.presented(request).startswith("omad_") else "openai"
