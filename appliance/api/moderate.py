"""Submissions: a prompt, an image or a video becomes a job, and the answer is its id. B.1 1 to 3 of the contract."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.status_codes import HTTP_202_ACCEPTED

from appliance.accounts.keys import Caller
from appliance.api import form, idempotency, submission
from appliance.api.documents import SUBMISSION, Answer, Entry, Field, Link, operation
from appliance.api.door import door
from appliance.api.form import Upload
from appliance.api.front import request_id
from appliance.api.idempotency import Asked
from appliance.api.shapes import Uuid
from appliance.database import Connection
from appliance.jobs.advance import FollowUp
from appliance.jobs.job import JobKind, Submission
from appliance.jobs.submit import submit


class Accepted(msgspec.Struct, frozen=True):
    """The job is on disk; it will be worked on whatever happens."""

    job_id: Uuid
    status: str = "queued"


AnyRequest = Request[Caller, Any, Any]

_ANSWER = Answer(
    HTTP_202_ACCEPTED,
    Accepted,
    "The job is accepted, and on disk.",
    {"queued": {"job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890", "status": "queued"}},
)
_WEBHOOK = Field(
    "webhook_url",
    "Where this job's result is sent, instead of the registered webhook: an http or https address.",
    longest=submission.URL_CHARACTERS,
    format="uri",
    is_nullable=True,
    may_be_empty=True,
)
LINKS = (
    Link("get_job", {"job_id": "$response.body#/job_id"}, "Poll it."),
    Link("get_job_progress", {"job_id": "$response.body#/job_id"}, "Follow it."),
)
"""From a submission to its job."""


def _text(name: str) -> Field:
    return Field(
        name,
        f"The text to screen: 1 to {submission.PROMPT_CHARACTERS:,} characters, not only white space.",
        is_required=True,
        shortest=1,
        longest=submission.PROMPT_CHARACTERS,
        pattern=r"\S",
    )


def _media_entry(kind: str, media_types: str, sizes: str) -> Entry:
    return Entry(
        id=f"moderate_{kind}",
        tag="Moderation",
        summary=f"Submit {kind} moderation",
        description=(
            f"Accepts one {kind}: an address, a data: URL or a file. An address must be http or https and must not "
            "lead to a private network, unless media.allowed_private_cidrs names that network. "
            f"{sizes} Poll the job, follow its progress, or receive a webhook."
        ),
        answer=_ANSWER,
        scope=f"moderate:{kind}",
        errors=SUBMISSION,
        has_idempotency=True,
        links=LINKS,
        fields=(
            Field(
                f"{kind}_url",
                f"The {kind}'s address, or a data: URL in base64. This or a file is required.",
                shortest=1,
                format="uri",
            ),
            Field(
                f"{kind}_file",
                f"The {kind} itself. `file` and `{kind}` are read as well.",
                is_file=True,
                media_types=media_types,
            ),
            _WEBHOOK,
        ),
        either=(f"{kind}_url", f"{kind}_file"),
        examples={kind: {f"{kind}_url": f"https://example.com/{'photo.jpg' if kind == 'image' else 'clip.mp4'}"}},
    )


PROMPT = Entry(
    id="moderate_prompt",
    tag="Moderation",
    summary="Submit prompt moderation",
    description=(
        "Screens a text prompt: blocklist, then the prohibition check. The reason of a rejection stands on the "
        "completed job."
    ),
    answer=_ANSWER,
    scope="moderate:prompt",
    errors=SUBMISSION,
    has_idempotency=True,
    links=LINKS,
    fields=(_text("prompt"), _WEBHOOK),
    examples={"prompt": {"prompt": "A watercolour of a lighthouse at dawn"}},
)
TEXT = Entry(
    id="moderate_text",
    tag="Moderation",
    summary="Submit text moderation",
    description="The same as `POST /api/v1/moderate/prompt`, with the field named `text`.",
    answer=_ANSWER,
    scope="moderate:prompt",
    errors=SUBMISSION,
    has_idempotency=True,
    links=LINKS,
    fields=(_text("text"), _WEBHOOK),
    examples={"text": {"text": "A watercolour of a lighthouse at dawn"}},
)
IMAGE = _media_entry(
    "image",
    "image/jpeg, image/png, image/webp, image/gif, image/avif, image/bmp, image/tiff",
    "JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF, up to media.max_image_mb (10 MB).",
)
VIDEO = _media_entry(
    "video",
    "video/mp4, video/webm, video/quicktime, video/x-matroska",
    "MP4, WebM, MOV or MKV, up to media.max_video_mb (300 MB); a data: URL up to 10 MB.",
)


def _route(path: str, entry: Entry) -> Any:
    return post(path, status_code=HTTP_202_ACCEPTED, **operation(entry))


@_route("/api/v1/moderate/prompt", PROMPT)
async def moderate_prompt(request: AnyRequest) -> Response[Accepted]:
    return await _take_text(request, "prompt")


@_route("/api/v1/moderate/text", TEXT)
async def moderate_text(request: AnyRequest) -> Response[Accepted]:
    return await _take_text(request, "text")


@_route("/api/v1/moderate/image", IMAGE)
async def moderate_image(request: AnyRequest) -> Response[Accepted]:
    return await _take_media(request, JobKind.IMAGE)


@_route("/api/v1/moderate/video", VIDEO)
async def moderate_video(request: AnyRequest) -> Response[Accepted]:
    return await _take_media(request, JobKind.VIDEO)


ROUTES = [moderate_prompt, moderate_text, moderate_image, moderate_video]


async def _take_text(request: AnyRequest, field: str) -> Response[Accepted]:
    there = door(request)
    submission.check_disk(there)
    async with (
        form.received(request, submission.PROMPT_RULES, there.bodies) as given,
        idempotency.asked(request, given.fields) as asked,
    ):
        if asked.answer is not None:
            return asked.answer
        text = submission.the_text(given, field)
        webhook_url = await submission.the_webhook(there, given)
        return await _accept(request, asked, JobKind.PROMPT, text=text, webhook_url=webhook_url)


async def _take_media(request: AnyRequest, kind: JobKind) -> Response[Accepted]:
    there = door(request)
    submission.check_disk(there)
    if "idempotency-key" not in request.headers:  # a repetition of what was accepted is answered at any balance
        submission.check_balance(there, request.user.org_id)
    rules = submission.media_rules(there.house.settings, kind)
    async with (
        form.received(request, rules, there.bodies) as given,
        idempotency.asked(request, given.fields, given.file_digest) as asked,
    ):
        if asked.answer is not None:
            return asked.answer
        url, upload = await submission.the_media(there, given, rules, kind)
        webhook_url = await submission.the_webhook(there, given)
        return await _accept(request, asked, kind, url=url, upload=upload, webhook_url=webhook_url)


async def _accept(
    request: AnyRequest,
    asked: Asked,
    kind: JobKind,
    *,
    text: str | None = None,
    url: str | None = None,
    upload: Upload | None = None,
    webhook_url: str | None = None,
) -> Response[Accepted]:
    """One transaction, on disk as this returns; then whoever has to work is woken."""
    there = door(request)
    caller = request.user
    made = Submission(
        kind,
        text=text,
        url=url,
        path=upload.path.name if upload else None,
        webhook_url=webhook_url,
        request_id=request_id(request.scope),
    )
    to_follow: list[FollowUp] = []  # stays empty when another process was first with the same key

    def change(conn: Connection) -> Accepted:
        follow_up = submit(conn, there.house, caller.org_id, caller.key_id, made)
        to_follow.append(follow_up)
        if upload is not None:
            # here, not below: a caller who hangs up now must not take the file away. A job that has closed needs none
            upload.is_adopted = not follow_up.is_closed
        return Accepted(follow_up.job_id)

    try:
        answer = await asked.done(change)
    except Exception:
        if upload is not None:
            upload.is_adopted = False
        raise
    for follow_up in to_follow:
        there.wakers.follow(follow_up, kind)
    return answer
