"""/api/v1/admin/clients: the organisations, what holds for each, banning and unbanning, credit given by hand."""

from typing import Annotated, Any

import msgspec
from litestar import Response, get, post, put
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance import audit, clock
from appliance.accounts import organisations
from appliance.accounts.organisations import Changes, Organisation, Standing
from appliance.accounts.plans import ChargeMethod
from appliance.api import admin, idempotency, query
from appliance.api.admin import REASON, REQUIRED_REASON, ROOT, Asked, administered
from appliance.api.documents import Answer, Entry, Field, Link
from appliance.api.door import Door, door
from appliance.api.shapes import Moment, Uuid
from appliance.api.submission import refused
from appliance.billing import ledger, money, overview
from appliance.billing.ledger import EntryType
from appliance.billing.overview import Effective
from appliance.database import Connection
from appliance.errors import IdempotencyKeyReused


class ClientBody(msgspec.Struct, frozen=True):
    """What is null is not set for this client itself; `effective` says what then holds."""

    id: Uuid
    name: str
    status: str
    status_reason: str | None
    rate_limit_per_minute: int | None
    burst_per_second: int | None
    charge_method: str | None
    retain_prompts_days: int | None
    plan: str
    balance_usd: float
    created_at: Moment
    effective: Effective


class ClientsBody(msgspec.Struct, frozen=True):
    clients: list[ClientBody]
    total: int
    limit: int
    offset: int


class CreditBody(msgspec.Struct, frozen=True):
    record_id: Uuid
    client_id: Uuid
    amount_usd: float
    balance_usd: float
    created_at: Moment


_CLIENT: dict[str, Any] = {
    "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "name": "acme",
    "status": "active",
    "status_reason": None,
    "rate_limit_per_minute": None,
    "burst_per_second": None,
    "charge_method": None,
    "retain_prompts_days": None,
    "plan": "standard",
    "balance_usd": 25.0,
    "created_at": "2026-05-19T12:00:00.000Z",
    "effective": {
        "rate_limit_per_minute": 60,
        "burst_per_second": 0,
        "charge_method": "none",
        "retain_prompts_days": 30,
    },
}
_BANNED = {**_CLIENT, "status": "terminated", "status_reason": "Repeated abuse, ticket 4711"}
_WRITES = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_TAKEN = {"CONFLICT": "There is an organisation named 'acme' already"}
_UNKNOWN = {"NOT_FOUND": "There is no such organisation"}

_SHOWN_REASON = 200
_METHODS = tuple(method.value for method in ChargeMethod)
_STANDINGS = tuple(standing.value for standing in Standing)
_INTEGER = OpenAPIType.INTEGER
_SETTABLE = (
    Field("plan", "A plan's slug.", longest=40),
    Field("rate_limit_per_minute", "null: as the plan says.", kind=_INTEGER, least=1, most=1e6, is_nullable=True),
    Field("burst_per_second", "0: none. null: as the plan says.", kind=_INTEGER, least=0, most=1e6, is_nullable=True),
    Field("charge_method", "null: as the plan says.", choices=_METHODS, is_nullable=True),
    Field("retain_prompts_days", "null: as the settings say.", kind=_INTEGER, least=0, most=36_500, is_nullable=True),
)

