"""/admin/v1/orgs/{org}: OmniMod's dashboard functions but for the policies: the organisation, its keys, events, usage,
quota, plans, overview and audit lines. B.2.4 of the contract."""

from typing import Any

import msgspec
from litestar import get, patch, post
from litestar.openapi.spec import OpenAPIType

from appliance.accounts import keys, organisations
from appliance.accounts.organisations import Changes
from appliance.api import admin, admin_audit, admin_keys, allowance, events
from appliance.api.admin import ORGS, REQUIRED_REASON, Asked, OrgId, administered
from appliance.api.admin_audit import AuditBody
from appliance.api.admin_keys import KeyBody, KeyId
from appliance.api.allowance import OffersBody, OrgBody, OverviewBody, QuotaBody
from appliance.api.documents import Answer, Entry, Field
from appliance.api.door import door
from appliance.api.submission import refused
from appliance.database import Connection
from appliance.errors import NotFound
from appliance.moderations.usage import Usage

_WRITES = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_UNKNOWN = {"NOT_FOUND": "There is no such organisation"}


class ApiKeysBody(msgspec.Struct, frozen=True):
    api_keys: list[KeyBody]


CHANGE = Entry(
    id="change_org",
    tag="Admin",
    summary="Change the organisation",
    description=(
        "What is left out stays. `status` pauses it (disabled: its keys hear 403) and resumes it; `plan_tier` is a "
        "plan's slug, with its quota from this request on; a `rate_limit_per_minute` of null is as the plan says."
    ),
    answer=Answer(200, OrgBody, "The organisation as it is now.", {"paused": {**allowance.ORG, "status": "disabled"}}),
    errors=(*_WRITES, "CONFLICT"),
    messages={**_UNKNOWN, "CONFLICT": "This organisation is banned; unban it first"},
    fields=(
        Field("name", "Unlike any other's.", shortest=1, longest=200),
        Field("status", "Paused or not.", choices=("active", "disabled")),
        Field("plan_tier", "A plan's slug.", longest=40),
        Field(
            "rate_limit_per_minute",
            "All its keys together.",
            kind=OpenAPIType.INTEGER,
            least=1,
            most=1e6,
            is_nullable=True,
        ),
        REQUIRED_REASON,
    ),
    examples={"pause": {"status": "disabled", "reason": "Invoice unpaid"}},
)
_LISTED = msgspec.to_builtins(admin_keys.LIST.answer.examples)["one"]["keys"]
KEYS = msgspec.structs.replace(
    admin_keys.LIST,
    id="list_api_keys",
    summary="List the organisation's keys",
    answer=Answer(200, ApiKeysBody, "The keys.", {"one": {"api_keys": _LISTED}}),
)
CREATE_KEY = msgspec.structs.replace(
    admin_keys.CREATE,
    id="create_api_key",
    summary="Create a key of the organisation",
    description=(
        "The answer holds the key, this once. Without `scopes` it gets its surface's default ones; the surface is "
        "omnimod where none is named."
    ),
    fields=(
        *(
            msgspec.structs.replace(field, default="omnimod") if field.name == "surface" else field
            for field in admin_keys.CREATE.fields
            if field.name != "reason"
        ),
        REQUIRED_REASON,
    ),
    examples={"test": {"name": "staging", "environment": "test", "reason": "Asked for by mail"}},
    links=(),
)
ROTATE_KEY = msgspec.structs.replace(admin_keys.ROTATE, id="rotate_api_key", summary="Rotate a key of the organisation")
REVOKE_KEY = msgspec.structs.replace(admin_keys.REVOKE, id="revoke_api_key", summary="Revoke a key of the organisation")
AUDIT = msgspec.structs.replace(
    admin_audit.LIST,
    id="list_org_audit",
    summary="Read the organisation's audit lines",
    query=tuple(field for field in admin_audit.LIST.query if field.name != "client_id"),
)

_ONE = f"{ORGS}/{{org:str}}"
_KEYS = f"{_ONE}/api-keys"


@get(f"{_ONE}/org", **administered(allowance.READ_ORG))
async def get_org(request: Asked, org: OrgId) -> OrgBody:
    there = door(request)
    return allowance.org_of(there.house.db.reader(), there.house.settings, org)


