"""How the routes are guarded and documented: what is said of each beside what its handler's signature says.

An `Entry` stands for one route; `operation` turns it into the decorator's arguments. Bodies and query parameters are
written here, because a submission may be multipart, urlencoded or JSON alike, which no signature can say.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi import spec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)

from appliance.api import dialects, refusals, shapes
from appliance.api.auth import recognised
from appliance.api.refusals import Shown
from appliance.api.shapes import Field

__all__ = ["SUBMISSION", "Answer", "Entry", "Field", "Link", "operation"]

SUBMISSION = ("INVALID_REQUEST", "PAYMENT_REQUIRED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")


class Answer(msgspec.Struct, frozen=True):
    status: int
    type: Any
    description: str
    examples: dict[str, Any] = {}
    media_type: str = "application/json"


class Link(msgspec.Struct, frozen=True):
    """What can be asked next with what was answered: an OpenAPI link."""

    to: str
    """The other route's `Entry.id`."""
    parameters: dict[str, str] = {}
    """Its parameter → where the value stands: "$response.body#/job_id", "$request.path.id"."""
    description: str = ""
    body: dict[str, Any] | None = None


class Entry(msgspec.Struct, frozen=True):
    id: str
    tag: str
    summary: str
    description: str
    answer: Answer
    scope: str | tuple[str, ...] | None = None
    """What the key must be allowed to do; of several any one; None = any valid key."""
    credentials: tuple[str, ...] = ("bearer",)
    """Where the key is looked for: see auth.BEARER."""
    dialect: str | None = None
    """Whose error bodies it answers with: a name of dialects.DIALECTS; None = ours."""
    also: tuple[Answer, ...] = ()
    """Other answers that are no errors of the envelope."""
    errors: tuple[str, ...] = ()
    """Codes beside those that every route with a key may answer, and those that follow from what stands below."""
    messages: dict[str, str] = {}
    """Code → the example of its message on this route, where the general one would mislead."""
    query: tuple[Field, ...] = ()
    sent: tuple[Field, ...] = ()
    """Headers that it reads."""
    fields: tuple[Field, ...] = ()
    or_fields: tuple[Field, ...] = ()
    """Of another body that the same path takes, as JSON."""
    body: Any = None
    """A type that is the whole body, as JSON: instead of `fields`, where those cannot say it."""
    examples: dict[str, Any] = {}
    """Of the request body, as JSON."""
    either: tuple[str, ...] = ()
    """Fields of which exactly one is given."""
    is_closed: bool = False
    """A member that is not among the fields is refused, where it is passed over elsewhere."""
    is_json_only: bool = False
    is_body_optional: bool = False
    has_idempotency: bool = False
    """It takes an Idempotency-Key."""
    headers: dict[str, str] = {}
    """Of the answer: name → description, beside those that every answer has."""
    links: tuple[Link, ...] = ()
    is_open: bool = False
    """No key is needed."""
    is_for_operators: bool = False
    """It is answered at the operators' socket too, where nobody is counted."""


def operation(entry: Entry) -> dict[str, Any]:
    """The arguments of a route's decorator: its guard and scope, and what the document says of it, from one source."""
    wanted = " or ".join((entry.scope,) if isinstance(entry.scope, str) else entry.scope or ())
    scope = f" Scope: `{wanted}`." if wanted else ""
    responses = {answer.status: _response(answer) for answer in (entry.answer, *entry.also)}
    messages = {**(_JSON_ONLY if entry.is_json_only or entry.body else {}), **entry.messages}
    if entry.dialect is None:
        responses |= refusals.documented(_codes(entry), wanted, messages)
    else:
        responses |= dialects.documented(entry.dialect, _codes(entry), wanted, messages)
    return {
        "guards": [] if entry.is_open else [recognised],
        "opt": {"scope": entry.scope, "credentials": entry.credentials, "dialect": entry.dialect},
        "operation_id": entry.id,
        "tags": [entry.tag],
        "summary": entry.summary,
        "description": entry.description + scope,
        "responses": responses,
        "operation_class": _operation_with(entry),
        "security": [{}] if entry.is_open else [{"bearer": []}],
    }


_JSON_ONLY = {
    "INVALID_REQUEST": "The body must be a JSON object",
    "PAYLOAD_TOO_LARGE": "The request body is too large",
    "UNSUPPORTED_MEDIA": "Send application/json",
}


def _codes(entry: Entry) -> tuple[str, ...]:
    return (
        *(("INVALID_REQUEST",) if entry.query else ()),
        *(("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA") if _body(entry) else ()),
        *entry.errors,
        *(refusals.IDEMPOTENT if entry.has_idempotency else ()),
        *(() if entry.is_open else refusals.KEYED),
    )


def _response(answer: Answer) -> ResponseSpec:
    return ResponseSpec(
        data_container=answer.type,
        description=answer.description,
        media_type=answer.media_type,
        generate_examples=False,
        examples=[Shown(id=name, summary=name, value=value) for name, value in answer.examples.items()] or None,
    )