LIST = Entry(
    id="list_clients",
    tag="Admin",
    summary="List clients",
    description="Every organisation, by name, or with `status` those that stand so.",
    answer=Answer(
        200, ClientsBody, "The clients.", {"one": {"clients": [_CLIENT], "total": 1, "limit": 50, "offset": 0}}
    ),
    query=(admin.LIMIT, admin.OFFSET, Field("status", "Only these.", choices=_STANDINGS)),
)
CREATE = Entry(
    id="create_client",
    tag="Admin",
    summary="Create a client",
    description="An organisation. Make it a key next.",
    answer=Answer(201, ClientBody, "The client.", {"new": _CLIENT}),
    errors=(*_WRITES, "CONFLICT"),
    has_idempotency=True,
    messages=_TAKEN,
    fields=(Field("name", "Unlike any other's.", is_required=True, shortest=1, longest=200), *_SETTABLE, REASON),
    examples={"plain": {"name": "acme"}},
    links=(
        Link("get_client", {"client_id": "$response.body#/id"}, "Read it."),
        Link("change_client", {"client_id": "$response.body#/id"}, "Change it."),
        Link("ban_client", {"client_id": "$response.body#/id"}, "Let it in no more.", {"reason": "Abuse"}),
        Link("unban_client", {"client_id": "$response.body#/id"}, "Let it in again.", {"reason": "Settled"}),
        Link("create_client_key", {"client_id": "$response.body#/id"}, "Make it a key.", {"name": "production"}),
    ),
)
READ = Entry(
    id="get_client",
    tag="Admin",
    summary="Get a client",
    description="The organisation as it stands.",
    answer=Answer(200, ClientBody, "The client.", {"active": _CLIENT, "banned": _BANNED}),
    messages=_UNKNOWN,
)
CHANGE = Entry(
    id="change_client",
    tag="Admin",
    summary="Change a client",
    description=(
        "What is left out stays as it is; null sets a value back to what the plan or the settings say. It holds for "
        "all the client's keys at once. `status` pauses (disabled) and resumes (active); banning has its own route."
    ),
    answer=Answer(200, ClientBody, "The client as it is now.", {"changed": {**_CLIENT, "rate_limit_per_minute": 600}}),
    errors=(*_WRITES, "CONFLICT"),
    messages={**_TAKEN, **_UNKNOWN},
    fields=(
        Field("name", "Unlike any other's.", shortest=1, longest=200),
        Field("status", "Paused or not.", choices=("active", "disabled")),
        *_SETTABLE,
        REQUIRED_REASON,
    ),
    examples={"limit": {"rate_limit_per_minute": 600, "reason": "Agreed on the phone"}},
)
BAN = Entry(
    id="ban_client",
    tag="Admin",
    summary="Ban a client",
    description=(
        "From now on every route answers ACCOUNT_TERMINATED to any of its keys, in every process, and its open streams "
        "end. What was accepted before is finished. Again changes nothing."
    ),
    answer=Answer(200, ClientBody, "The client is banned.", {"banned": _BANNED}),
    errors=_WRITES,
    messages=_UNKNOWN,
    fields=(REQUIRED_REASON,),
    examples={"ban": {"reason": "Repeated abuse, ticket 4711"}},
)
UNBAN = Entry(
    id="unban_client",
    tag="Admin",
    summary="Unban a client",
    description="Its keys are good again, as they were.",
    answer=Answer(200, ClientBody, "The client is active.", {"active": _CLIENT}),
    errors=(*_WRITES, "CONFLICT"),
    messages={**_UNKNOWN, "CONFLICT": "This organisation is active, not banned"},
    fields=(REQUIRED_REASON,),
    examples={"unban": {"reason": "Appeal upheld"}},
)
CREDIT = Entry(
    id="credit_client",
    tag="Admin",
    summary="Credit a client",
    description=(
        "Adds to the balance, as a `credit` record. With an `Idempotency-Key` it is added once for good, even when its "
        "answer is no longer kept."
    ),
    answer=Answer(
        201,
        CreditBody,
        "The record.",
        {
            "credited": {
                "record_id": "6ff0c4a6-31c1-44a6-9a38-7a4b9d0a4c11",
                "client_id": _CLIENT["id"],
                "amount_usd": 25.0,
                "balance_usd": 25.0,
                "created_at": "2026-05-19T12:00:00.000Z",
            }
        },
    ),
    errors=_WRITES,
    has_idempotency=True,
    messages=_UNKNOWN,
    fields=(
        Field(
            "amount_usd",
            "Dollars, at most six decimals; a number or a numeric string. More than 0.",
            is_required=True,
            kind=OpenAPIType.NUMBER,
        ),
        msgspec.structs.replace(
            REQUIRED_REASON, description="Why; kept in the audit log, and shown to the client.", longest=_SHOWN_REASON
        ),
    ),
    examples={"goodwill": {"amount_usd": 25, "reason": "Goodwill, ticket 4711"}},
)

ClientId = Annotated[str, PathParameter(description="The `id` of the client.", schema_extra={"format": "uuid"})]

_PATH = f"{ROOT}/clients"
_ONE = f"{_PATH}/{{client_id:str}}"


@get(_PATH, **administered(LIST))
async def list_clients(request: Asked) -> ClientsBody:
    there = door(request)
    limit, offset = admin.paging(request)
    status = query.sent(request, "status")
    if status is not None and status not in _STANDINGS:
        raise refused("status", f"must be one of {', '.join(_STANDINGS)}")
    standing = None if status is None else Standing(status)
    found, total = organisations.page(there.house.db.reader(), limit=limit, offset=offset, status=standing)
    return ClientsBody(clients=[_body(there, one) for one in found], total=total, limit=limit, offset=offset)


@post(_PATH, status_code=201, **administered(CREATE))
async def create_client(request: Asked) -> Response[ClientBody]:
    there = door(request)
    given = await admin.given(request)
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer
        name, reason = admin.string(given, "name"), admin.maybe_why(request, given)
        changes = _changes({key: value for key, value in given.items() if key != "name"})
        actor = request.user.actor

        def change(conn: Connection) -> ClientBody:
            made = organisations.create_with(conn, name, changes, actor=actor, reason=reason)
            return _body_in(conn, there, made)

        return await asked.done(change)