@patch(f"{_ONE}/org", **administered(CHANGE))
async def change_org(request: Asked, org: OrgId) -> OrgBody:
    there = door(request)
    given = await admin.given(request)
    reason, actor = admin.why(request, given), request.user.actor
    status = admin.maybe_string(given, "status")
    if status not in (None, "active", "disabled"):
        raise refused("status", "must be active or disabled")
    found: dict[str, Any] = {}
    if (name := admin.maybe_string(given, "name")) is not None:
        found["name"] = name
    if (plan := admin.maybe_string(given, "plan_tier")) is not None:
        found["plan"] = plan
    if "rate_limit_per_minute" in given:
        found["requests_per_minute"] = admin.whole(given, "rate_limit_per_minute")

    def change(conn: Connection) -> OrgBody:
        if status is not None:
            act = organisations.enable if status == "active" else organisations.disable
            act(conn, org, actor=actor, reason=reason)
        organisations.change(conn, org, Changes(**found), actor=actor, reason=reason)
        return allowance.org_of(conn, there.house.settings, org)

    return await there.house.db.write_async(change)


@get(_KEYS, **administered(KEYS))
async def list_api_keys(request: Asked, org: OrgId) -> ApiKeysBody:
    conn = _reader(request, org)
    return ApiKeysBody([admin_keys.body(key) for key in keys.every(conn, org)])


@post(_KEYS, status_code=201, **administered(CREATE_KEY))
async def create_api_key(request: Asked, org: OrgId) -> KeyBody:
    given = await admin.given(request)
    return await admin_keys.created(request, given, org, admin.why(request, given), surface="omnimod")


@post(f"{_KEYS}/{{key_id:str}}/rotate", status_code=201, **administered(ROTATE_KEY))
async def rotate_api_key(request: Asked, org: OrgId, key_id: KeyId) -> KeyBody:
    _check_owner(request, org, key_id)
    return await admin_keys.rotated(request, key_id)


@post(f"{_KEYS}/{{key_id:str}}/revoke", status_code=200, **administered(REVOKE_KEY))
async def revoke_api_key(request: Asked, org: OrgId, key_id: KeyId) -> KeyBody:
    _check_owner(request, org, key_id)
    return await admin_keys.revoked(request, key_id)


@get(f"{_ONE}/events", **administered(events.LIST))
async def list_events(request: Asked, org: OrgId) -> events.EventsBody:
    _reader(request, org)
    return await events.listed(request, org)


@get(f"{_ONE}/events/{{event:str}}", **administered(events.READ))
async def get_event(request: Asked, org: OrgId, event: events.EventId) -> events.DetailBody:
    return events.one(door(request), org, event)


@get(f"{_ONE}/usage", **administered(allowance.USAGE))
async def get_moderation_usage(request: Asked, org: OrgId) -> Usage:
    _reader(request, org)
    return allowance.used(request, org)


@get(f"{_ONE}/quota", **administered(allowance.QUOTA))
async def get_quota(request: Asked, org: OrgId) -> QuotaBody:
    return allowance.quota_of(door(request).house.db.reader(), org)


@get(f"{_ONE}/plans", **administered(allowance.PLANS))
async def list_offered_plans(request: Asked, org: OrgId) -> OffersBody:
    return allowance.offers(door(request), org)


@get(f"{_ONE}/overview", **administered(allowance.OVERVIEW))
async def get_overview(request: Asked, org: OrgId) -> OverviewBody:
    return await allowance.overview(door(request), org)


@get(f"{_ONE}/audit", **administered(AUDIT))
async def list_org_audit(request: Asked, org: OrgId) -> AuditBody:
    _reader(request, org)
    return await admin_audit.listed(request, org)


ROUTES = [
    get_org,
    change_org,
    list_api_keys,
    create_api_key,
    rotate_api_key,
    revoke_api_key,
    list_events,
    get_event,
    get_moderation_usage,
    get_quota,
    list_offered_plans,
    get_overview,
    list_org_audit,
]


def _reader(request: Asked, org: str) -> Connection:
    """To read of an organisation that there is. Raises NotFound."""
    conn = door(request).house.db.reader()
    organisations.get(conn, org)
    return conn


def _check_owner(request: Asked, org: str, key_id: str) -> None:
    """Raises NotFound."""
    if keys.get(_reader(request, org), key_id).org_id != org:
        raise NotFound("There is no such key")
