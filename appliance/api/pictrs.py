"""pict-rs's external validation (C.4): every upload of a Lemmy instance comes here before it is kept. The status is
all that is read: 2xx keeps it, anything else refuses it, so what cannot be decided is refused too."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.params import PathParameter

from appliance.accounts.keys import Caller
from appliance.api import form, pictures
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import door
from appliance.errors import InvalidRequest

AnyRequest = Request[Caller, Any, Any]
Token = Annotated[str, PathParameter(description="The API key.")]


class Decided(msgspec.Struct, frozen=True):
    job_id: str
    categories: dict[str, bool]


_JOB = "0b6f1c1e-8f5e-4f0e-9a51-3a52f2a8c7d0"
VALIDATE = Entry(
    id="pictrs_validation",
    tag="Fediverse",
    summary="pict-rs: keep this upload?",
    description=(
        "`PICTRS__MEDIA__EXTERNAL_VALIDATION=http://HOST:8000/compat/pictrs/YOUR_API_KEY`: pict-rs sends no header of "
        "its own, so the key stands in the path; give it a key that may do `moderate:image` and nothing else. The body "
        "is the picture. A video is refused too."
    ),
    answer=Answer(200, Decided, "Keep it.", {"keep": {"job_id": _JOB, "categories": {"nsfw": False}}}),
    also=(Answer(406, Decided, "Refuse it.", {"refuse": {"job_id": _JOB, "categories": {"nsfw": True}}}),),
    scope=("moderations:create", "moderate:image"),
    credentials=("path:token",),
    errors=("INVALID_REQUEST", "QUOTA_EXCEEDED", "PAYMENT_REQUIRED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA"),
)


@post("/compat/pictrs/{token:str}", status_code=200, **operation(VALIDATE))
async def pictrs_validation(request: AnyRequest, token: Token) -> Response[Decided]:
    there = door(request)
    most = there.house.settings.media.max_image_mb * 1_000_000
    async with form.media_body(request, most, there.bodies) as content:
        if not content:
            raise InvalidRequest("The body is empty; it must be the picture")
        found = await pictures.screen(request, "pictrs", field="body", content=content)
    return Response(Decided(found.job_id, found.categories), status_code=406 if found.is_prohibited else 200)


ROUTES = [pictrs_validation]
