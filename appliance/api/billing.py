"""GET /api/v1/billing/balance and /records: what is left, and every entry of the ledger. B.1 12 and 13."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, get
from litestar.openapi.spec import OpenAPIType

from appliance import clock
from appliance.accounts import plans
from appliance.accounts.keys import Caller
from appliance.api import query
from appliance.api.documents import Answer, Entry, Field, Link, operation
from appliance.api.door import Door, door
from appliance.billing import autotopup, cursor, ledger, money
from appliance.billing.ledger import EntryType
from appliance.errors import InvalidRequest, NotFound

AnyRequest = Request[Caller, Any, Any]

MOST = 100
_DEFAULT = 50
_TYPES = tuple(type.value for type in EntryType)


class Balance(msgspec.Struct, frozen=True):
    """What is left. Submissions are refused with 402 at zero and below, where they are charged."""

    balance_usd: float
    charge_method: str
    currency: str
    auto_topup_enabled: bool
    updated_at: str | None
    """Of the newest entry; null when there is none."""


class Record(msgspec.Struct, frozen=True):
    """One entry of the ledger. `charge` and `stripe_refund` are negative."""

    record_id: str
    type: str
    amount_usd: float
    balance_after_usd: float
    job_id: str | None
    modality: str | None
    description: str
    created_at: str


class Records(msgspec.Struct, frozen=True):
    """Newest first. `next_cursor` is null on the last page."""

    records: list[Record]
    next_cursor: str | None


_CHARGE: dict[str, Any] = {
    "record_id": "5d0e2a52-3b7c-4b0a-9f4e-0c9f7b1de5aa",
    "type": "charge",
    "amount_usd": -0.0008,
    "balance_after_usd": 12.3392,
    "job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "modality": "prompt",
    "description": "Prompt moderation",
    "created_at": "2026-05-19T12:00:00.000Z",
}
_CREDIT: dict[str, Any] = {
    "record_id": "9a8f1c70-6f0e-4f57-8f53-4f0d5a7f2b11",
    "type": "credit",
    "amount_usd": 12.34,
    "balance_after_usd": 12.34,
    "job_id": None,
    "modality": None,
    "description": "Credit by the operator",
    "created_at": "2026-05-18T09:30:00.000Z",
}

BALANCE = Entry(
    id="get_balance",
    tag="Billing",
    summary="Get balance",
    description=(
        "What is left in US dollars, and how jobs are charged: `per_job`, a price by kind as a job is accepted; "
        "`gpu_time`, the time that the models spent, as it completes; `none`, not at all."
    ),
    answer=Answer(
        200,
        Balance,
        "The balance as it is now.",
        {
            "balance": {
                "balance_usd": 12.3392,
                "charge_method": "per_job",
                "currency": "USD",
                "auto_topup_enabled": False,
                "updated_at": "2026-05-19T12:00:00.000Z",
            }
        },
    ),
)
RECORDS = Entry(
    id="list_billing_records",
    tag="Billing",
    summary="List billing records",
    description=(
        "Every entry of the ledger, newest first: `charge` for a job, `refund` of it when the job failed, `credit` for "
        "money that came in, `stripe_refund` for money that went back. A cursor says where to go on, and not what was "
        "asked for: give `type` again with it."
    ),
    answer=Answer(
        200,
        Records,
        "A page of entries.",
        {
            "page": {"records": [_CHARGE], "next_cursor": "XQ4qUjt8SwqfTgyfex3lqgAAECAwQFBgcICQoLDA0OD"},
            "last page": {"records": [_CREDIT], "next_cursor": None},
        },
    ),
    query=(
        Field("limit", "How many entries.", kind=OpenAPIType.INTEGER, least=1, most=MOST, default=_DEFAULT),
        Field("cursor", "`next_cursor` of the page before.", shortest=1),
        Field(
            "type",
            f"Only these, with commas between: {', '.join(_TYPES)}.",
            choices=_TYPES,
            is_list=True,
            example="charge,refund",
        ),
    ),
    links=(
        Link("list_billing_records", {"cursor": "$response.body#/next_cursor"}, "The next page, when there is one."),
    ),
)


@get("/api/v1/billing/balance", **operation(BALANCE))
async def get_balance(request: AnyRequest) -> Balance:
    conn = door(request).house.db.reader()
    org_id = request.user.org_id
    last = ledger.last(conn, org_id)
    return Balance(
        balance_usd=money.usd(last.balance_micros if last else 0),
        charge_method=plans.terms(conn, org_id).charge_method.value,
        currency="USD",
        auto_topup_enabled=autotopup.get(conn, org_id).enabled,
        updated_at=clock.rfc3339(last.created_at) if last else None,
    )


@get("/api/v1/billing/records", **operation(RECORDS))
async def list_billing_records(request: AnyRequest) -> Records:
    there, org_id = door(request), request.user.org_id
    limit = _limit(query.sent(request, "limit"))
    types = _types(query.sent(request, "type"))
    given = query.sent(request, "cursor")
    before = None if given is None else cursor.read(there.house.pepper, org_id, given)
    return await asyncio.to_thread(_page, there, org_id, limit, types, before)


ROUTES = [get_balance, list_billing_records]


def _page(there: Door, org_id: str, limit: int, types: list[EntryType], before: str | None) -> Records:
    try:
        found = ledger.page(there.house.db.reader(), org_id, limit=limit + 1, types=types, before=before)
    except NotFound:  # the database was put back to before that entry
        raise cursor.refusal() from None
    shown = found[:limit]
    more = len(found) > limit
    return Records(
        [_record(entry) for entry in shown], cursor.make(there.house.pepper, org_id, shown[-1].id) if more else None
    )


def _record(entry: ledger.Entry) -> Record:
    return Record(
        record_id=entry.id,
        type=entry.type.value,
        amount_usd=money.usd(entry.amount_micros),
        balance_after_usd=money.usd(entry.balance_micros),
        job_id=entry.job_id,
        modality=entry.modality,
        description=entry.description,
        created_at=clock.rfc3339(entry.created_at),
    )


def _limit(given: str | None) -> int:
    """Raises InvalidRequest."""
    if given is None:
        return _DEFAULT
    if not (given.isascii() and given.isdecimal() and len(given) <= 3 and 1 <= int(given) <= MOST):
        raise _refused("limit", f"must be a whole number from 1 to {MOST}")
    return int(given)


def _types(given: str | None) -> list[EntryType]:
    """Raises InvalidRequest."""
    if given is None:
        return []
    names = list(dict.fromkeys(given.split(",")))
    if any(name not in _TYPES for name in names):
        raise _refused("type", f"must be one or more of {', '.join(_TYPES)}, with commas between")
    return [EntryType(name) for name in names]


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])
