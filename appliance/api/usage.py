"""GET /api/v1/usage and its parts: how much was used, what it cost, what was rejected. B.1 8 to 11 of the contract."""

import asyncio
import calendar
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any, TypeVar

import msgspec
from litestar import Request, get

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import query
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.billing import money
from appliance.database import Connection
from appliance.jobs import usage
from appliance.jobs.usage import ByKind, Day, Period

T = TypeVar("T")


class DayBody(msgspec.Struct, frozen=True):
    date: str
    tokens: int
    cost_usd: float
    gpu_seconds: float


class Usage(msgspec.Struct, frozen=True):
    """A calendar month, UTC. Jobs that are open or failed are in `total_jobs` only."""

    billing_period: str
    total_tokens: int
    total_cost_usd: float
    total_gpu_seconds: float
    total_jobs: int
    passed_jobs: int
    rejected_jobs: int
    daily: list[DayBody]


class Volume(msgspec.Struct, frozen=True):
    """Jobs submitted in a bucket; `ts` is its start. `pre` and `post` are of older clients, and 0."""

    ts: str
    pre: int
    post: int
    prompt: int
    image: int
    video: int


class Volumes(msgspec.Struct, frozen=True):
    period: str
    bucket: str
    data: list[Volume]


class Cost(msgspec.Struct, frozen=True):
    """What the jobs submitted in a bucket cost, in US dollars; refunds taken off."""

    ts: str
    pre: float
    post: float
    prompt: float
    image: float
    video: float


class Costs(msgspec.Struct, frozen=True):
    period: str
    bucket: str
    data: list[Cost]


class Rejections(msgspec.Struct, frozen=True):
    period: str
    categories: dict[str, Any]


_PERIODS = tuple(usage.PERIODS)
_REJECTION_PERIODS = {name: usage.PERIODS[name] for name in ("month", "week", "day")}
_BUCKETS = "month: 30 days; week: 7 days; day: 24 hours; hour: 60 minutes; all up to now, UTC."
_PERIOD = Field("period", _BUCKETS, choices=_PERIODS, default="week")

_NOON: dict[str, Any] = {"ts": "2026-05-19T12:00:00.000Z", "pre": 0, "post": 0}

MONTH = Entry(
    id="get_usage",
    tag="Usage",
    summary="Get usage",
    description=(
        "A calendar month: its totals, and every day of it up to today, those without use included. What a job cost "
        "and took counts for the day on which it was submitted; a job that failed is refunded."
    ),
    answer=Answer(
        200,
        Usage,
        "The month.",
        {
            "usage": {
                "billing_period": "2026-05-01",
                "total_tokens": 5120,
                "total_cost_usd": 0.0156,
                "total_gpu_seconds": 1.75,
                "total_jobs": 15,
                "passed_jobs": 13,
                "rejected_jobs": 1,
                "daily": [{"date": "2026-05-01", "tokens": 5120, "cost_usd": 0.0156, "gpu_seconds": 1.75}],
            }
        },
    ),
    scope="usage:read",
    messages={"INVALID_REQUEST": "billing_period must be a date, YYYY-MM-DD"},
    query=(Field("billing_period", "Any day of the month; the present one if not given.", format="date"),),
)
VOLUME = Entry(
    id="get_usage_volume",
    tag="Usage",
    summary="Get usage volume",
    description="Jobs submitted, by type, in every bucket of the period; ascending, zeros included.",
    answer=Answer(
        200,
        Volumes,
        "The buckets.",
        {"volume": {"period": "hour", "bucket": "minute", "data": [{**_NOON, "prompt": 12, "image": 3, "video": 0}]}},
    ),
    scope="usage:read",
    messages={"INVALID_REQUEST": f"period must be one of {', '.join(_PERIODS)}"},
    query=(_PERIOD,),
)
COST = Entry(
    id="get_usage_cost",
    tag="Usage",
    summary="Get usage cost",
    description="What the jobs cost, by type, in every bucket of the period in which they were submitted; ascending.",
    answer=Answer(
        200,
        Costs,
        "The buckets.",
        {
            "cost": {
                "period": "week",
                "bucket": "day",
                "data": [{**_NOON, "prompt": 0.0096, "image": 0.006, "video": 0}],
            }
        },
    ),
    scope="usage:read",
    messages=VOLUME.messages,
    query=(_PERIOD,),
)
REJECTIONS = Entry(
    id="get_usage_rejections",
    tag="Usage",
    summary="Get usage rejections",
    description=(
        "How many of the jobs submitted in the period were rejected for each category. A job may count for several; a "
        "rejected prompt has no category. `custom` holds each custom category that judged a job in the period."
    ),
    answer=Answer(
        200,
        Rejections,
        "The counts.",
        {
            "rejections": {
                "period": "month",
                "categories": {"ai_adult_general": 4, "underage": 0, "nsfw": 7, "custom": {"weapons": 2}},
            }
        },
    ),
    scope="usage:read",
    messages={"INVALID_REQUEST": f"period must be one of {', '.join(_REJECTION_PERIODS)}"},
    query=(
        Field(
            "period",
            "month: 30 days; week: 7 days; day: 24 hours; up to now, UTC.",
            choices=tuple(_REJECTION_PERIODS),
            default="month",
        ),
    ),
)


