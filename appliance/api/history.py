"""GET /api/v1/jobs and its export: what was submitted, page by page or all as CSV. B.1 6 and 7 of the contract."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, get
from litestar.openapi.spec import OpenAPIType
from litestar.response import Stream

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import query
from appliance.api.documents import Answer, Entry, Field, Link, operation
from appliance.api.door import Door, door
from appliance.jobs import export, history
from appliance.jobs.export import Place, Span
from appliance.jobs.history import Listed, Wanted
from appliance.jobs.job import JobKind, Status

MOST = 100
_DEFAULT = 50
_FARTHEST = 10**12
_LONGEST_MS = 366 * 86_400_000
_ABREAST = 3  # pieces of one export: two are written while one is sent

_NO_KIND: frozenset[JobKind] = frozenset()
TYPES = {
    **{kind.wire: frozenset({kind}) for kind in history.KINDS},
    "pre": _NO_KIND,  # the seeds' legacy: known, and of no job
    "post": _NO_KIND,
}
DECISIONS = {"pass": False, "reject": True}
STATUSES = {status.value: status for status in Status}


class ListedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job in short. What its key or batch would say is left out when it has none."""

    job_id: str
    type: str
    status: str
    is_prohibited: bool | None
    created_at: str
    completed_at: str | None
    api_key_id: str | msgspec.UnsetType = msgspec.UNSET
    api_key_name: str | msgspec.UnsetType = msgspec.UNSET
    batch_id: str | msgspec.UnsetType = msgspec.UNSET
    batch_key: str | msgspec.UnsetType = msgspec.UNSET


class Jobs(msgspec.Struct, frozen=True):
    jobs: list[ListedJob]
    total: int
    limit: int
    offset: int


_EXAMPLE: dict[str, Any] = {
    "jobs": [
        {
            "job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
            "type": "image",
            "status": "completed",
            "is_prohibited": False,
            "created_at": "2026-05-19T12:00:00.000Z",
            "completed_at": "2026-05-19T12:00:05.000Z",
            "api_key_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
            "api_key_name": "production",
        }
    ],
    "total": 1,
    "limit": 50,
    "offset": 0,
}
_CSV = (
    "job_id,type,status,is_prohibited,created_at,completed_at,prompt,reason,category_ai_adult_general,"
    "category_underage,category_nsfw\r\n"
    "a1b2c3d4-e5f6-7890-abcd-ef1234567890,image,completed,false,2026-05-19T12:00:00.000Z,2026-05-19T12:00:05.000Z,,,"
    "false,false,false\r\n"
)
_FROM = "Submitted at or after this date or time, ISO 8601; UTC where it says no zone."
_TO = "Submitted before this date or time."

LIST = Entry(
    id="list_jobs",
    tag="Jobs",
    summary="List jobs",
    description=(
        "The account's jobs, newest first. `total` counts all that match, on whatever page. Parameters narrow the list "
        "together; `pre` and `post` are known for the sake of older clients and match nothing."
    ),
    answer=Answer(200, Jobs, "A page.", {"page": _EXAMPLE}),
    scope="job:read",
    messages={"INVALID_REQUEST": f"limit must be a whole number from 1 to {MOST}"},
    query=(
        Field("limit", "How many jobs.", kind=OpenAPIType.INTEGER, least=1, most=MOST, default=_DEFAULT),
        Field("offset", "How many to pass over.", kind=OpenAPIType.INTEGER, least=0, most=_FARTHEST, default=0),
        Field("type", "Only this type.", choices=tuple(TYPES)),
        Field("decision", "Only this verdict; a job without one matches neither.", choices=tuple(DECISIONS)),
        Field("status", "Only these, with commas between.", choices=tuple(STATUSES), is_list=True),
        Field("search", "How the job's id begins.", example="a1b2c3"),
        Field("from", _FROM, format="date-time"),
        Field("to", _TO, format="date-time"),
    ),
    links=(Link("get_job", {"job_id": "$response.body#/jobs/0/job_id"}, "The newest of them, in full."),),
)
EXPORT = Entry(
    id="export_jobs",
    tag="Jobs",
    summary="Export jobs as CSV",
    description=(
        "Every job of the range, oldest first, as UTF-8 with a byte order mark, lines ended by CRLF. An empty cell "
        "means that there is nothing: not judged, not finished, or a prompt that is no longer kept. One column "
        "`category_custom_SLUG` follows for each custom category that judged a job in the range, removed ones too. A "
        "prompt or reason that begins with one of `= + - @`, a tab or a carriage return has an apostrophe before it, "
        "so that a spreadsheet does not take it for a formula. A range is at most 366 days."
    ),
    answer=Answer(200, str, "The file.", {"file": _CSV}, "text/csv; charset=utf-8"),
    scope="job:read",
    messages={"INVALID_REQUEST": "to is more than 366 days after from"},
    query=(
        Field("from", _FROM, format="date-time", is_required=True, example="2026-05-01T00:00:00Z"),
        Field("to", _TO, format="date-time", is_required=True, example="2026-06-01T00:00:00Z"),
    ),
    headers={"content-disposition": "`attachment` and a file name of the range."},
)


