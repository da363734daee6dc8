"""The body of a delivery, key for key as the seeds show it; what is ours comes last. Pure."""

import json
from typing import Any

import msgspec

from appliance import clock
from appliance.categories import BUILT_IN
from appliance.database import Row
from appliance.jobs.job import JobKind, Status


class Closed(msgspec.Struct, frozen=True):
    """What a delivery says of a job, once it has closed."""

    job_id: str
    kind: JobKind
    status: Status
    is_prohibited: bool | None
    categories: dict[str, Any]
    """As `GET job` answers it: built-ins that were judged, and `custom`."""
    reason: str | None
    error_code: str | None
    completed_at: int


def closed(row: Row) -> Closed:
    """From the row of a job that has closed."""
    return Closed(
        job_id=row["id"],
        kind=JobKind(row["kind"]),
        status=Status(row["status"]),
        is_prohibited=None if row["is_prohibited"] is None else bool(row["is_prohibited"]),
        categories=msgspec.json.decode(row["categories"] or "{}", type=dict[str, Any]),
        reason=row["reason"],
        error_code=row["error_code"],
        completed_at=row["completed_at"],
    )


def delivery_id(job_id: str) -> str:
    """The same at every attempt, so that a receiver can tell a repeat."""
    return f"wh_{job_id}"


def body(job: Closed, *, include_type: bool, expose_reasons: bool) -> str:
    """The JSON text that is signed, sent and kept: one rendering for all attempts."""
    failed = job.status is Status.FAILED
    document: dict[str, Any] = {
        "job_id": job.job_id,
        "status": job.status.value,
        # A failed job has no verdict, whatever its children had found by then: null, never false.
        "is_prohibited": None if failed else job.is_prohibited,
        "categories": {"custom": {}} if failed else _ordered(job.categories),
    }
    if reason_is_told(job, expose_reasons):
        document["reason"] = job.reason
    if failed:
        document["error_code"] = job.error_code or "INTERNAL_ERROR"
    document["completed_at"] = clock.rfc3339(job.completed_at)
    if include_type:
        document["type"] = job.kind.wire
    document["delivery_id"] = delivery_id(job.job_id)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def reason_is_told(job: Closed, expose_reasons: bool) -> bool:
    """The seeds give a reason for prompts that are prohibited; for pictures only the operator's setting does."""
    if job.status is Status.FAILED or not job.is_prohibited or not job.reason:
        return False
    return job.kind is JobKind.PROMPT or expose_reasons


def _ordered(categories: dict[str, Any]) -> dict[str, Any]:
    """The seeds' order: the built-ins that were judged, then `custom`, always."""
    ordered = {slug: categories[slug] for slug in BUILT_IN if slug in categories}
    return {**ordered, "custom": categories.get("custom", {})}
