"""Pleroma's and Rebased's NsfwApiPolicy (C.4): a score for a picture by its address, which comes as it is, without
percent-encoding. An error leaves it to the policy's own setting, which lets the post pass."""

from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, get
from litestar.params import PathParameter

from appliance.accounts.keys import Caller
from appliance.api import pictures
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.errors import InvalidRequest, Unavailable

AnyRequest = Request[Caller, Any, Any]
Token = Annotated[str, PathParameter(description="The API key.")]

_LONGEST = 2048


class Scored(msgspec.Struct, frozen=True):
    score: float
    """The highest figure of the nsfw check, 0 to 1."""
    url: str


SCORE = Entry(
    id="pleroma_score",
    tag="Fediverse",
    summary="Pleroma: how explicit is this picture?",
    description=(
        '`config :pleroma, :mrf_nsfw_api, url: "http://HOST:8000/compat/pleroma/YOUR_API_KEY/"`. The address is the '
        "rest of the query after `url=`, as it is or percent-encoded. This server fetches the picture: one on a "
        "private network is refused, unless media.allowed_private_cidrs allows it."
    ),
    answer=Answer(
        200,
        Scored,
        "The score; the policy's default threshold is 0.7.",
        {"score": {"score": 0.02, "url": "https://example.org/media/harbour.jpg"}},
    ),
    scope=("moderations:create", "moderate:image"),
    credentials=("path:token",),
    errors=("QUOTA_EXCEEDED", "PAYMENT_REQUIRED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA"),
    query=(Field("url", "The picture's http(s) address.", is_required=True, format="uri", longest=_LONGEST),),
)


@get("/compat/pleroma/{token:str}", **operation(SCORE))
async def pleroma_score(request: AnyRequest, token: Token) -> Response[Scored]:
    url = _address(request.scope["query_string"])
    found = await pictures.screen(request, "pleroma", field="url", url=url)
    if not any(score.category == "nsfw" for score in found.scores):
        raise Unavailable("The nsfw check is switched off for this account: there is no score", retry_after_s=300)
    return Response(Scored(found.highest("nsfw"), url))


ROUTES = [pleroma_score]


def _address(query: bytes) -> str:
    """All that follows the first url=, with its own & and ?. Raises InvalidRequest."""
    at = query.find(b"url=")
    url = query[at + 4 :].decode("utf-8", "replace") if at == 0 or query[at - 1 : at] == b"&" else ""
    if url.lower().startswith(("http%3a", "https%3a")):
        url = unquote(url)
    if not url.startswith(("http://", "https://")) or len(url) > _LONGEST:
        issue = f"must be an http(s) address of at most {_LONGEST} characters"
        raise InvalidRequest(f"url {issue}", details=[{"field": "url", "issue": issue}])
    return url
