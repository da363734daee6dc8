"""Moderation events as they are shown, and GET /v1/events…, where a tenant reads its own. Never a text: hashes, scores,
entries of our lists."""

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import omnimod, query
from appliance.api.documents import Answer, Entry, Field
from appliance.api.door import Door, door
from appliance.api.mirror import mirrored
from appliance.api.shapes import Moment, Uuid
from appliance.moderations import events
from appliance.moderations.decision import DECISIONS
from appliance.moderations.events import Event, Filter
from appliance.policies import rows as policies

AnyRequest = Request[Any, Any, Any]


class ListedPolicyBody(msgspec.Struct, frozen=True):
    id: Uuid
    version_id: Uuid
    version: int


class EventBody(msgspec.Struct, frozen=True):
    """An event in short."""

    id: str
    request_id: str
    decision: str
    engine_action: str
    severity: str
    modality: str
    language: str
    origin: str
    policy: ListedPolicyBody
    content_hash: str
    external_id: str | None
    api_key_id: Uuid | None
    job_id: Uuid | None
    created_at: Moment


class EventsBody(msgspec.Struct, frozen=True):
    events: list[EventBody]
    next_cursor: str | None


class DetailBody(omnimod.Body, frozen=True, kw_only=True):
    """The answer as it was given, and where it came from."""

    api_key_id: Uuid | None
    origin: str
    metadata: dict[str, str]
    job_id: Uuid | None


_POLICY = {
    "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "version_id": "5f0c2a52-9b1d-4a8e-8f52-7b1d3f0a6c11",
    "version": 3,
}
_HASH = "sha256:9f2c5a7e1b3d4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
_KEY = "3f0c6f5e-8c1f-4a4c-9a3c-3b6a4e2d9f11"
_EVENT: dict[str, Any] = {
    "id": "mev_01JTVZ3E9M6Q2H8K4T7W5X1Y0Z",
    "request_id": "req_0b6f1c1e-8f5e-4f0e-9a51-3a52f2a8c7d0",
    "decision": "flag",
    "engine_action": "review",
    "severity": "high",
    "modality": "text",
    "language": "en",
    "origin": "omnimod",
    "policy": _POLICY,
    "content_hash": _HASH,
    "external_id": "comment-4711",
    "api_key_id": _KEY,
    "job_id": None,
    "created_at": "2026-05-03T05:59:21.000Z",
}
_DETAIL: dict[str, Any] = {
    "id": _EVENT["id"],
    "request_id": _EVENT["request_id"],
    "decision": "flag",
    "engine_action": "review",
    "modality": "text",
    "severity": "critical",
    "scores": {"profanity": 0.0, "spam": 0.91, "pattern_toxicity": 0.0, "url_evasion": 0.0, "language": 0.0},
    "analyzer_results": [
        {
            "analyzer": "spam",
            "score": 0.91,
            "severity": "critical",
            "flagged": True,
            "matched_tokens": ["cheap followers"],
        }
    ],
    "policy": _POLICY,
    "provider": "omnimod-engine",
    "provider_version": "omnimod-engine-v1",
    "provider_status": "complete",
    "degraded_reason": None,
    "routing": {"mode": "rules_only", "reason": "rules_clear"},
    "language": {"detected": "en", "confidence": 1.0},
    "provider_usage": {"text_llm_credits": 0},
    "processing_time_ms": 0.4,
    "created_at": "2026-05-03T05:59:21.000Z",
    "cache": {"status": "miss", "content_hash": _HASH},
    "api_key_id": _KEY,
    "origin": "omnimod",
    "metadata": {"external_id": "comment-4711"},
    "job_id": None,
}

