"""An organisation as its administrator sees it: what is set for it, what then holds, and what it has left."""

import msgspec

from appliance import clock
from appliance.accounts import plans
from appliance.accounts.organisations import Organisation
from appliance.billing import ledger, money
from appliance.database import Connection
from appliance.settings import Settings


class Effective(msgspec.Struct, frozen=True):
    """What holds, once the organisation's own word, its plan and the settings are asked in this order."""

    rate_limit_per_minute: int
    burst_per_second: int
    charge_method: str
    retain_prompts_days: int


class Overview(msgspec.Struct, frozen=True):
    """What is null is not set for this organisation itself; `effective` says what then holds."""

    id: str
    name: str
    status: str
    status_reason: str | None
    rate_limit_per_minute: int | None
    burst_per_second: int | None
    charge_method: str | None
    retain_prompts_days: int | None
    plan: str
    balance_usd: float
    created_at: str
    effective: Effective


def of(conn: Connection, settings: Settings, one: Organisation) -> Overview:
    terms = plans.terms(conn, one.id)
    limits = settings.limits
    return Overview(
        id=one.id,
        name=one.name,
        status=one.status.value,
        status_reason=one.status_reason,
        rate_limit_per_minute=one.requests_per_minute,
        burst_per_second=one.burst_per_second,
        charge_method=one.charge_method,
        retain_prompts_days=one.retain_prompts_days,
        plan=one.plan,
        balance_usd=money.usd(ledger.balance(conn, one.id)),
        created_at=clock.rfc3339(one.created_at),
        effective=Effective(
            rate_limit_per_minute=_first(terms.requests_per_minute, limits.requests_per_minute),
            burst_per_second=_first(terms.burst_per_second, limits.burst_per_second),
            charge_method=terms.charge_method.value,
            retain_prompts_days=_first(one.retain_prompts_days, settings.retention.prompts_days),
        ),
    )


def _first(own: int | None, general: int) -> int:
    return general if own is None else own
