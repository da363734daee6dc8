"""POST and GET /api/v1/moderate/text/batch: texts submitted together, told of together. gen-2 of the contract."""

import asyncio
import re
from collections import Counter
from typing import Annotated, Any, Literal, cast

import msgspec
from litestar import Request, Response, get, post
from litestar.params import PathParameter

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import form, idempotency, jobs, submission
from appliance.api.documents import SUBMISSION, Answer, Entry, Field, Link, operation
from appliance.api.door import Door, door
from appliance.api.front import request_id
from appliance.api.shapes import Moment, Uuid
from appliance.database import Connection
from appliance.errors import BatchEmpty, BatchTooLarge, DuplicateItemKey, TextTooLong
from appliance.jobs import batch
from appliance.jobs.advance import FollowUp
from appliance.jobs.job import JobKind, Status
from appliance.jobs.submit_batch import Item, submit_batch
from appliance.webhooks import endpoints

AnyRequest = Request[Caller, Any, Any]

MOST = 99
BODY_BYTES = 10_000_000
"""99 texts of 20,000 characters of 4 bytes are 7.9 million."""

_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class GivenItem(msgspec.Struct, frozen=True):
    """One text of a batch, under a key of yours."""

    key: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.:-]{1,64}$")]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=submission.PROMPT_CHARACTERS, pattern=r"\S")]


_Items = Annotated[list[GivenItem], msgspec.Meta(min_length=1, max_length=MOST)]


class AcceptedItem(msgspec.Struct, frozen=True):
    key: str
    job_id: Uuid


class AcceptedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Every text is a job on disk; they will be worked on whatever happens."""

    batch_id: Uuid
    status: Literal["processing"] = "processing"
    items: list[AcceptedItem]


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """One text's job. `reason` is there only when it is prohibited, `error_code` only when it failed."""

    key: str
    job_id: Uuid
    status: str
    is_prohibited: bool | None
    categories: dict[str, Any]
    reason: str | msgspec.UnsetType = msgspec.UNSET
    error_code: str | msgspec.UnsetType = msgspec.UNSET
    completed_at: Moment | None


class Counts(msgspec.Struct, frozen=True):
    """`total` is how many were submitted; those that were erased since are in none of the others."""

    total: int
    queued: int
    processing: int
    completed: int
    failed: int
    prohibited: int


class BatchBody(msgspec.Struct, frozen=True):
    batch_id: Uuid
    status: Literal["processing", "completed"]
    counts: Counts
    items: list[BatchItem]
    created_at: Moment
    completed_at: Moment | None


_BATCH_ID = "c7a1f0de-2b7d-4f57-9d0b-5d6c0c1f2a33"
_JOB_ID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
_ITEM: dict[str, Any] = {
    "key": "comment-17",
    "job_id": _JOB_ID,
    "status": "completed",
    "is_prohibited": False,
    "categories": {"custom": {}},
    "completed_at": "2026-05-19T12:00:01.500Z",
}
_BODY: dict[str, Any] = {
    "batch_id": _BATCH_ID,
    "status": "completed",
    "counts": {"total": 1, "queued": 0, "processing": 0, "completed": 1, "failed": 0, "prohibited": 0},
    "items": [_ITEM],
    "created_at": "2026-05-19T12:00:00.000Z",
    "completed_at": "2026-05-19T12:00:01.500Z",
}

SUBMIT = Entry(
    id="moderate_text_batch",
    tag="Moderation",
    summary="Submit a batch of texts",
    description=(
        f"1 to {MOST} texts, each under a key of your own; all are accepted, or none. Every text is a job like any "
        "other, and is charged like one; the batch counts as one request. One webhook of `type` `text_batch` tells of "
        "all, when the last has ended; the jobs send none of their own."
    ),
    answer=Answer(
        202,
        AcceptedBatch,
        "The batch is accepted, and on disk.",
        {
            "accepted": {
                "batch_id": _BATCH_ID,
                "status": "processing",
                "items": [{"key": "comment-17", "job_id": _JOB_ID}],
            }
        },
    ),
    scope="moderate:prompt",
    errors=(*SUBMISSION, "BATCH_EMPTY", "BATCH_TOO_LARGE", "DUPLICATE_ITEM_KEY", "TEXT_TOO_LONG"),
    has_idempotency=True,
    links=(
        Link("get_text_batch", {"batch_id": "$response.body#/batch_id"}, "Poll it."),
        Link("get_job", {"job_id": "$response.body#/items/0/job_id"}, "The first of its jobs."),
    ),
    fields=(
        Field("items", f"1 to {MOST} texts.", is_required=True, shape=_Items),
        Field(
            "webhook_url",
            "Where the batch's result is sent, instead of the registered webhook: an http or https address.",
            longest=submission.URL_CHARACTERS,
            format="uri",
            is_nullable=True,
            may_be_empty=True,
        ),
    ),
    examples={"two": {"items": [{"key": "comment-17", "text": "Hello"}, {"key": "comment-18", "text": "Good day"}]}},
    is_json_only=True,
)
READ = Entry(
    id="get_text_batch",
    tag="Moderation",
    summary="Get a batch of texts",
    description=(
        "The batch and its jobs, as they were submitted. It is completed when every job has ended. Batches of other "
        "accounts are not found."
    ),
    answer=Answer(200, BatchBody, "The batch.", {"completed": _BODY}),
    scope="job:read",
    errors=("BATCH_NOT_FOUND",),
)

