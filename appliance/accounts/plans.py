"""Plans: the limits, the charging and the prices that organisations share. What an organisation has of its own goes
before its plan, and the plan before the settings.

Prices are millionths of a dollar: a job of each kind under `per_job`, a second of a GPU under `gpu_time`.
"""

import re
from enum import StrEnum
from typing import cast

import msgspec

from appliance import audit, clock
from appliance.database import Connection, Row
from appliance.errors import Conflict, InvalidRequest, NotFound

STANDARD = "standard"
"""What an organisation is on unless something else is said; it cannot be removed."""

HIGHEST_PRICE_MICROS = 1_000_000_000_000
"""A million dollars: a price above it is a slip of the keyboard."""

HIGHEST_QUOTA = 1_000_000_000_000

OWN_OR_PLAN = """
    organisation.plan AS plan,
    ifnull(organisation.requests_per_minute, plan.requests_per_minute) AS requests_per_minute,
    ifnull(organisation.burst_per_second, plan.burst_per_second) AS burst_per_second,
    coalesce(organisation.charge_method, plan.charge_method, 'none') AS charge_method,
    ifnull(plan.prompt_micros, 0) AS prompt_micros,
    ifnull(plan.image_micros, 0) AS image_micros,
    ifnull(plan.video_micros, 0) AS video_micros,
    ifnull(plan.gpu_second_micros, 0) AS gpu_second_micros
"""
"""The columns of Terms, for a SELECT from organisation LEFT JOIN plan ON plan.slug = organisation.plan."""

_SLUG = re.compile(r"[a-z][a-z0-9-]{0,39}")
_PRICES = ("prompt_micros", "image_micros", "video_micros", "gpu_second_micros")
_LIMITS = {"requests_per_minute": 1, "burst_per_second": 0}
"""Limit → the least it may be."""


class ChargeMethod(StrEnum):
    PER_JOB = "per_job"
    """A flat price a job, by its kind, as it is accepted."""
    GPU_TIME = "gpu_time"
    """Metered: the time that the models spent, as the job completes."""
    NONE = "none"
    """Charging is off."""


class Plan(msgspec.Struct, frozen=True):
    slug: str
    name: str
    requests_per_minute: int | None = None
    """None: as the settings say."""
    burst_per_second: int | None = None
    """0 = no burst limit."""
    charge_method: ChargeMethod = ChargeMethod.NONE
    prompt_micros: int = 0
    image_micros: int = 0
    video_micros: int = 0
    gpu_second_micros: int = 0
    monthly_request_quota: int | None = None
    """Synchronous requests a month, in UTC; None = as many as are sent."""
    stripe_price: str | None = None
    is_hidden: bool = False
    """Not offered to subscribe to; who is on it stays on it."""
    created_at: int = 0
    updated_at: int = 0


class Changes(msgspec.Struct, frozen=True):
    """What of a plan is to be changed; UNSET = as it was."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    requests_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    burst_per_second: int | msgspec.UnsetType | None = msgspec.UNSET
    charge_method: ChargeMethod | msgspec.UnsetType = msgspec.UNSET
    prompt_micros: int | msgspec.UnsetType = msgspec.UNSET
    image_micros: int | msgspec.UnsetType = msgspec.UNSET
    video_micros: int | msgspec.UnsetType = msgspec.UNSET
    gpu_second_micros: int | msgspec.UnsetType = msgspec.UNSET
    monthly_request_quota: int | msgspec.UnsetType | None = msgspec.UNSET
    stripe_price: str | msgspec.UnsetType | None = msgspec.UNSET
    is_hidden: bool | msgspec.UnsetType = msgspec.UNSET


class Terms(msgspec.Struct, frozen=True):
    """What holds for an organisation: its own word, else its plan's. None: as the settings say."""

    plan: str
    requests_per_minute: int | None
    burst_per_second: int | None
    charge_method: ChargeMethod
    prompt_micros: int
    image_micros: int
    video_micros: int
    gpu_second_micros: int


def terms(conn: Connection, org_id: str) -> Terms:
    """As of now. Raises NotFound when there is no such organisation."""
    row = conn.execute(
        f"SELECT {OWN_OR_PLAN} FROM organisation LEFT JOIN plan ON plan.slug = organisation.plan "  # noqa: S608  # our own words
        "WHERE organisation.id = :id",
        {"id": org_id},
    ).fetchone()
    if row is None:
        raise NotFound("There is no such organisation")
    return terms_in(row)


def terms_in(row: Row) -> Terms:
    """Of a row that has the columns OWN_OR_PLAN among its own."""
    return Terms(
        plan=row["plan"],
        requests_per_minute=row["requests_per_minute"],
        burst_per_second=row["burst_per_second"],
        charge_method=ChargeMethod(row["charge_method"]),
        prompt_micros=row["prompt_micros"],
        image_micros=row["image_micros"],
        video_micros=row["video_micros"],
        gpu_second_micros=row["gpu_second_micros"],
    )


def every(conn: Connection) -> list[Plan]:
    """All plans by slug, the hidden ones too."""
    return [_plan(row) for row in conn.execute("SELECT * FROM plan ORDER BY slug")]


def get(conn: Connection, slug: str) -> Plan:
    """The plan. Raises NotFound that lists those there are."""
    row = conn.execute("SELECT * FROM plan WHERE slug = :slug", {"slug": slug}).fetchone()
    if row is None:
        known = ", ".join(plan.slug for plan in every(conn))
        raise NotFound(f"There is no plan {slug!r}; there are: {known}")
    return _plan(row)


