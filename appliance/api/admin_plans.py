"""/api/v1/admin/plans: what clients may be on: limits, how use is charged, and the prices."""

from typing import Annotated, Any, cast

import msgspec
from litestar import Response, delete, get, post, put
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance import clock
from appliance.accounts import plans
from appliance.accounts.plans import Changes, ChargeMethod, Plan
from appliance.api import admin, idempotency
from appliance.api.admin import REASON, REQUIRED_REASON, ROOT, Asked, administered
from appliance.api.documents import Answer, Entry, Field, Link
from appliance.api.door import door
from appliance.api.shapes import Moment
from appliance.api.submission import refused
from appliance.billing import money


class PlanBody(msgspec.Struct, frozen=True):
    """Prices are dollars: of a job of each kind under `per_job`, of a second of a GPU under `gpu_time`."""

    slug: str
    name: str
    requests_per_minute: int | None
    burst_per_second: int | None
    charge_method: str
    prompt_usd: float
    image_usd: float
    video_usd: float
    gpu_second_usd: float
    monthly_request_quota: int | None
    stripe_price: str | None
    is_hidden: bool
    created_at: Moment
    updated_at: Moment


class PlansBody(msgspec.Struct, frozen=True):
    plans: list[PlanBody]


_PLAN: dict[str, Any] = {
    "slug": "growth",
    "name": "Growth",
    "requests_per_minute": 600,
    "burst_per_second": None,
    "charge_method": "per_job",
    "prompt_usd": 0.0008,
    "image_usd": 0.002,
    "video_usd": 0.02,
    "gpu_second_usd": 0.0,
    "monthly_request_quota": 100000,
    "stripe_price": None,
    "is_hidden": False,
    "created_at": "2026-05-19T12:00:00.000Z",
    "updated_at": "2026-05-19T12:00:00.000Z",
}
_WRITES = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_UNKNOWN = {"NOT_FOUND": "There is no plan 'growht'; there are: growth, standard"}
_INTEGER, _NUMBER, _YES_OR_NO = OpenAPIType.INTEGER, OpenAPIType.NUMBER, OpenAPIType.BOOLEAN
_METHODS = tuple(method.value for method in ChargeMethod)
_PRICES = ("prompt_usd", "image_usd", "video_usd", "gpu_second_usd")

_SETTABLE = (
    Field("requests_per_minute", "null: as the settings say.", kind=_INTEGER, least=1, most=1e6, is_nullable=True),
    Field(
        "burst_per_second", "0: none. null: as the settings say.", kind=_INTEGER, least=0, most=1e6, is_nullable=True
    ),
    Field("charge_method", "How use is charged.", choices=_METHODS),
    Field("prompt_usd", "Price of a prompt under per_job.", kind=_NUMBER, least=0, most=1e9),
    Field("image_usd", "Price of an image under per_job.", kind=_NUMBER, least=0, most=1e9),
    Field("video_usd", "Price of a video under per_job.", kind=_NUMBER, least=0, most=1e9),
    Field("gpu_second_usd", "Price of a GPU second under gpu_time.", kind=_NUMBER, least=0, most=1e9),
    Field(
        "monthly_request_quota",
        "Synchronous requests a month, in UTC. null: as many as are sent.",
        kind=_INTEGER,
        least=0,
        most=plans.HIGHEST_QUOTA,
        is_nullable=True,
    ),
    Field(
        "stripe_price",
        "What a subscription to it is sold as at Stripe.",
        is_nullable=True,
        pattern="^price_[A-Za-z0-9_]{1,250}$",
    ),
    Field("is_hidden", "Not offered to subscribe to.", kind=_YES_OR_NO),
)

