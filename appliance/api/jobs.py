"""GET /api/v1/job/{id}: a job as its owner sees it. B.1 4 of the contract."""

import uuid
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import BodyKwarg, PathParameter

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import Door, door
from appliance.api.shapes import Moment, Uuid
from appliance.categories import BUILT_IN
from appliance.database import Connection
from appliance.errors import JobNotFound
from appliance.jobs import rows
from appliance.jobs.job import JobKind, Status
from appliance.jobs.rows import JobRow

JobType = Annotated[str, BodyKwarg(schema_extra={"enum": ["pre", "post", "prompt", "image", "video"]})]
JobStatus = Annotated[str, BodyKwarg(schema_extra={"enum": [status.value for status in Status]})]


class JobBody(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `reason` is there only when it is prohibited, `error_code` only when it failed. `custom_versions` says in
    which version each custom category was asked."""

    job_id: Uuid
    type: JobType
    status: JobStatus
    is_prohibited: bool | None
    categories: dict[str, Any]
    reason: str | msgspec.UnsetType = msgspec.UNSET
    created_at: Moment
    completed_at: Moment | None
    error_code: str | msgspec.UnsetType = msgspec.UNSET
    api_key_id: Uuid | msgspec.UnsetType = msgspec.UNSET
    api_key_name: str | msgspec.UnsetType = msgspec.UNSET
    batch_id: Uuid | msgspec.UnsetType = msgspec.UNSET
    batch_key: str | msgspec.UnsetType = msgspec.UNSET
    custom_versions: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


_PASSED: dict[str, Any] = {
    "job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "type": "image",
    "status": "completed",
    "is_prohibited": False,
    "categories": {"ai_adult_general": False, "underage": False, "nsfw": False, "custom": {}},
    "created_at": "2026-05-19T12:00:00.000Z",
    "completed_at": "2026-05-19T12:00:05.000Z",
    "api_key_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "api_key_name": "production",
}
_REJECTED: dict[str, Any] = {
    **_PASSED,
    "type": "prompt",
    "is_prohibited": True,
    "categories": {"custom": {}},
    "reason": "The text contained a blacklisted keyword.",
}
_FAILED: dict[str, Any] = {
    **_PASSED,
    "type": "video",
    "status": "failed",
    "is_prohibited": None,
    "categories": {"custom": {}},
    "error_code": "MEDIA_UNREACHABLE",
}

JobId = Annotated[
    str, PathParameter(description="The `job_id` of the submission's answer.", schema_extra={"format": "uuid"})
]

JOB = Entry(
    id="get_job",
    tag="Jobs",
    summary="Get job status",
    description=(
        "The state of a job and, once it is completed, its verdict. `categories` holds the built-in categories that "
        "were judged, and `custom`; a prompt's holds only `custom`. Jobs of other accounts are not found."
    ),
    answer=Answer(200, JobBody, "The job.", {"passed": _PASSED, "rejected": _REJECTED, "failed": _FAILED}),
    scope="job:read",
    errors=("JOB_NOT_FOUND",),
)


@get("/api/v1/job/{job_id:str}", **operation(JOB))
async def get_job(request: Request[Caller, Any, Any], job_id: JobId) -> JobBody:
    there = door(request)
    conn = there.house.db.reader()
    return body(conn, owned(there, request.user.org_id, job_id), there.house.settings.jobs.expose_reasons)


ROUTES = [get_job]


def owned(there: Door, org_id: str, job_id: str) -> JobRow:
    """The organisation's job. Raises JobNotFound for one that is not, is another's, or is no id at all."""
    try:
        canonical = str(uuid.UUID(job_id))
    except ValueError:
        raise JobNotFound(job_id) from None
    job = rows.job_for(there.house.db.reader(), org_id, canonical)
    if job is None:
        raise JobNotFound(job_id)
    return job


def body(conn: Connection, job: JobRow, expose_reasons: bool) -> JobBody:
    failed = job.status is Status.FAILED
    has_reason = bool(job.is_prohibited and job.reason) and (job.kind is JobKind.PROMPT or expose_reasons)
    key_name = _key_name(conn, job.key_id)
    return JobBody(
        job_id=job.id,
        type=job.kind.wire,
        status=job.status.value,
        is_prohibited=None if failed else job.is_prohibited,
        categories={"custom": {}} if failed else _ordered(job.categories),
        created_at=clock.rfc3339(job.created_at),
        completed_at=None if job.completed_at is None else clock.rfc3339(job.completed_at),
        reason=job.reason if has_reason and job.reason else msgspec.UNSET,
        error_code=(job.error_code or "INTERNAL_ERROR") if failed else msgspec.UNSET,
        api_key_id=job.key_id or msgspec.UNSET,
        api_key_name=key_name or msgspec.UNSET,
        batch_id=job.batch_id or msgspec.UNSET,
        batch_key=job.batch_key or msgspec.UNSET,
        custom_versions=job.plan.versions or msgspec.UNSET,
    )


def _ordered(categories: dict[str, object]) -> dict[str, Any]:
    """The seeds' order: the built-ins that were judged, then `custom`, always."""
    ordered = {slug: categories[slug] for slug in BUILT_IN if slug in categories}
    return {**ordered, "custom": categories.get("custom", {})}


def _key_name(conn: Connection, key_id: str | None) -> str | None:
    if key_id is None:
        return None
    row = conn.execute("SELECT name FROM api_key WHERE id = :id", {"id": key_id}).fetchone()
    return None if row is None else str(row["name"])