def create(conn: Connection, slug: str, name: str, changes: Changes, *, actor: str, reason: str) -> Plan:
    """A new plan; what `changes` leaves unset is as the settings say, free, or not there. Raises Conflict when the slug
    is taken, InvalidRequest when a value is not usable."""
    if not _SLUG.fullmatch(slug):
        raise InvalidRequest(
            f"The slug {slug!r} is not usable: a lower-case letter, then up to 39 letters, digits or hyphens"
        )
    if conn.execute("SELECT 1 FROM plan WHERE slug = :slug", {"slug": slug}).fetchone():
        raise Conflict(f"There is a plan {slug!r} already")
    given = _given(changes)
    now = clock.now_ms()
    made = msgspec.structs.replace(Plan(slug, name, created_at=now, updated_at=now), **{**given, "name": name})
    _check(made)
    _check_sold_once(conn, made)
    conn.execute(
        """
        INSERT INTO plan (slug, name, requests_per_minute, burst_per_second, charge_method, prompt_micros, image_micros,
            video_micros, gpu_second_micros, monthly_request_quota, stripe_price, is_hidden, created_at, updated_at)
        VALUES (:slug, :name, :requests_per_minute, :burst_per_second, :charge_method, :prompt_micros, :image_micros,
            :video_micros, :gpu_second_micros, :monthly_request_quota, :stripe_price, :is_hidden, :created_at,
            :updated_at)
        """,
        _bound(made),
    )
    audit.record(conn, actor, "plan.created", slug, reason=reason, values={**given, "name": name})
    return made


def change(conn: Connection, slug: str, changes: Changes, *, actor: str, reason: str) -> Plan:
    """The plan as it is then; at once for everybody on it, except that jobs accepted already keep their price. The
    audit line holds each value as it was and as it is. Raises NotFound or InvalidRequest."""
    before = get(conn, slug)
    after = msgspec.structs.replace(before, **_given(changes))
    _check(after)
    _check_sold_once(conn, after)
    moved = {
        name: [getattr(before, name), getattr(after, name)]
        for name in _given(changes)
        if getattr(before, name) != getattr(after, name)
    }
    if not moved:
        return before
    after = msgspec.structs.replace(after, updated_at=clock.now_ms())
    conn.execute(
        """
        UPDATE plan
        SET name = :name, requests_per_minute = :requests_per_minute, burst_per_second = :burst_per_second,
            charge_method = :charge_method, prompt_micros = :prompt_micros, image_micros = :image_micros,
            video_micros = :video_micros, gpu_second_micros = :gpu_second_micros,
            monthly_request_quota = :monthly_request_quota, stripe_price = :stripe_price, is_hidden = :is_hidden,
            updated_at = :updated_at
        WHERE slug = :slug
        """,
        _bound(after),
    )
    audit.record(conn, actor, "plan.changed", slug, reason=reason, moved=moved)
    return after


def remove(conn: Connection, slug: str, *, actor: str, reason: str) -> None:
    """Raises NotFound, and Conflict while organisations are on it or when it is the one that everybody starts on."""
    get(conn, slug)
    if slug == STANDARD:
        raise Conflict(f"The plan {STANDARD!r} is what new organisations are on; it can be changed, not removed")
    on_it = int(conn.execute("SELECT count(*) FROM organisation WHERE plan = :slug", {"slug": slug}).fetchone()[0])
    if on_it:
        raise Conflict(f"Organisations on the plan {slug!r}: {on_it}; move them to another one first, or hide it")
    conn.execute("DELETE FROM plan WHERE slug = :slug", {"slug": slug})
    audit.record(conn, actor, "plan.removed", slug, reason=reason)


def _given(changes: Changes) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET}


def _check(plan: Plan) -> None:
    """What a type cannot say. Raises InvalidRequest with the field."""
    if not 1 <= len(plan.name.strip()) <= 100:
        raise _refused("name", "has 1 to 100 characters")
    for name, least in _LIMITS.items():
        value = cast("int | None", getattr(plan, name))
        if value is not None and not least <= value <= 1_000_000:
            raise _refused(name, f"is {least} to 1,000,000, or null for what the settings say")
    if plan.monthly_request_quota is not None and not 0 <= plan.monthly_request_quota <= HIGHEST_QUOTA:
        raise _refused("monthly_request_quota", f"is 0 to {HIGHEST_QUOTA:,}, or null for as many as are sent")
    for name in _PRICES:
        if not 0 <= cast("int", getattr(plan, name)) <= HIGHEST_PRICE_MICROS:
            raise _refused(name, "is not negative, and at most a million dollars")
    if plan.stripe_price is not None and not re.fullmatch(r"price_[A-Za-z0-9_]{1,250}", plan.stripe_price):
        raise _refused("stripe_price", "is the id of a price at Stripe: price_…")


def _check_sold_once(conn: Connection, plan: Plan) -> None:
    """Or nobody could say which plan a subscription pays for. Raises InvalidRequest."""
    other = conn.execute(
        "SELECT slug FROM plan WHERE stripe_price = :price AND slug != :slug",
        {"price": plan.stripe_price, "slug": plan.slug},
    ).fetchone()
    if other is not None:
        raise _refused("stripe_price", f"is what the plan {other['slug']!r} is sold as already")


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"A plan's {field} {issue}", details=[{"field": field, "issue": issue}])


def _bound(plan: Plan) -> dict[str, object]:
    return {**msgspec.structs.asdict(plan), "charge_method": plan.charge_method.value}


def _plan(row: Row) -> Plan:
    return msgspec.convert({**dict(row), "is_hidden": bool(row["is_hidden"])}, Plan)
