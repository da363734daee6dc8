"""OmniMod's request and answer (seed 004, B.2.1), over the moderator."""

from typing import Any

import msgspec
from litestar import Request, Response

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api.door import door
from appliance.api.front import request_id
from appliance.errors import InvalidRequest
from appliance.moderations.verdict import Ask, Verdict
from appliance.text.analysis import Result

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


async def moderate(request: AnyRequest, given: dict[str, Any]) -> Response[Body]:
    if given.get("modality") != "text":
        raise InvalidRequest("modality must be text", details=[{"field": "modality", "issue": "must be text"}])
    text = given.get("input")
    if not isinstance(text, str) or not 1 <= len(text) <= 10_000:
        raise InvalidRequest(
            "input must be a string of 1 to 10000 characters", details=[{"field": "input", "issue": "is not usable"}]
        )
    ask = Ask(text, "omnimod", policy=given.get("policy"))
    made = await door(request).moderator.moderate(request.user, ask, request_id(request.scope))
    return Response(body(made), media_type="application/json")


def body(made: Verdict) -> Body:
    results = made.analysis.results
    scores = {name: 0.0 for name in ("profanity", "spam", "pattern_toxicity", "url_evasion", "language")}
    scores |= {name: one.score for name, one in results.items() if name not in ("url", "evasion")}
    nothing = Result(0.0)
    scores["url_evasion"] = max(results.get("url", nothing).score, results.get("evasion", nothing).score)
    shown = [
        AnalyzerBody(name, one.score, one.graded, name in made.flagged, list(one.matched))
        for name, one in results.items()
        if one.score > 0 or name in made.flagged
    ]
    return Body(
        id=made.event_id,
        request_id=made.request_id,
        decision=made.decision,
        engine_action=made.action,
        modality=made.modality,
        severity=made.severity,
        scores=scores,
        analyzer_results=shown,
        policy=PolicyBody(made.version.policy_id, made.version.id, made.version.number),
        provider="omnimod-engine",
        provider_version="omnimod-engine-v1",
        provider_status=made.provider_status,
        degraded_reason=made.degraded_reason,
        routing=RoutingBody(made.mode, made.reason),
        language=LanguageBody(made.analysis.language.code, made.analysis.language.confidence),
        provider_usage=UsageBody(made.text_llm_credits),
        processing_time_ms=round(made.processing_ms, 1),
        created_at=clock.rfc3339(made.created_at),
        cache=CacheBody("hit" if made.is_cached else "miss", made.content_hash),
    )
