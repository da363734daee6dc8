"""POST /v1/moderations: one path, two services. Whose request it is, its body tells (C.1, sharing the path)."""

from typing import Any

import msgspec
from litestar import Request, Response, post

from appliance.accounts.keys import Caller
from appliance.api import auth, dialects, form, omnimod
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.errors import InvalidRequest

AnyRequest = Request[Caller, Any, Any]

MODERATE = Entry(
    id="create_moderation",
    tag="Moderations",
    summary="Decide on a text at once",
    description=(
        "OmniMod's request, or OpenAI's: with `modality` it is OmniMod's; else with `model` or a list as `input` "
        "OpenAI's; else with `policy`, `force_fresh`, `metadata` or `language` OmniMod's; else by the key: `omad_…` is "
        "OmniMod's, any other OpenAI's."
    ),
    answer=Answer(200, omnimod.Body, "The decision."),
    scope=("moderations:create", "moderate:prompt"),
    dialect=dialects.SHARED,
    errors=("INVALID_REQUEST",),
    fields=(Field("input", "The text.", is_required=True),),
    is_json_only=True,
)


@post("/v1/moderations", status_code=200, **operation(MODERATE))
async def create_moderation(request: AnyRequest) -> Response[Any]:
    given = await _object(request)
    request.scope["state"]["dialect"] = dialect = _whose(request, given)
    if dialect == "omnimod":
        return await omnimod.moderate(request, given)
    raise InvalidRequest("OpenAI's moderations are not served yet")


ROUTES = [create_moderation]


async def _object(request: AnyRequest) -> dict[str, Any]:
    try:
        return await form.json_object(request)
    except msgspec.DecodeError as error:
        raise InvalidRequest("The body is not valid JSON") from error


def _whose(request: AnyRequest, given: dict[str, Any]) -> str:
    if "modality" in given:
        return "omnimod"
    if "model" in given or isinstance(given.get("input"), list):
        return "openai"
    if given.keys() & {"policy", "force_fresh", "metadata", "language"}:
        return "omnimod"
    return "omnimod" if auth.presented(request).startswith("omad_") else "openai"