@get(_ONE, **administered(READ))
async def get_client(request: Asked, client_id: ClientId) -> ClientBody:
    there = door(request)
    return _body(there, organisations.get(there.house.db.reader(), client_id))


@put(_ONE, **administered(CHANGE))
async def change_client(request: Asked, client_id: ClientId) -> ClientBody:
    there = door(request)
    actor = request.user.actor
    given = await admin.given(request)
    changes, reason = _changes(given), admin.why(request, given)
    status = admin.maybe_string(given, "status")
    if status not in (None, "active", "disabled"):
        raise refused("status", "must be active or disabled; to ban, POST to the client's /ban")

    def change(conn: Connection) -> Organisation:
        if status is not None:
            act = organisations.enable if status == "active" else organisations.disable
            act(conn, client_id, actor=actor, reason=reason)
        return organisations.change(conn, client_id, changes, actor=actor, reason=reason)

    return _body(there, await there.house.db.write_async(change))


@post(f"{_ONE}/ban", status_code=200, **administered(BAN))
async def ban_client(request: Asked, client_id: ClientId) -> ClientBody:
    there = door(request)
    reason = admin.why(request, await admin.given(request))
    actor = request.user.actor
    return _body(
        there,
        await there.house.db.write_async(lambda conn: organisations.ban(conn, client_id, actor=actor, reason=reason)),
    )


@post(f"{_ONE}/unban", status_code=200, **administered(UNBAN))
async def unban_client(request: Asked, client_id: ClientId) -> ClientBody:
    there = door(request)
    reason = admin.why(request, await admin.given(request))
    actor = request.user.actor
    return _body(
        there,
        await there.house.db.write_async(lambda conn: organisations.unban(conn, client_id, actor=actor, reason=reason)),
    )


@post(f"{_ONE}/credit", status_code=201, **administered(CREDIT))
async def credit_client(request: Asked, client_id: ClientId) -> Response[CreditBody]:
    given = await admin.given(request)
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer
        reason = admin.why(request, given)
        if len(reason) > _SHOWN_REASON:
            raise refused("reason", f"has at most {_SHOWN_REASON} characters; the client reads it")
        if "amount_usd" not in given:
            raise refused("amount_usd", "is required")
        micros = money.parse(given["amount_usd"], "amount_usd")
        if micros == 0:
            raise refused("amount_usd", "must be more than 0")
        actor, key = request.user.actor, request.headers.get("idempotency-key")
        source = ("manual", asked.work_id if key is None else f"{client_id}:{key}")

        def change(conn: Connection) -> CreditBody:
            name = organisations.get(conn, client_id).name
            entry = ledger.post(
                conn, client_id, EntryType.CREDIT, micros, source=source, description=reason, now=clock.now_ms()
            )
            if entry is None:  # credited before, longer ago than answers are kept
                raise IdempotencyKeyReused
            audit.record(
                conn,
                actor,
                "billing.credited",
                name,
                org_id=client_id,
                reason=reason,
                amount_micros=micros,
                entry=entry.id,
            )
            return CreditBody(
                record_id=entry.id,
                client_id=client_id,
                amount_usd=money.usd(entry.amount_micros),
                balance_usd=money.usd(entry.balance_micros),
                created_at=clock.rfc3339(entry.created_at),
            )

        return await asked.done(change)


ROUTES = [list_clients, create_client, get_client, change_client, ban_client, unban_client, credit_client]


def _changes(given: dict[str, Any]) -> Changes:
    """A null counts as left out for the name and the plan. Raises InvalidRequest."""
    found: dict[str, Any] = {
        name: value for name in ("name", "plan") if (value := admin.maybe_string(given, name)) is not None
    }
    for name, ours in (
        ("rate_limit_per_minute", "requests_per_minute"),
        ("burst_per_second", "burst_per_second"),
        ("retain_prompts_days", "retain_prompts_days"),
    ):
        if name in given:
            found[ours] = admin.whole(given, name)
    if "charge_method" in given:
        method = admin.maybe_string(given, "charge_method")
        if method is not None and method not in _METHODS:
            raise refused("charge_method", f"must be one of {', '.join(_METHODS)}, or null")
        found["charge_method"] = None if method is None else ChargeMethod(method)
    return Changes(**found)


def _body(there: Door, one: Organisation) -> ClientBody:
    return _body_in(there.house.db.reader(), there, one)


def _body_in(conn: Connection, there: Door, one: Organisation) -> ClientBody:
    found = overview.of(conn, there.house.settings, one)
    return ClientBody(**{name: getattr(found, name) for name in found.__struct_fields__})
