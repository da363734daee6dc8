"""What an organisation has and uses of the synchronous surfaces, and GET /v1/{usage,quota,plans,org,overview}, where a
tenant reads its own. B.2.4 of the contract."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, get

from appliance import clock
from appliance.accounts import organisations, plans
from appliance.accounts.keys import Caller
from appliance.api import query
from appliance.api.documents import Answer, Entry, Field
from appliance.api.door import Door, door
from appliance.api.mirror import mirrored
from appliance.api.shapes import Moment, Uuid
from appliance.database import Connection
from appliance.inference.wire import ModelState
from appliance.moderations import quota, sampling, usage
from appliance.moderations.moderator import HEADS_MODEL
from appliance.moderations.sampling import Rate
from appliance.moderations.usage import Usage, Volume
from appliance.settings import Settings

AnyRequest = Request[Any, Any, Any]


class QuotaBody(msgspec.Struct, frozen=True):
    """null: there is no end."""

    plan_tier: str
    monthly_request_quota: int | None
    used: int
    remaining: int | None
    resets_at: Moment


class OfferBody(msgspec.Struct, frozen=True):
    """A plan. `is_sold`: by subscription, through Stripe; else the operator puts an organisation on it."""

    slug: str
    name: str
    monthly_request_quota: int | None
    rate_limit_per_minute: int
    is_current: bool
    is_sold: bool


class OffersBody(msgspec.Struct, frozen=True):
    plans: list[OfferBody]


class OrgBody(msgspec.Struct, frozen=True):
    id: Uuid
    name: str
    status: str
    plan_tier: str
    rate_limit_per_minute: int
    created_at: Moment


class ProviderBody(msgspec.Struct, frozen=True):
    """`heads` and `judge`: ready, loading, absent, unloaded, failed or unreachable; off where there is none."""

    status: str
    rules: str
    heads: str
    judge: str


class SamplingBody(msgspec.Struct, frozen=True):
    rates: list[Rate]


class OverviewBody(msgspec.Struct, frozen=True):
    quota: QuotaBody
    last_24_hours: Volume
    provider: ProviderBody
    sampling: SamplingBody


_QUOTA = {
    "plan_tier": "free",
    "monthly_request_quota": 100,
    "used": 58,
    "remaining": 42,
    "resets_at": "2026-06-01T00:00:00.000Z",
}
_DECIDED = {"allow": 50, "flag": 5, "block": 3}
_DAY = {
    "date": "2026-05-01",
    "requests": 58,
    "allow": 50,
    "flag": 5,
    "block": 3,
    "cache_hits": 7,
    "text_llm_credits": 4,
}
_USAGE = {
    "period": "2026-05",
    "standard_requests": 58,
    "text_llm_credits": 4,
    "cache_hits": 7,
    "by_decision": _DECIDED,
    "daily": [_DAY],
}
_RATE = {
    "policy_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "version_id": "5f0c2a52-9b1d-4a8e-8f52-7b1d3f0a6c11",
    "version": 3,
    "sampled": 200,
    "disagreed": 5,
    "missed": 1,
    "share": 0.025,
}
_OFFER = {
    "slug": "launch",
    "name": "Launch",
    "monthly_request_quota": 100000,
    "rate_limit_per_minute": 60,
    "is_current": False,
    "is_sold": True,
}
ORG: dict[str, Any] = {
    "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "name": "acme",
    "status": "active",
    "plan_tier": "free",
    "rate_limit_per_minute": 60,
    "created_at": "2026-05-03T05:59:21.000Z",
}

USAGE = Entry(
    id="get_moderation_usage",
    tag="Admin",
    summary="Usage of a month",
    description="Synchronous requests by day, in UTC, and what was decided. Cache hits count.",
    answer=Answer(200, Usage, "The month.", {"May": _USAGE}),
    query=(Field("period", "A month, YYYY-MM; this one if left out.", pattern="^[0-9]{4}-[0-9]{2}$"),),
    messages={"INVALID_REQUEST": "period must be a month, YYYY-MM"},
)
QUOTA = Entry(
    id="get_quota",
    tag="Admin",
    summary="The month's quota",
    description="Synchronous requests of this month, in UTC, against the plan's quota. A refused request uses none up.",
    answer=Answer(200, QuotaBody, "The quota.", {"free": _QUOTA}),
)
PLANS = Entry(
    id="list_offered_plans",
    tag="Admin",
    summary="List the plans there are to be on",
    description="Those on offer, and the one the organisation is on.",
    answer=Answer(200, OffersBody, "The plans.", {"one": {"plans": [_OFFER]}}),
)
READ_ORG = Entry(
    id="get_org",
    tag="Admin",
    summary="Get the organisation",
    description="Its standing, its plan and the rate limit that holds.",
    answer=Answer(200, OrgBody, "The organisation.", {"active": ORG}),
)
OVERVIEW = Entry(
    id="get_overview",
    tag="Admin",
    summary="Overview",
    description="The quota, the last 24 hours, and how the models are. `sampling`: of what was passed without the "
    "judge, how often it would have decided otherwise (`disagreed`, of those `missed`: it would have blocked), by "
    "policy version, the newest first; those that were sampled (`semantic.audit_share`).",
    answer=Answer(
        200,
        OverviewBody,
        "The overview.",
        {
            "well": {
                "quota": _QUOTA,
                "last_24_hours": {"requests": 58, "by_decision": _DECIDED},
                "provider": {"status": "ok", "rules": "ready", "heads": "ready", "judge": "off"},
                "sampling": {"rates": [_RATE]},
            }
        },
    ),
)


@get("/v1/usage", **mirrored(USAGE, id="get_own_moderation_usage"))
async def get_own_moderation_usage(request: Request[Caller, Any, Any]) -> Usage:
    return used(request, request.user.org_id)


@get("/v1/quota", **mirrored(QUOTA, id="get_own_quota"))
async def get_own_quota(request: Request[Caller, Any, Any]) -> QuotaBody:
    return quota_of(door(request).house.db.reader(), request.user.org_id)


@get("/v1/plans", **mirrored(PLANS, id="list_own_plans"))
async def list_own_plans(request: Request[Caller, Any, Any]) -> OffersBody:
    return offers(door(request), request.user.org_id)


@get("/v1/org", **mirrored(READ_ORG, id="get_own_org"))
async def get_own_org(request: Request[Caller, Any, Any]) -> OrgBody:
    there = door(request)
    return org_of(there.house.db.reader(), there.house.settings, request.user.org_id)


@get("/v1/overview", **mirrored(OVERVIEW, id="get_own_overview"))
async def get_own_overview(request: Request[Caller, Any, Any]) -> OverviewBody:
    return await overview(door(request), request.user.org_id)


ROUTES = [get_own_moderation_usage, get_own_quota, list_own_plans, get_own_org, get_own_overview]


def used(request: AnyRequest, org_id: str) -> Usage:
    """Of the month that the query names. Raises InvalidRequest."""
    sent = query.sent(request, "period")
    period = None if sent is None else usage.month_named(sent)
    if sent is not None and period is None:
        raise query.refused("period", "must be a month, YYYY-MM")
    return usage.of(door(request).house.db.reader(), org_id, period)


def quota_of(conn: Connection, org_id: str) -> QuotaBody:
    """Raises NotFound."""
    found = quota.of(conn, org_id)
    return QuotaBody(
        found.plan_tier, found.monthly_request_quota, found.used, found.remaining, clock.rfc3339(found.resets_at)
    )


def offers(there: Door, org_id: str) -> OffersBody:
    """Raises NotFound."""
    conn, limits = there.house.db.reader(), there.house.settings.limits
    current = organisations.get(conn, org_id).plan
    return OffersBody(
        [
            OfferBody(
                slug=plan.slug,
                name=plan.name,
                monthly_request_quota=plan.monthly_request_quota,
                rate_limit_per_minute=plan.requests_per_minute or limits.requests_per_minute,
                is_current=plan.slug == current,
                is_sold=plan.stripe_price is not None,
            )
            for plan in plans.every(conn)
            if not plan.is_hidden or plan.slug == current
        ]
    )


def org_of(conn: Connection, settings: Settings, org_id: str) -> OrgBody:
    """Raises NotFound."""
    one = organisations.get(conn, org_id)
    return OrgBody(
        id=one.id,
        name=one.name,
        status=one.status.value,
        plan_tier=one.plan,
        rate_limit_per_minute=plans.terms(conn, org_id).requests_per_minute or settings.limits.requests_per_minute,
        created_at=clock.rfc3339(one.created_at),
    )


async def overview(there: Door, org_id: str) -> OverviewBody:
    """Raises NotFound."""
    conn = there.house.db.reader()
    found = quota_of(conn, org_id)
    volume = await asyncio.to_thread(lambda: usage.last_day(there.house.db.reader(), org_id))
    rates = await asyncio.to_thread(lambda: sampling.rates(there.house.db.reader(), org_id))
    return OverviewBody(found, volume, await _provider(there), SamplingBody(rates))


async def _provider(there: Door) -> ProviderBody:
    figures = await there.condition.now()
    judge = there.house.settings.inference.text_judge
    if figures.models is None:
        states = dict.fromkeys((HEADS_MODEL, judge), "unreachable")
    else:
        states = {model.name: model.state.value for model in figures.models.models}
    heads = states.get(HEADS_MODEL, ModelState.ABSENT.value)
    asked = states.get(judge, ModelState.ABSENT.value) if judge else "off"
    is_well = heads == ModelState.READY and asked in ("off", ModelState.READY)
    return ProviderBody("ok" if is_well else "degraded", "ready", heads, asked)