_PATH = "/api/v1/moderate/text/batch"

BatchId = Annotated[
    str, PathParameter(description="The `batch_id` of the submission's answer.", schema_extra={"format": "uuid"})
]


@post(_PATH, status_code=202, **operation(SUBMIT))
async def moderate_text_batch(request: AnyRequest) -> Response[AcceptedBatch]:
    there, caller = door(request), request.user
    submission.check_disk(there)
    async with (
        form.long_json_object(request, BODY_BYTES, there.bodies) as (given, digest),
        idempotency.asked(request, {}, digest) as asked,
    ):
        if asked.answer is not None:
            return asked.answer
        texts = parse(given)
        webhook_url = await _webhook(there, given)
        to_follow: list[FollowUp] = []  # stays empty when another process was first with the same key

        def change(conn: Connection) -> AcceptedBatch:
            made = submit_batch(
                conn,
                there.house,
                caller.org_id,
                caller.key_id,
                texts,
                webhook_url=webhook_url,
                request_id=request_id(request.scope),
            )
            to_follow.extend(made.follow_ups)
            items = [AcceptedItem(key, job_id) for key, job_id in made.jobs]
            return AcceptedBatch(batch_id=made.batch_id, items=items)

        answer = await asked.done(change)
    for follow_up in to_follow:
        there.wakers.follow(follow_up, JobKind.PROMPT)
    return answer


@get(f"{_PATH}/{{batch_id:str}}", **operation(READ))
async def get_text_batch(request: AnyRequest, batch_id: BatchId) -> BatchBody:
    return await asyncio.to_thread(_read, door(request), request.user.org_id, batch_id)


ROUTES = [moderate_text_batch, get_text_batch]


def parse(given: dict[str, Any]) -> list[Item]:
    """The texts of a body. Raises InvalidRequest, BatchEmpty, BatchTooLarge, DuplicateItemKey or TextTooLong, naming
    the item by its place."""
    found = given.get("items")
    if found is None:
        raise submission.refused("items", "is required")
    if not isinstance(found, list):
        raise submission.refused("items", "must be a list")
    listed = cast("list[Any]", found)
    if not listed:
        raise BatchEmpty(f"items must hold 1 to {MOST} texts")
    if len(listed) > MOST:
        raise BatchTooLarge(f"items must hold 1 to {MOST} texts; send the rest in another batch")
    items = [_item(place, one) for place, one in enumerate(listed)]
    seen: dict[str, int] = {}
    for place, item in enumerate(items):
        if item.key in seen:
            field = f"items[{place}].key"
            issue = f"is the same as items[{seen[item.key]}].key"
            raise DuplicateItemKey(f"{field} {issue}", details=[{"field": field, "issue": issue}])
        seen[item.key] = place
    return items


def _item(place: int, one: object) -> Item:
    if not isinstance(one, dict):
        raise submission.refused(f"items[{place}]", "must be an object with a key and a text")
    members = cast("dict[str, Any]", one)
    key, text = members.get("key"), members.get("text")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise submission.refused(f"items[{place}].key", "must be 1 to 64 letters, digits or any of _ . : -")
    if not isinstance(text, str):
        raise submission.refused(f"items[{place}].text", "is required" if text is None else "must be a string")
    if not text.strip():
        raise submission.refused(f"items[{place}].text", "must not be empty")
    if len(text) > submission.PROMPT_CHARACTERS:
        field, issue = f"items[{place}].text", f"is over {submission.PROMPT_CHARACTERS:,} characters"
        raise TextTooLong(f"{field} {issue}", details=[{"field": field, "issue": issue}])
    return Item(key, text)


async def _webhook(there: Door, given: dict[str, Any]) -> str | None:
    url = given.get("webhook_url")
    if url is None or url == "":
        return None
    if not isinstance(url, str):
        raise submission.refused("webhook_url", "must be a string")
    endpoints.check_url(url, "webhook_url")
    await submission.check_address(there, "webhook_url", url)
    return url


def _read(there: Door, org_id: str, batch_id: str) -> BatchBody:
    conn = there.house.db.reader()
    found = batch.find(conn, org_id, batch_id)
    bodies = [jobs.body(conn, job, there.house.settings.jobs.expose_reasons) for job in found.jobs]
    states = Counter(job.status for job in found.jobs)
    return BatchBody(
        batch_id=found.id,
        status="completed" if found.is_completed else "processing",
        counts=Counts(
            total=found.total,
            queued=states[Status.QUEUED],
            processing=states[Status.PROCESSING],
            completed=states[Status.COMPLETED],
            failed=states[Status.FAILED],
            prohibited=sum(body.is_prohibited is True for body in bodies),
        ),
        items=[
            BatchItem(
                key=job.batch_key or "",
                job_id=body.job_id,
                status=body.status,
                is_prohibited=body.is_prohibited,
                categories=body.categories,
                reason=body.reason,
                error_code=body.error_code,
                completed_at=body.completed_at,
            )
            for job, body in zip(found.jobs, bodies, strict=True)
        ],
        created_at=clock.rfc3339(found.created_at),
        completed_at=None if found.completed_at is None else clock.rfc3339(found.completed_at),
    )
