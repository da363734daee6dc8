"""The body of a delivery, key for key as the seeds show it; what is ours comes last. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from appliance import clock
from appliance.categories import BUILT_IN


class ClosedJob(Protocol):
    """What a webhook needs of a job that has closed. jobs/ stands above this floor, so it is not named here."""

    @property
    def id(self) -> str: ...
    @property
    def org_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def status(self) -> str:
        """completed or failed."""
        ...

    @property
    def webhook_url(self) -> str | None: ...
    @property
    def is_prohibited(self) -> bool | None: ...
    @property
    def categories(self) -> Mapping[str, object]:
        """As `GET job` answers it: the built-ins that were judged, and `custom`."""
        ...

    @property
    def reason(self) -> str | None: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def completed_at(self) -> int | None: ...

    @property
    def batch_key(self) -> str | None:
        """What its caller named it, when it was submitted with others."""
        ...


class ClosedBatch(Protocol):
    """Texts that were submitted together, once the last of their jobs has closed."""

    @property
    def id(self) -> str: ...
    @property
    def org_id(self) -> str: ...
    @property
    def webhook_url(self) -> str | None: ...
    @property
    def jobs(self) -> Sequence[ClosedJob]:
        """As they were submitted."""
        ...


def delivery_id(subject_id: str) -> str:
    """Of a job or a batch: the same at every attempt, so that a receiver can tell a repeat."""
    return f"wh_{subject_id}"


def body(job: ClosedJob, now: int, *, include_type: bool, expose_reasons: bool) -> str:
    """The JSON text that is signed, sent and kept: one rendering for all attempts. `now` stands in for a job that
    does not say when it closed."""
    document = _result(job, now, expose_reasons)
    if include_type:
        document["type"] = _wire_kind(job.kind)
    document["delivery_id"] = delivery_id(job.id)
    return _rendered(document)


def batch_body(batch: ClosedBatch, now: int, *, expose_reasons: bool) -> str:
    """The one notice of a batch: every job's result under its key. A failed one is told here whatever `send_failed`
    says, because a list that leaves it out would read as if it had not been submitted."""
    document: dict[str, Any] = {
        "batch_id": batch.id,
        "status": "completed",
        "items": [{"key": job.batch_key, **_result(job, now, expose_reasons)} for job in batch.jobs],
        "completed_at": clock.rfc3339(now),
        "type": "text_batch",
        "delivery_id": delivery_id(batch.id),
    }
    return _rendered(document)


class Told(msgspec.Struct, frozen=True):
    """What a body says without anybody's words: for who looks after deliveries, not into them."""

    status: str
    is_prohibited: bool | None
    true: tuple[str, ...]
    """The built-in categories and the slugs of the custom ones that were found."""
    error_code: str | None
    kind: str | None
    items: int
    """Of a batch; 0 for one job."""
    prohibited: int
    """Of those."""
    size_bytes: int


def told(body: str) -> Told:
    """Never the reason: it can quote."""
    said: dict[str, Any] = json.loads(body)
    items: list[dict[str, Any]] = said.get("items", [])
    categories: dict[str, Any] = said.get("categories", {})
    custom: dict[str, Any] = categories.get("custom", {})
    return Told(
        status=said["status"],
        is_prohibited=any(one["is_prohibited"] for one in items) if items else said.get("is_prohibited"),
        true=tuple(slug for slug, found in {**categories, **custom}.items() if found is True),
        error_code=said.get("error_code"),
        kind=said.get("type"),
        items=len(items),
        prohibited=sum(one["is_prohibited"] is True for one in items),
        size_bytes=len(body.encode()),
    )


def is_failed(job: ClosedJob) -> bool:
    return job.status == "failed"


def reason_is_told(job: ClosedJob, expose_reasons: bool) -> bool:
    """The seeds give a reason for prompts that are prohibited; for pictures only the operator's setting does."""
    if is_failed(job) or not job.is_prohibited or not job.reason:
        return False
    return _wire_kind(job.kind) == "prompt" or expose_reasons


def _result(job: ClosedJob, now: int, expose_reasons: bool) -> dict[str, Any]:
    """The seeds' members in the seeds' order."""
    failed = is_failed(job)
    document: dict[str, Any] = {
        "job_id": job.id,
        "status": job.status,
        # A failed job has no verdict, whatever its children had found by then: null, never false.
        "is_prohibited": None if failed else job.is_prohibited,
        "categories": {"custom": {}} if failed else _ordered(job.categories),
    }
    if reason_is_told(job, expose_reasons):
        document["reason"] = job.reason
    if failed:
        document["error_code"] = job.error_code or "INTERNAL_ERROR"
    document["completed_at"] = clock.rfc3339(now if job.completed_at is None else job.completed_at)
    return document


def _rendered(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _wire_kind(kind: str) -> str:
    """IMAGE_MODERATION → image."""
    return kind.removesuffix("_MODERATION").lower()


def _ordered(categories: Mapping[str, object]) -> dict[str, object]:
    """The seeds' order: the built-ins that were judged, then `custom`, always."""
    ordered = {slug: categories[slug] for slug in BUILT_IN if slug in categories}
    return {**ordered, "custom": categories.get("custom", {})}