LIST = Entry(
    id="list_events",
    tag="Admin",
    summary="List moderation events",
    description=(
        "What was decided, newest first. `next_cursor` asks for those after the last one shown; it is null at the end, "
        "and knows nothing of the filters. A text is not kept: `content_hash` is the same for the same text under the "
        "same version."
    ),
    answer=Answer(200, EventsBody, "The events.", {"one": {"events": [_EVENT], "next_cursor": None}}),
    errors=("POLICY_NOT_FOUND",),
    query=(
        Field("limit", "How many to answer.", kind=OpenAPIType.INTEGER, least=1, most=100, default=50),
        Field("cursor", "The `next_cursor` of the page before."),
        Field("decision", "Only these.", choices=("allow", "flag", "block")),
        Field("policy", "Of this policy: its id or slug."),
        Field("external_id", "With this `metadata.external_id`."),
        Field("language", "In this language: en, es, …, mixed or unknown."),
        Field("origin", "From this surface: omnimod, openai, perspective, azure, litellm, dify …"),
        Field("from", "From this moment on, ISO 8601.", format="date-time"),
        Field("to", "Before this moment, ISO 8601.", format="date-time"),
    ),
)
READ = Entry(
    id="get_event",
    tag="Admin",
    summary="Inspect a moderation event",
    description=(
        "The answer as it was given, with the key that asked. Events are kept for `retention.moderation_events_days`."
    ),
    answer=Answer(200, DetailBody, "The event.", {"flagged": _DETAIL}),
    errors=("NOT_FOUND",),
    messages={"NOT_FOUND": "There is no such event; see GET /v1/events"},
)

EventId = Annotated[str, PathParameter(description="The `id` of the event: mev_….")]


@get("/v1/events", **mirrored(LIST, id="list_own_events"))
async def list_own_events(request: Request[Caller, Any, Any]) -> EventsBody:
    return await listed(request, request.user.org_id)


@get("/v1/events/{event:str}", **mirrored(READ, id="get_own_event"))
async def get_own_event(request: Request[Caller, Any, Any], event: EventId) -> DetailBody:
    return one(door(request), request.user.org_id, event)


ROUTES = [list_own_events, get_own_event]


async def listed(request: AnyRequest, org_id: str) -> EventsBody:
    """What the query asks for. Raises InvalidRequest or PolicyNotFound."""
    db = door(request).house.db
    limit = query.whole(request, "limit", 50, 1, 100)
    policy = query.sent(request, "policy")
    wanted = Filter(
        decision=query.one_of(request, "decision", {word: word for word in DECISIONS.values()}),
        policy_id=None if policy is None else policies.find(db.reader(), org_id, policy).id,
        external_id=query.sent(request, "external_id"),
        language=query.sent(request, "language"),
        origin=query.sent(request, "origin"),
        since=query.moment(request, "from"),
        until=query.moment(request, "to"),
    )
    cursor = query.sent(request, "cursor")
    found, next_cursor = await asyncio.to_thread(
        lambda: events.page(db.reader(), org_id, wanted, cursor=cursor, limit=limit)
    )
    return EventsBody([_body(event) for event in found], next_cursor)


def one(there: Door, org_id: str, event_id: str) -> DetailBody:
    """Raises NotFound."""
    return detail(events.get(there.house.db.reader(), org_id, event_id))


def detail(found: events.Whole) -> DetailBody:
    answered = omnimod.body(found.verdict)
    return DetailBody(
        **{name: getattr(answered, name) for name in answered.__struct_fields__},
        api_key_id=found.event.key_id,
        origin=found.event.origin,
        metadata=found.metadata,
        job_id=found.event.job_id,
    )


def _body(event: Event) -> EventBody:
    return EventBody(
        id=event.id,
        request_id=event.request_id,
        decision=event.decision,
        engine_action=event.engine_action,
        severity=event.severity,
        modality=event.modality,
        language=event.language,
        origin=event.origin,
        policy=ListedPolicyBody(event.policy_id, event.version_id, event.version),
        content_hash=event.content_hash,
        external_id=event.external_id,
        api_key_id=event.key_id,
        job_id=event.job_id,
        created_at=clock.rfc3339(event.created_at),
    )
