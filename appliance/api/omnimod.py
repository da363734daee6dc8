"""OmniMod's answer (seed 004, B.2.1), over the moderator. POST /v1/moderations comes here through moderations.py, which
shares the path with OpenAI; the alias is here."""

from typing import Any

import msgspec
from litestar import Request, Response, post

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import form, idempotency, omnimod_request
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import door
from appliance.api.front import request_id
from appliance.database import Connection
from appliance.moderations.routing import RULED
from appliance.moderations.verdict import Verdict
from appliance.text.analysis import Result
from appliance.text.language import NAMELESS, UNKNOWN

AnyRequest = Request[Caller, Any, Any]


class AnalyzerBody(msgspec.Struct, frozen=True):
    analyzer: str
    score: float
    severity: str
    flagged: bool
    matched_tokens: list[str]


class PolicyBody(msgspec.Struct, frozen=True):
    id: str
    version_id: str
    version: int


class RoutingBody(msgspec.Struct, frozen=True):
    mode: str
    reason: str


class LanguageBody(msgspec.Struct, frozen=True):
    detected: str
    confidence: float


class UsageBody(msgspec.Struct, frozen=True):
    text_llm_credits: int


class CacheBody(msgspec.Struct, frozen=True):
    status: str
    content_hash: str


class Body(msgspec.Struct, frozen=True):
    """The seed's answer, member by member."""

    id: str
    request_id: str
    decision: str
    engine_action: str
    modality: str
    severity: str
    scores: dict[str, float]
    analyzer_results: list[AnalyzerBody]
    policy: PolicyBody
    provider: str
    provider_version: str
    provider_status: str
    degraded_reason: str | None
    routing: RoutingBody
    language: LanguageBody
    provider_usage: UsageBody
    processing_time_ms: float
    created_at: str
    cache: CacheBody


EXAMPLE: dict[str, Any] = {
    "id": "mev_01KAJ6Z8Q4M3T9V5W2X7Y1B0CD",
    "request_id": "req_3f6c2d1a-5b7e-4c8d-9a0b-000000000001",
    "decision": "allow",
    "engine_action": "allow",
    "modality": "text",
    "severity": "none",
    "scores": {"profanity": 0.0, "spam": 0.03, "pattern_toxicity": 0.0, "url_evasion": 0.0, "language": 0.0},
    "analyzer_results": [],
    "policy": {
        "id": "6d0f1a55-5a6e-4d0f-8a43-6f6f0d6f2b11",
        "version_id": "0c0a8f3e-19f2-4f5c-9f0b-7f6f1a6f7d22",
        "version": 3,
    },
    "provider": "omnimod-engine",
    "provider_version": "omnimod-engine-v1",
    "provider_status": "complete",
    "degraded_reason": None,
    "routing": {"mode": "rules_only", "reason": "rules_clear"},
    "language": {"detected": "en", "confidence": 1.0},
    "provider_usage": {"text_llm_credits": 0},
    "processing_time_ms": 4.2,
    "created_at": "2026-05-03T05:59:21.000Z",
    "cache": {"status": "miss", "content_hash": "sha256:" + "4b" * 32},
}

ALIAS = Entry(
    id="create_omnimod_moderation",
    tag="OmniMod",
    summary="Moderate as OmniMod does",
    description=(
        "OmniMod's moderations, without the doubt about whose request it is: the base URL is "
        "`http://HOST:8000/omnimod`. Members that it does not know are passed over. `scores` has every analyzer that "
        "is on; `analyzer_results` those that are flagged or whose severity is above none. `language.detected` is "
        "`en`, `es`, `fr`, `de`, `mixed`, or `unknown`, which any other language is here; the list of events names it."
    ),
    answer=Answer(200, Body, "The decision.", {"allowed": EXAMPLE}),
    scope=("moderations:create", "moderate:prompt"),
    dialect="omnimod",
    errors=("INVALID_REQUEST", "POLICY_NOT_FOUND", "QUOTA_EXCEEDED"),
    fields=omnimod_request.FIELDS,
    examples={"text": {"modality": "text", "input": "hello community"}},
    is_json_only=True,
    has_idempotency=True,
)

SEEDS = ("profanity", "spam", "pattern_toxicity", "url_evasion", "language")
"""Scores that the seed shows: they are always there."""
URL_EVASION = ("url", "evasion")
"""Two analyzers of ours that are one score of the seed's (B.3 18)."""


async def moderate(request: AnyRequest, given: dict[str, Any]) -> Response[Body]:
    """A text of OmniMod's request, decided and answered. Raises InvalidRequest that names all that is wrong."""
    ask = omnimod_request.read(given)
    moderator = door(request).moderator
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer
        made = await moderator.weigh_all(request.user, [ask], request_id(request.scope))

        def keep(conn: Connection) -> Body:
            moderator.record_all(conn, request.user, [ask], made)
            return body(made[0])

        answer = await asked.done(keep)
        moderator.settle(request.user, [ask], made)
        return answer


def body(made: Verdict) -> Body:
    """The answer, also to who asks for an event later. What the policy has switched off is not shown; every score is,
    and of the analyzers those that have something to say: flagged, or of a severity above none."""
    results = _shown(made)
    scores = dict.fromkeys(SEEDS, 0.0) if made.modality == "text" else {}
    scores |= {name: round(one.score, 6) for name, one in results.items() if name not in URL_EVASION}
    if made.modality == "text":
        scores["url_evasion"] = round(
            max((results[name].score for name in URL_EVASION if name in results), default=0.0), 6
        )
    return Body(
        id=made.event_id,
        request_id=made.request_id,
        decision=made.decision,
        engine_action=made.action,
        modality=made.modality,
        severity=made.severity,
        scores=scores,
        analyzer_results=[
            AnalyzerBody(name, round(one.score, 6), one.graded, name in made.flagged, list(one.matched))
            for name, one in results.items()
            if one.graded != "none" or name in made.flagged
        ],
        policy=PolicyBody(made.version.policy_id, made.version.id, made.version.number),
        provider="omnimod-engine",
        provider_version="omnimod-engine-v1",
        provider_status=made.provider_status,
        degraded_reason=made.degraded_reason,
        routing=RoutingBody(made.mode, made.reason),
        language=LanguageBody(_detected(made.analysis.language.code), round(made.analysis.language.confidence, 4)),
        provider_usage=UsageBody(made.text_llm_credits),
        processing_time_ms=round(made.processing_ms, 1),
        created_at=clock.rfc3339(made.created_at),
        cache=CacheBody("hit" if made.is_cached else "miss", made.content_hash),
    )


def _detected(code: str) -> str:
    """The seed's words are six. A text of another language is `unknown` here, its routing says `unsupported_language`,
    and the list of events names it."""
    return code if code in RULED or code in NAMELESS else UNKNOWN


def _shown(made: Verdict) -> dict[str, Result]:
    """A picture's labels are its categories; a text's results are those of analyzers that are on."""
    if made.modality != "text":
        return {name: Result(score) for name, score in made.analysis.labels.items()}
    rules = made.version.body.analyzers
    return {name: one for name, one in made.analysis.results.items() if name in rules and rules[name].enabled}


@post("/omnimod/v1/moderations", status_code=200, **operation(ALIAS))
async def create_omnimod_moderation(request: AnyRequest) -> Response[Body]:
    async with form.wide_json_object(request, omnimod_request.BODY_BYTES, door(request).bodies) as given:
        return await moderate(request, given)


ROUTES = [create_omnimod_moderation]