LIST = Entry(
    id="list_plans",
    tag="Admin",
    summary="List plans",
    description="All of them, by slug, the hidden ones too.",
    answer=Answer(200, PlansBody, "The plans.", {"one": {"plans": [_PLAN]}}),
)
CREATE = Entry(
    id="create_plan",
    tag="Admin",
    summary="Create a plan",
    description="What is left out is free, or as the settings say.",
    answer=Answer(201, PlanBody, "The plan.", {"new": _PLAN}),
    errors=(*_WRITES, "CONFLICT"),
    has_idempotency=True,
    messages={"CONFLICT": "There is a plan 'growth' already"},
    fields=(
        Field("slug", "It never changes.", is_required=True, pattern="^[a-z][a-z0-9-]{0,39}$"),
        Field("name", "As people read it.", is_required=True, shortest=1, longest=100),
        *_SETTABLE,
        REASON,
    ),
    examples={"per job": {"slug": "growth", "name": "Growth", "charge_method": "per_job", "prompt_usd": 0.0008}},
    links=(
        Link("get_plan", {"slug": "$response.body#/slug"}, "Read it."),
        Link("change_plan", {"slug": "$response.body#/slug"}, "Change it."),
        Link("remove_plan", {"slug": "$response.body#/slug", "reason": "No longer sold"}, "Remove it."),
    ),
)
READ = Entry(
    id="get_plan",
    tag="Admin",
    summary="Get a plan",
    description="The plan and its prices.",
    answer=Answer(200, PlanBody, "The plan.", {"growth": _PLAN}),
    messages=_UNKNOWN,
)
CHANGE = Entry(
    id="change_plan",
    tag="Admin",
    summary="Change a plan",
    description="At once for everybody on it; jobs accepted already keep their price. What is left out stays as it is.",
    answer=Answer(200, PlanBody, "The plan as it is now.", {"dearer": {**_PLAN, "image_usd": 0.003}}),
    errors=_WRITES,
    messages=_UNKNOWN,
    fields=(Field("name", "As people read it.", shortest=1, longest=100), *_SETTABLE, REQUIRED_REASON),
    examples={"price": {"image_usd": 0.003, "reason": "New price list"}},
)
REMOVE = Entry(
    id="remove_plan",
    tag="Admin",
    summary="Remove a plan",
    description="Refused while clients are on it. The reason may stand in the query, or in a JSON body.",
    answer=Answer(204, None, "It is gone."),
    errors=(*_WRITES, "CONFLICT"),
    messages={
        **_UNKNOWN,
        "CONFLICT": "Organisations on the plan 'growth': 2; move them to another one first, or hide it",
    },
    query=(REQUIRED_REASON,),
)

Slug = Annotated[str, PathParameter(description="The `slug` of the plan.")]

_PATH = f"{ROOT}/plans"
_ONE = f"{_PATH}/{{slug:str}}"


@get(_PATH, **administered(LIST))
async def list_plans(request: Asked) -> PlansBody:
    return PlansBody(plans=[_body(plan) for plan in plans.every(door(request).house.db.reader())])


@post(_PATH, status_code=201, **administered(CREATE))
async def create_plan(request: Asked) -> Response[PlanBody]:
    given = await admin.given(request)
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer
        slug, name = admin.string(given, "slug"), admin.string(given, "name")
        reason = admin.maybe_why(request, given) or ""
        changes = _changes(given)
        actor = request.user.actor
        return await asked.done(lambda conn: _body(plans.create(conn, slug, name, changes, actor=actor, reason=reason)))


@get(_ONE, **administered(READ))
async def get_plan(request: Asked, slug: Slug) -> PlanBody:
    return _body(plans.get(door(request).house.db.reader(), slug))


@put(_ONE, **administered(CHANGE))
async def change_plan(request: Asked, slug: Slug) -> PlanBody:
    given = await admin.given(request)
    changes, reason = _changes(given), admin.why(request, given)
    changed = await door(request).house.db.write_async(
        lambda conn: plans.change(conn, slug, changes, actor=request.user.actor, reason=reason)
    )
    return _body(changed)


@delete(_ONE, **administered(REMOVE))
async def remove_plan(request: Asked, slug: Slug) -> None:
    reason = admin.why(request, await admin.given(request))
    await door(request).house.db.write_async(
        lambda conn: plans.remove(conn, slug, actor=request.user.actor, reason=reason)
    )


ROUTES = [list_plans, create_plan, get_plan, change_plan, remove_plan]


def _changes(given: dict[str, Any]) -> Changes:
    """A null counts as left out, but for the limits, the quota and the price at Stripe. Raises InvalidRequest."""
    found: dict[str, Any] = {
        name: admin.whole(given, name)
        for name in ("requests_per_minute", "burst_per_second", "monthly_request_quota")
        if name in given
    }
    if (name := admin.maybe_string(given, "name")) is not None:
        found["name"] = name
    if "stripe_price" in given:
        found["stripe_price"] = admin.maybe_string(given, "stripe_price")
    for name in _PRICES:
        if given.get(name) is not None:
            found[name.replace("_usd", "_micros")] = money.parse(given[name], name)
    if (method := given.get("charge_method")) is not None:
        if method not in _METHODS:
            raise refused("charge_method", f"must be one of {', '.join(_METHODS)}")
        found["charge_method"] = ChargeMethod(method)
    if (is_hidden := given.get("is_hidden")) is not None:
        if not isinstance(is_hidden, bool):
            raise refused("is_hidden", "must be true or false")
        found["is_hidden"] = is_hidden
    return Changes(**found)


def _body(plan: Plan) -> PlanBody:
    prices = {name: money.usd(cast("int", getattr(plan, name.replace("_usd", "_micros")))) for name in _PRICES}
    return PlanBody(
        slug=plan.slug,
        name=plan.name,
        requests_per_minute=plan.requests_per_minute,
        burst_per_second=plan.burst_per_second,
        charge_method=plan.charge_method.value,
        monthly_request_quota=plan.monthly_request_quota,
        stripe_price=plan.stripe_price,
        is_hidden=plan.is_hidden,
        created_at=clock.rfc3339(plan.created_at),
        updated_at=clock.rfc3339(plan.updated_at),
        **prices,
    )