@get("/api/v1/usage", **operation(MONTH))
async def get_usage(request: Request[Caller, Any, Any]) -> Usage:
    today = clock.now().date()
    first = (query.day(request, "billing_period") or today).replace(day=1)
    length = calendar.monthrange(first.year, first.month)[1]
    shown = max(0, min(length, (today - first).days + 1))
    since = _midnight(first)
    days = await _asked(request, lambda conn, org_id: usage.days(conn, org_id, since, since + shown * usage.DAY))
    return Usage(
        billing_period=first.isoformat(),
        total_tokens=sum(day.tokens for day in days),
        total_cost_usd=money.usd(sum(day.micros for day in days)),
        total_gpu_seconds=sum(day.gpu_ms for day in days) / 1000,
        total_jobs=sum(day.jobs for day in days),
        passed_jobs=sum(day.passed for day in days),
        rejected_jobs=sum(day.rejected for day in days),
        daily=[_day(first + timedelta(days=number), day) for number, day in enumerate(days)],
    )


@get("/api/v1/usage/volume", **operation(VOLUME))
async def get_usage_volume(request: Request[Caller, Any, Any]) -> Volumes:
    name, period = _period(request, usage.PERIODS, "week")
    buckets = await _asked(request, lambda conn, org_id: usage.volume(conn, org_id, period, clock.now_ms()))
    return Volumes(name, period.bucket, [_volume(bucket) for bucket in buckets])


@get("/api/v1/usage/cost", **operation(COST))
async def get_usage_cost(request: Request[Caller, Any, Any]) -> Costs:
    name, period = _period(request, usage.PERIODS, "week")
    buckets = await _asked(request, lambda conn, org_id: usage.cost(conn, org_id, period, clock.now_ms()))
    return Costs(name, period.bucket, [_cost(bucket) for bucket in buckets])


@get("/api/v1/usage/rejections", **operation(REJECTIONS))
async def get_usage_rejections(request: Request[Caller, Any, Any]) -> Rejections:
    name, period = _period(request, _REJECTION_PERIODS, "month")
    built_in, custom = await _asked(
        request, lambda conn, org_id: usage.rejections(conn, org_id, period, clock.now_ms())
    )
    return Rejections(name, {**built_in, "custom": custom})


ROUTES = [get_usage, get_usage_volume, get_usage_cost, get_usage_rejections]


async def _asked(request: Request[Caller, Any, Any], ask: Callable[[Connection, str], T]) -> T:
    """The answer for the caller's organisation, found in a thread."""
    there, org_id = door(request), request.user.org_id
    return await asyncio.to_thread(lambda: ask(there.house.db.reader(), org_id))


def _period(request: Request[Caller, Any, Any], known: Mapping[str, Period], default: str) -> tuple[str, Period]:
    """Raises InvalidRequest."""
    name = query.one_of(request, "period", {name: name for name in known}) or default
    return name, known[name]


def _midnight(day: date) -> int:
    return (day - date(1970, 1, 1)).days * usage.DAY


def _day(on: date, day: Day) -> DayBody:
    return DayBody(on.isoformat(), day.tokens, money.usd(day.micros), day.gpu_ms / 1000)


def _volume(bucket: ByKind) -> Volume:
    return Volume(clock.rfc3339(bucket.at), 0, 0, bucket.prompt, bucket.image, bucket.video)


def _cost(bucket: ByKind) -> Cost:
    prompt, image, video = money.usd(bucket.prompt), money.usd(bucket.image), money.usd(bucket.video)
    return Cost(clock.rfc3339(bucket.at), 0, 0, prompt, image, video)
