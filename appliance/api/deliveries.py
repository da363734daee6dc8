"""What is sent to a webhook, in the words of the document: the body, the headers, and what an answer does. B.1.1."""

from typing import Any, Literal

import msgspec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Schema,
)

from appliance.api import shapes
from appliance.api.refusals import Shown


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A job that ended. `reason` is there only when it is prohibited, `error_code` only when it failed."""

    job_id: str
    status: Literal["completed", "failed"]
    is_prohibited: bool | None
    categories: dict[str, Any]
    reason: str | msgspec.UnsetType = msgspec.UNSET
    error_code: str | msgspec.UnsetType = msgspec.UNSET
    completed_at: str
    type: Literal["prompt", "image", "video"] | msgspec.UnsetType = msgspec.UNSET
    delivery_id: str


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    job_id: str
    status: Literal["completed", "failed"]
    is_prohibited: bool | None
    categories: dict[str, Any]
    reason: str | msgspec.UnsetType = msgspec.UNSET
    error_code: str | msgspec.UnsetType = msgspec.UNSET
    completed_at: str


class BatchNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A batch whose last job ended."""

    batch_id: str
    status: Literal["completed"]
    items: list[BatchItem]
    completed_at: str
    type: Literal["text_batch"]
    delivery_id: str


REJECTED: dict[str, Any] = {
    "job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "status": "completed",
    "is_prohibited": True,
    "categories": {"custom": {}},
    "reason": "The text contained a blacklisted keyword.",
    "completed_at": "2026-05-19T12:00:01.500Z",
    "type": "prompt",
    "delivery_id": "wh_a1b2c3d4-e5f6-7890-abcd-ef1234567890",
}
PASSED: dict[str, Any] = {
    "job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "status": "completed",
    "is_prohibited": False,
    "categories": {"ai_adult_general": False, "underage": False, "nsfw": False, "custom": {}},
    "completed_at": "2026-05-19T12:00:05.000Z",
    "type": "image",
    "delivery_id": "wh_a1b2c3d4-e5f6-7890-abcd-ef1234567890",
}
FAILED: dict[str, Any] = {
    "job_id": "b2c3d4e5-f6a7-8901-bcde-f12345678901",
    "status": "failed",
    "is_prohibited": None,
    "categories": {"custom": {}},
    "error_code": "MEDIA_UNREACHABLE",
    "completed_at": "2026-05-19T12:05:30.000Z",
    "type": "video",
    "delivery_id": "wh_b2c3d4e5-f6a7-8901-bcde-f12345678901",
}
BATCH: dict[str, Any] = {
    "batch_id": "c3d4e5f6-a7b8-4012-8def-123456789012",
    "status": "completed",
    "items": [{"key": "caption-1", **{name: REJECTED[name] for name in list(REJECTED)[:6]}}],
    "completed_at": "2026-05-19T12:00:02.000Z",
    "type": "text_batch",
    "delivery_id": "wh_c3d4e5f6-a7b8-4012-8def-123456789012",
}

_HEADERS = {
    "webhook-id": "The delivery: the same at every attempt, so that a repeat can be told. It is `delivery_id`.",
    "webhook-timestamp": "Seconds since 1970, at this attempt. Refuse what is older than five minutes.",
    "webhook-signature": "`v1,` and a signature (Standard Webhooks); two of them for a day after a rotation.",
}


def documented() -> dict[str, PathItem | Reference]:
    """For the document's `webhooks`."""
    return {
        "job": _sent(
            "job_notice",
            "A job ended",
            "Sent once a job is completed, and for a failed one when `webhooks.send_failed` is on. Anything but a 2xx "
            "within ten seconds is tried again for about five hours; 410 ends it and disables the address.",
            Notice,
            {"rejected": REJECTED, "passed": PASSED, "failed": FAILED},
        ),
        "text_batch": _sent(
            "batch_notice",
            "A batch ended",
            "Sent once the last job of a batch has ended: every job's result under its key, failed ones too.",
            BatchNotice,
            {"batch": BATCH},
        ),
    }


def _sent(name: str, summary: str, description: str, body: type, examples: dict[str, dict[str, Any]]) -> PathItem:
    return PathItem(
        post=Operation(
            operation_id=name,
            tags=["Deliveries"],
            summary=summary,
            description=description,
            parameters=[
                Parameter(name=header, param_in="header", description=text, schema=Schema(type=OpenAPIType.STRING))
                for header, text in _HEADERS.items()
            ],
            request_body=RequestBody(
                content={
                    "application/json": OpenAPIMediaType(
                        schema=shapes.of_type(body),
                        examples={one: Shown(summary=one, value=value) for one, value in examples.items()},
                    )
                },
                required=True,
            ),
            responses={"2XX": OpenAPIResponse(description="It has arrived.")},
        )
    )