def _operation_with(entry: Entry) -> type[Operation]:
    body = _body(entry)
    parameters = [
        *(_parameter(field, "query") for field in entry.query),
        *(_parameter(field, "header") for field in entry.sent),
    ]
    if entry.has_idempotency:
        parameters.append(_parameter(_IDEMPOTENCY_KEY, "header"))

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = body
            named = {parameter.name for parameter in parameters}
            # A handler that also takes one as an argument has the framework describe it a second time.
            own = [one for one in self.parameters or [] if isinstance(one, Parameter) and one.name not in named]
            self.parameters = [*own, *parameters] or None
            if "INVALID_REQUEST" not in _codes(entry) and self.responses:
                self.responses.pop("400", None)  # the framework's own, in a form that we never answer
            for status, response in (self.responses or {}).items():
                if isinstance(response, OpenAPIResponse):
                    response.headers = {**_headers(entry, int(status))}
                    if int(status) == entry.answer.status and entry.links:
                        response.links = {link.to: _link(link) for link in entry.links}

    return WithBody


# --- what is sent ----------------------------------------------------------------------------------------------------

_IDEMPOTENCY_KEY = Field(
    "Idempotency-Key",
    "Makes a repetition safe: within 24 hours the same key with the same body answers what was answered the first "
    "time, with `Idempotent-Replayed: true`, and nothing is done again. With another body it is refused.",
    shortest=1,
    longest=255,
    pattern="^[!-~]([ -~]*[!-~])?$",
)


def _parameter(field: Field, place: str) -> Parameter:
    examples = {"example": Shown(summary="example", value=field.example)} if field.example is not None else None
    return Parameter(
        name=field.name,
        param_in=place,
        schema=shapes.of_field(field),
        description=field.description,
        required=field.is_required,
        examples={**examples} if examples else None,
    )


def _body(entry: Entry) -> RequestBody | None:
    if not entry.fields and entry.body is None:
        return None
    text = [field for field in entry.fields if not field.is_file]
    if entry.or_fields:
        # not one_of: neither body is closed, so that many are of both shapes
        schema = Schema(any_of=[shapes.of_fields(text), shapes.of_fields([*entry.or_fields])])
    elif entry.body is None:
        schema = shapes.of_fields(text, entry.either, is_closed=entry.is_closed)
    else:
        schema = shapes.of_type(entry.body)
    examples = {name: Shown(summary=name, value=value) for name, value in entry.examples.items()}
    content = {"application/json": OpenAPIMediaType(schema=schema, examples={**examples} or None)}
    if entry.body is None and not entry.is_json_only:
        # Only JSON has a null.
        written = [msgspec.structs.replace(field, is_nullable=False) for field in entry.fields]
        content["multipart/form-data"] = OpenAPIMediaType(
            schema=shapes.of_fields(written, entry.either),
            encoding={one.name: spec.Encoding(content_type=one.media_types) for one in entry.fields if one.media_types},
        )
        content["application/x-www-form-urlencoded"] = OpenAPIMediaType(
            schema=shapes.of_fields([field for field in written if not field.is_file], entry.either)
        )
    return RequestBody(content=content, required=not entry.is_body_optional)


# --- what comes with an answer ---------------------------------------------------------------------------------------

_WORD = Schema(type=OpenAPIType.STRING)
_COUNT = Schema(type=OpenAPIType.INTEGER, minimum=0)
_SECONDS = Schema(type=OpenAPIType.INTEGER, minimum=1)
_TRUE = Schema(type=OpenAPIType.STRING, enum=["true"])

_RATE = {
    "x-ratelimit-limit": "Requests a minute of the account, all its keys together.",
    "x-ratelimit-remaining": "How many are left now.",
    "x-ratelimit-reset": "Seconds until all are there again.",
}
_UNCOUNTED = (401, 403, 429, 500, 503)
"""Answers that may come before a request is counted."""


def _headers(entry: Entry, status: int) -> dict[str, OpenAPIHeader]:
    headers = {"x-request-id": _header(_WORD, "Yours if you sent one; what the operator searches the log for.", True)}
    if not entry.is_open:
        # Google answers a wrong key, which counts for nobody, with 400
        is_uncounted = status in _UNCOUNTED or (entry.dialect == "perspective" and status == 400)
        is_counted = not is_uncounted and not entry.is_for_operators
        headers |= {name: _header(_COUNT, text, is_counted) for name, text in _RATE.items()}
        if status in (429, 503):
            headers["retry-after"] = _header(_SECONDS, "Seconds after which to try again.", True)
    if status == 401:
        headers["www-authenticate"] = _header(_WORD, "`Bearer`.", True)
    if status == entry.answer.status:
        if entry.has_idempotency:
            told = "This answer was given before, to the first request with this Idempotency-Key."
            headers["Idempotent-Replayed"] = _header(_TRUE, told, False)
        headers |= {name: _header(_WORD, text, True) for name, text in entry.headers.items()}
    return headers


def _header(schema: Schema, description: str, is_required: bool) -> OpenAPIHeader:
    return OpenAPIHeader(schema=schema, description=description, required=is_required)


def _link(link: Link) -> spec.Link:
    return spec.Link(
        operation_id=link.to,
        parameters=link.parameters or None,
        request_body=link.body,
        description=link.description or None,
    )
