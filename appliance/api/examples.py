"""POST /api/v1/me/custom-categories/try and …/{id}/try: a question put to one picture or text, before it is asked of
everything. The later generation has no such route."""

from typing import Any

import msgspec
from litestar import Request, post

from appliance.accounts import custom
from appliance.accounts.keys import Caller
from appliance.api import form, submission
from appliance.api.custom import BODY, PATH, PROMPT, SCOPE, UNKNOWN, CategoryId
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.form import Form
from appliance.errors import InvalidRequest
from appliance.jobs.job import JobKind

AnyRequest = Request[Caller, Any, Any]


class TrialBody(msgspec.Struct, frozen=True):
    """What the judge says of the example: prohibited when the score reaches the threshold."""

    is_prohibited: bool
    score: float
    threshold: float
    model: str
    digest: str
    device: str
    ms: float


_TRIAL: dict[str, Any] = {
    "is_prohibited": True,
    "score": 0.93,
    "threshold": custom.THRESHOLD,
    "model": "smolvlm2-500m",
    "digest": "1f0e9a7d2c3b",
    "device": "cuda:0",
    "ms": 84.2,
}
_EXAMPLE = (
    Field("image_url", "A picture's address, or a data: URL in base64.", is_nullable=True),
    Field("image_file", "A picture. `file` and `image` are read as well.", is_file=True),
    Field("input", "A text, instead of a picture.", longest=submission.PROMPT_CHARACTERS, is_nullable=True),
)
_TRIED = Answer(200, TrialBody, "What the judge says of it.", {"prohibited": _TRIAL})
_HOW = (
    "Answered at once, by the judge that jobs are asked of; nothing is kept, charged or counted as a job. When the "
    "judge cannot be asked the answer is 503, never one that reads as allowed."
)
_ERRORS = (*BODY, "MEDIA_UNREACHABLE")

TRY_NEW = Entry(
    id="try_custom_question",
    tag="Account",
    summary="Try a question on an example",
    description=f"What a category with this question would say of one picture or text. {_HOW}",
    answer=_TRIED,
    scope=SCOPE,
    errors=_ERRORS,
    fields=(msgspec.structs.replace(PROMPT, is_required=True), *_EXAMPLE),
    examples={
        "picture": {"system_prompt": "Is there a dog in the picture?", "image_url": "https://example.com/photo.jpg"},
        "text": {"system_prompt": "Is this about a dog?", "input": "A walk in the park"},
    },
)
TRY = Entry(
    id="try_custom_category",
    tag="Account",
    summary="Try a custom category on an example",
    description=(
        "What this category says of one picture or text, whether it is enabled or not; with a `system_prompt`, what it "
        f"would say in those words. {_HOW}"
    ),
    answer=_TRIED,
    scope=SCOPE,
    errors=(*_ERRORS, "NOT_FOUND"),
    messages=UNKNOWN,
    fields=(msgspec.structs.replace(PROMPT, is_nullable=True), *_EXAMPLE),
    examples={"picture": {"image_url": "https://example.com/photo.jpg"}},
)


@post(f"{PATH}/try", status_code=200, **operation(TRY_NEW))
async def try_custom_question(request: AnyRequest) -> TrialBody:
    return await _try(request, None)


@post(f"{PATH}/{{category_id:str}}/try", status_code=200, **operation(TRY))
async def try_custom_category(request: AnyRequest, category_id: CategoryId) -> TrialBody:
    return await _try(request, custom.find(door(request).house.db.reader(), request.user.org_id, category_id).question)


ROUTES = [try_custom_question, try_custom_category]


async def _try(request: AnyRequest, question: str | None) -> TrialBody:
    there = door(request)
    rules = submission.media_rules(there.house.settings, JobKind.IMAGE)
    async with form.received(request, rules, there.bodies) as given:
        question = given.fields.get("system_prompt", question)
        if question is None:
            raise submission.refused("system_prompt", "is required")
        if not 1 <= len(question.strip()) <= custom.LONGEST_QUESTION:
            raise submission.refused("system_prompt", f"must have 1 to {custom.LONGEST_QUESTION:,} characters")
        if given.upload is None and not given.fields.keys() & {"image_url", "image", "input"}:
            raise InvalidRequest(
                "image_url, image_file or input is required; send a text as input",
                details=[{"field": "image_url", "issue": "is required, or image_file or input"}],
            )
        if "input" in given.fields:
            tried = await there.trials.of_text(question.strip(), _text(given))
        else:
            url, upload = await submission.the_media(there, given, rules, JobKind.IMAGE)
            path = upload.path if upload else None
            field = upload.field if upload else "image_url"
            tried = await there.trials.of_picture(question.strip(), field, path=path, url=url or "")
    return TrialBody(**msgspec.structs.asdict(tried))


def _text(given: Form) -> str:
    if given.upload is not None or "image_url" in given.fields or "image" in given.fields:
        raise submission.refused("input", "and a picture are both given; send one of them")
    return submission.the_text(given, "input")
