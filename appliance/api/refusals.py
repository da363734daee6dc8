"""Every error that a route may answer: its code, its status, an example of its message, and how it is documented."""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Reference


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """Every error, on every route."""

    error: str
    message: str
    statusCode: int
    request_id: str
    details: list[dict[str, str]] | None = None


@dataclass
class Shown(Example):
    """An example shown as it is: the framework's would lose its nulls, and carry the name that it stands under."""

    def to_schema(self) -> dict[str, Any]:
        return {"summary": self.summary, "value": self.value}


ERRORS = {
    "INVALID_REQUEST": (400, "prompt must not be empty"),
    "BATCH_EMPTY": (400, "items must hold 1 to 99 texts"),
    "BATCH_TOO_LARGE": (400, "items must hold 1 to 99 texts"),
    "DUPLICATE_ITEM_KEY": (400, "items holds a key twice"),
    "TEXT_TOO_LONG": (400, "text is over 20,000 characters"),
    "UNAUTHORIZED": (401, "Invalid API key"),
    "PAYMENT_REQUIRED": (402, "The balance is used up; top it up to go on"),
    "FORBIDDEN": (403, "Organization disabled"),
    "ACCOUNT_TERMINATED": (403, "This account has been terminated; contact the operator of this service"),
    "JOB_NOT_FOUND": (404, "Job not found"),
    "BATCH_NOT_FOUND": (404, "Batch not found"),
    "POLICY_NOT_FOUND": (404, "There is no such policy; see GET /v1/policies"),
    "NOT_FOUND": (404, "There is nothing at this path; see /schema for what there is"),
    "METHOD_NOT_ALLOWED": (405, "This path does not take this method"),
    "CONFLICT": (409, "A request with this Idempotency-Key is still being answered; try again"),
    "PAYLOAD_TOO_LARGE": (413, "image_file is over 10 MB"),
    "UNSUPPORTED_MEDIA": (415, "Send multipart/form-data, application/x-www-form-urlencoded or application/json"),
    "IDEMPOTENCY_KEY_REUSED": (422, "This Idempotency-Key was used with another body"),
    "MEDIA_UNREACHABLE": (422, "image_url cannot be reached"),
    "RATE_LIMITED": (429, "Rate limit exceeded"),
    "QUOTA_EXCEEDED": (429, "Monthly moderation quota exceeded"),
    "INTERNAL_ERROR": (500, "Something failed on this side; the operator finds it in the log under this request_id"),
    "SERVICE_UNAVAILABLE": (
        503,
        "Too many jobs are waiting (server.max_pending_jobs); nothing was accepted. Try again",
    ),
}
"""Code → status and an example of its message."""

REQUEST_ID = "req_0b6f1c1e-8f5e-4f0e-9a51-3a52f2a8c7d0"
"""Of the examples."""

KEYED = ("UNAUTHORIZED", "FORBIDDEN", "ACCOUNT_TERMINATED", "RATE_LIMITED", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE")
"""What any route with a key may answer."""
IDEMPOTENT = ("INVALID_REQUEST", "CONFLICT", "IDEMPOTENCY_KEY_REUSED")
"""What a route that takes an Idempotency-Key may answer besides."""

REASON = {
    400: "The request is not valid.",
    401: "The key is missing, malformed, unknown, revoked or expired.",
    402: "The account's balance is used up, and submissions are charged.",
    403: "The key lacks the scope, or its account was closed.",
    404: "There is no such thing in this account.",
    405: "The path is there, but does not take this method; `Allow` says which it takes.",
    409: "It clashes with what is there, or a request with this Idempotency-Key is still being answered.",
    413: "The body, the file or a field is too large.",
    415: "The body is of a type that is not read here.",
    422: "Understood, but not done: the Idempotency-Key belongs to another request, or an address gives nothing.",
    429: "Too many requests of this account, or failed keys from this address. `Retry-After` says when to try again.",
    500: "A fault of this side.",
    503: "Not now: the database, the disk, the queue or the models. `Retry-After` says when to try again.",
}


def documented(
    codes: tuple[str, ...], scope: str | None = None, messages: dict[str, str] | None = None
) -> dict[int, ResponseSpec]:
    """Status → the answer of the codes that carry it. `messages` has the route's own words for a code."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(ERRORS[code][0], []).append(code)
    return {
        status: ResponseSpec(
            data_container=ErrorBody,
            description=REASON[status],
            generate_examples=False,
            examples=[_example(code, message_of(code, scope, messages or {})) for code in found],
        )
        for status, found in sorted(by_status.items())
    }


def components() -> dict[str, OpenAPIResponse | Reference]:
    """Every code, for the document's own list: what a path that does not exist answers stands nowhere else."""
    body = Reference("#/components/schemas/ErrorBody")
    return {
        code: OpenAPIResponse(
            description=REASON[status],
            content={"application/json": OpenAPIMediaType(schema=body, examples={code: _example(code, message)})},
        )
        for code, (status, message) in ERRORS.items()
    }


def _example(code: str, message: str) -> Shown:
    value = {
        "error": code,
        "message": message,
        "statusCode": ERRORS[code][0],
        "request_id": REQUEST_ID,
    }
    return Shown(id=code, summary=code, value=value)


def message_of(code: str, scope: str | None, messages: dict[str, str]) -> str:
    if code == "FORBIDDEN" and scope:
        return f"Missing required scope: {scope}"
    return messages.get(code, ERRORS[code][1])
