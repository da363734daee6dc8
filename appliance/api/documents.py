"""How the routes are guarded and documented: what is said of each beside what its handler's signature says.

An `Entry` stands for one route; `operation` turns it into the decorator's arguments. Bodies are written here because
a submission may be multipart, urlencoded or JSON alike, which no signature can say.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from appliance.api.auth import recognised


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """Every error, on every route."""

    error: str
    message: str
    statusCode: int
    request_id: str
    details: list[dict[str, str]] | None = None


class Answer(msgspec.Struct, frozen=True):
    status: int
    type: Any
    description: str
    examples: dict[str, Any] = {}
    media_type: str = "application/json"


class Field(msgspec.Struct, frozen=True):
    name: str
    description: str
    is_required: bool = False
    is_file: bool = False
    kind: OpenAPIType = OpenAPIType.STRING
    longest: int | None = None


class Entry(msgspec.Struct, frozen=True):
    id: str
    tag: str
    summary: str
    description: str
    answer: Answer
    scope: str | None = None
    """What the key must be allowed to do; None = any valid key."""
    also: tuple[Answer, ...] = ()
    """Other answers that are no errors of the envelope."""
    errors: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    examples: dict[str, Any] = {}
    """Of the request body, as JSON."""
    is_json_only: bool = False
    is_open: bool = False
    """No key is needed."""


@dataclass
class _Shown(Example):
    """An example shown as it is: the framework's would lose its nulls, and carry the name that it stands under."""

    def to_schema(self) -> dict[str, Any]:
        return {"summary": self.summary, "value": self.value}


ERRORS = {
    "INVALID_REQUEST": (400, "prompt must not be empty"),
    "UNAUTHORIZED": (401, "Invalid API key"),
    "FORBIDDEN": (403, "Organization disabled"),
    "ACCOUNT_TERMINATED": (403, "This account has been terminated; contact the operator of this service"),
    "JOB_NOT_FOUND": (404, "Job not found"),
    "PAYLOAD_TOO_LARGE": (413, "image_file is over 10 MB"),
    "UNSUPPORTED_MEDIA": (415, "Send multipart/form-data, application/x-www-form-urlencoded or application/json"),
    "INTERNAL_ERROR": (500, "Something failed on this side; the operator finds it in the log under this request_id"),
    "SERVICE_UNAVAILABLE": (
        503,
        "Too many jobs are waiting (server.max_pending_jobs); nothing was accepted. Try again",
    ),
}
"""Code → status and an example of its message."""

_KEYED = ("UNAUTHORIZED", "FORBIDDEN", "ACCOUNT_TERMINATED", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE")
SUBMISSION = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_REASON = {
    400: "The request is not valid.",
    401: "The key is missing, malformed, unknown, revoked or expired. `WWW-Authenticate: Bearer`.",
    403: "The key lacks the scope, or its account was closed.",
    404: "There is no such job in this account.",
    413: "The body, the file or a field is too large.",
    415: "The body is of a type that is not read here.",
    500: "A fault of this side.",
    503: "Not now: the database, the disk, the queue or the models. `Retry-After` says when to try again.",
}


def operation(entry: Entry) -> dict[str, Any]:
    """The arguments of a route's decorator: its guard and scope, and what the document says of it, from one source."""
    scope = f" Scope: `{entry.scope}`." if entry.scope else ""
    responses = {answer.status: _response(answer) for answer in (entry.answer, *entry.also)}
    responses |= _refusals(entry.errors if entry.is_open else (*entry.errors, *_KEYED), entry.scope)
    return {
        "guards": [] if entry.is_open else [recognised],
        "opt": {"scope": entry.scope},
        "operation_id": entry.id,
        "tags": [entry.tag],
        "summary": entry.summary,
        "description": entry.description + scope,
        "responses": responses,
        "operation_class": _operation_with(entry),
        "security": [{}] if entry.is_open else [{"bearer": []}],
    }


def _response(answer: Answer) -> ResponseSpec:
    return ResponseSpec(
        data_container=answer.type,
        description=answer.description,
        media_type=answer.media_type,
        generate_examples=False,
        examples=[_Shown(id=name, summary=name, value=value) for name, value in answer.examples.items()] or None,
    )


def _refusals(codes: tuple[str, ...], scope: str | None) -> dict[int, ResponseSpec]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(ERRORS[code][0], []).append(code)
    return {
        status: ResponseSpec(
            data_container=ErrorBody,
            description=_REASON[status],
            generate_examples=False,
            examples=[
                _Shown(
                    id=code,
                    summary=code,
                    value={
                        "error": code,
                        "message": _message(code, scope),
                        "statusCode": status,
                        "request_id": "req_0b6f1c1e-8f5e-4f0e-9a51-3a52f2a8c7d0",
                    },
                )
                for code in found
            ],
        )
        for status, found in sorted(by_status.items())
    }


def _message(code: str, scope: str | None) -> str:
    if code != "FORBIDDEN":
        return ERRORS[code][1]
    return f"Missing required scope: {scope}" if scope else ERRORS[code][1]


def _operation_with(entry: Entry) -> type[Operation]:
    body = _body(entry)

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = body
            if "INVALID_REQUEST" not in entry.errors and self.responses:
                self.responses.pop("400", None)  # the framework's own, in a form that we never answer

    return WithBody


def _body(entry: Entry) -> RequestBody | None:
    if not entry.fields:
        return None
    text = [field for field in entry.fields if not field.is_file]
    examples = {name: _Shown(summary=name, value=value) for name, value in entry.examples.items()}
    content = {"application/json": OpenAPIMediaType(schema=_schema(text, entry), examples={**examples} or None)}
    if not entry.is_json_only:
        content["multipart/form-data"] = OpenAPIMediaType(schema=_schema(list(entry.fields), entry))
        content["application/x-www-form-urlencoded"] = OpenAPIMediaType(schema=_schema(text, entry))
    return RequestBody(content=content, required=True)


def _schema(fields: list[Field], entry: Entry) -> Schema:
    return Schema(
        type=OpenAPIType.OBJECT,
        properties={
            field.name: Schema(
                type=field.kind,
                description=field.description,
                max_length=field.longest,
                content_media_type="application/octet-stream" if field.is_file else None,
            )
            for field in fields
        },
        required=[field.name for field in fields if field.is_required] or None,
    )