@get("/api/v1/jobs", **operation(LIST))
async def list_jobs(request: Request[Caller, Any, Any]) -> Jobs:
    limit = query.whole(request, "limit", _DEFAULT, 1, MOST)
    offset = query.whole(request, "offset", 0, 0, _FARTHEST)
    wanted = Wanted(
        kinds=query.one_of(request, "type", TYPES),
        statuses=query.some_of(request, "status", STATUSES),
        is_prohibited=query.one_of(request, "decision", DECISIONS),
        prefix=query.sent(request, "search") or "",
        since=query.moment(request, "from"),
        until=query.moment(request, "to"),
    )
    page = await asyncio.to_thread(_page, door(request), request.user.org_id, wanted, limit, offset)
    return Jobs([_listed(job) for job in page.jobs], page.total, limit, offset)


@get("/api/v1/jobs/export", media_type="text/csv", **operation(EXPORT))
async def export_jobs(request: Request[Caller, Any, Any]) -> Stream:
    since, until = query.moment(request, "from"), query.moment(request, "to")
    if since is None:
        raise query.refused("from", "is required: a date or a time as ISO 8601")
    if until is None:
        raise query.refused("to", "is required: a date or a time as ISO 8601")
    if since >= until:
        raise query.refused("to", "must be after from")
    if until - since > _LONGEST_MS:
        raise query.refused("to", "is more than 366 days after from")
    return Stream(
        _lines(door(request), request.user.org_id, since, until),
        media_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="jobs_{_in_a_name(since)}_{_in_a_name(until)}.csv"',
            "Cache-Control": "no-store",
        },
    )


ROUTES = [list_jobs, export_jobs]


def _page(there: Door, org_id: str, wanted: Wanted, limit: int, offset: int) -> history.Page:
    return history.page(there.house.db.reader(), org_id, wanted, limit, offset)


async def _lines(there: Door, org_id: str, since: int, until: int) -> AsyncGenerator[bytes]:
    """The file in pieces. While one is on its way the next are written, two at a time; a client that hangs up costs
    those at most."""
    loop = asyncio.get_running_loop()
    expose_reasons = there.house.settings.jobs.expose_reasons

    def reach(place: Place) -> tuple[Span, Place | None]:
        return export.reach(there.house.db.reader(), org_id, place, until)

    def write(span: Span) -> bytes:
        return export.lines(there.house.db.reader(), custom, span, expose_reasons=expose_reasons)

    custom = await asyncio.to_thread(lambda: export.slugs(there.house.db.reader(), org_id, since, until))
    yield export.header(custom)
    place: Place | None = export.beginning(since)
    writing: deque[asyncio.Future[bytes]] = deque()
    try:
        while place is not None or writing:
            while place is not None and len(writing) < _ABREAST:
                span, place = await loop.run_in_executor(there.exports, reach, place)
                writing.append(loop.run_in_executor(there.exports, write, span))
            if lines := await writing.popleft():
                yield lines
    finally:
        for piece in writing:
            piece.cancel()


def _listed(job: Listed) -> ListedJob:
    return ListedJob(
        job_id=job.id,
        type=job.kind.wire,
        status=job.status.value,
        is_prohibited=job.is_prohibited,
        created_at=clock.rfc3339(job.created_at),
        completed_at=None if job.completed_at is None else clock.rfc3339(job.completed_at),
        api_key_id=job.key_id or msgspec.UNSET,
        api_key_name=job.key_name or msgspec.UNSET,
        batch_id=job.batch_id or msgspec.UNSET,
        batch_key=job.batch_key or msgspec.UNSET,
    )


def _in_a_name(ms: int) -> str:
    """2026-05-01, or with its time when it is not midnight: 2026-05-01T123000Z."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{at:%Y-%m-%d}" if ms % 86_400_000 == 0 else f"{at:%Y-%m-%dT%H%M%SZ}"
