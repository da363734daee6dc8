"""/api/v1/admin/clients/{id}/keys and /api/v1/admin/keys/{id}: a client's keys, made, rotated and revoked."""

from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec
from litestar import get, post
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance import clock
from appliance.accounts import keys, organisations, scopes
from appliance.accounts.keys import Key
from appliance.api import admin
from appliance.api.admin import REASON, REQUIRED_REASON, ROOT, Asked, administered
from appliance.api.admin_clients import ClientId
from appliance.api.documents import Answer, Entry, Field, Link
from appliance.api.door import door
from appliance.api.shapes import Moment, Uuid
from appliance.api.submission import refused


class KeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """A key; `key`, the key itself, is there only in the answer that made it."""

    key: str | msgspec.UnsetType = msgspec.UNSET
    id: Uuid
    client_id: Uuid
    name: str
    prefix: str
    scopes: list[str]
    surface: str
    environment: str
    created_at: Moment
    last_used_at: Moment | None
    expires_at: Moment | None
    revoked_at: Moment | None
    rotated_from: Uuid | None


class KeysBody(msgspec.Struct, frozen=True):
    keys: list[KeyBody]


_KEY: dict[str, Any] = {
    "id": "3f0c6f5e-8c1f-4a4c-9a3c-3b6a4e2d9f11",
    "client_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "name": "production",
    "prefix": "stars_Ab3dEf",
    "scopes": list(scopes.STARS_DEFAULT),
    "surface": "stars",
    "environment": "live",
    "created_at": "2026-05-19T12:00:00.000Z",
    "last_used_at": None,
    "expires_at": None,
    "revoked_at": None,
    "rotated_from": None,
}
_NEW = {"key": "stars_…", **_KEY}
_Scope = Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*scopes.ALL]})]
_LONGEST_GRACE_S = 31_536_000  # a year
_WRITES = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_NO_CLIENT = {"NOT_FOUND": "There is no such organisation"}
_NO_KEY = {"NOT_FOUND": "There is no such key"}

LIST = Entry(
    id="list_client_keys",
    tag="Admin",
    summary="List a client's keys",
    description="Newest first, the revoked ones too. Only prefixes are known.",
    answer=Answer(200, KeysBody, "The keys.", {"one": {"keys": [_KEY]}}),
    messages=_NO_CLIENT,
)
CREATE = Entry(
    id="create_client_key",
    tag="Admin",
    summary="Create a key",
    description="The answer holds the key, this once. Without `scopes` it gets its surface's default ones.",
    answer=Answer(201, KeyBody, "The key.", {"new": _NEW}),
    errors=_WRITES,
    messages=_NO_CLIENT,
    fields=(
        Field("name", "What it is for.", is_required=True, shortest=1, longest=200),
        Field("scopes", f"What it may do, of: {', '.join(scopes.ALL)}.", shape=list[_Scope]),
        Field("surface", "Whose key it looks like.", choices=tuple(scopes.DEFAULT), default="stars"),
        Field("environment", "Shown in an OmniMod key.", choices=("live", "test"), default="live"),
        Field("expires_at", "Refused from then on; null: never.", format="date-time", is_nullable=True),
        REASON,
    ),
    examples={"default scopes": {"name": "production"}},
    links=(
        Link("rotate_key", {"key_id": "$response.body#/id"}, "Put another in its place.", {"reason": "Yearly"}),
        Link("revoke_key", {"key_id": "$response.body#/id"}, "End it.", {"reason": "It leaked"}),
        Link("list_client_keys", {"client_id": "$response.body#/client_id"}, "See it among the others."),
    ),
)
ROTATE = Entry(
    id="rotate_key",
    tag="Admin",
    summary="Rotate a key",
    description="A new key with the old one's name, scopes and expiry; the old one dies now, or after the grace.",
    answer=Answer(201, KeyBody, "The new key.", {"new": {**_NEW, "rotated_from": _KEY["id"]}}),
    errors=_WRITES,
    messages=_NO_KEY,
    fields=(
        Field(
            "grace_seconds",
            "For so long the old key still works.",
            kind=OpenAPIType.INTEGER,
            least=0,
            most=_LONGEST_GRACE_S,
            default=0,
        ),
        REQUIRED_REASON,
    ),
    examples={"a day's grace": {"grace_seconds": 86400, "reason": "Yearly rotation"}},
)
REVOKE = Entry(
    id="revoke_key",
    tag="Admin",
    summary="Revoke a key",
    description="Refused from now on, in every process at once. Again changes nothing.",
    answer=Answer(200, KeyBody, "The key.", {"revoked": {**_KEY, "revoked_at": "2026-05-20T09:30:00.000Z"}}),
    errors=_WRITES,
    messages=_NO_KEY,
    fields=(REQUIRED_REASON,),
    examples={"leaked": {"reason": "Leaked in a public repository"}},
)

KeyId = Annotated[str, PathParameter(description="The `id` of the key.", schema_extra={"format": "uuid"})]

_OF_CLIENT = f"{ROOT}/clients/{{client_id:str}}/keys"
_ONE = f"{ROOT}/keys/{{key_id:str}}"


@get(_OF_CLIENT, **administered(LIST))
async def list_client_keys(request: Asked, client_id: ClientId) -> KeysBody:
    conn = door(request).house.db.reader()
    organisations.get(conn, client_id)
    return KeysBody(keys=[body(key) for key in keys.every(conn, client_id)])


@post(_OF_CLIENT, status_code=201, **administered(CREATE))
async def create_client_key(request: Asked, client_id: ClientId) -> KeyBody:
    given = await admin.given(request)
    return await created(request, given, client_id, admin.maybe_why(request, given), surface="stars")


@post(f"{_ONE}/rotate", status_code=201, **administered(ROTATE))
async def rotate_key(request: Asked, key_id: KeyId) -> KeyBody:
    return await rotated(request, key_id)


@post(f"{_ONE}/revoke", status_code=200, **administered(REVOKE))
async def revoke_key(request: Asked, key_id: KeyId) -> KeyBody:
    return await revoked(request, key_id)


ROUTES = [list_client_keys, create_client_key, rotate_key, revoke_key]


async def created(
    request: Asked, given: dict[str, Any], client_id: str, reason: str | None, *, surface: str
) -> KeyBody:
    """What CREATE says; `surface` where nothing is said of it."""
    house = door(request).house
    name = admin.string(given, "name")
    granted, expires_at = _scopes(given), _expiry(given)
    surface = admin.maybe_string(given, "surface") or surface
    environment = admin.maybe_string(given, "environment") or "live"

    issued = await house.db.write_async(
        lambda conn: keys.issue(
            conn,
            house.pepper,
            client_id,
            name,
            granted,
            actor=request.user.actor,
            reason=reason,
            surface=surface,
            environment=environment,
            expires_at=expires_at,
        )
    )
    return body(issued.key, issued.raw)


async def rotated(request: Asked, key_id: str) -> KeyBody:
    """What ROTATE says."""
    house = door(request).house
    given = await admin.given(request)
    reason = admin.why(request, given)
    grace_s = (admin.whole(given, "grace_seconds") if "grace_seconds" in given else None) or 0
    if not 0 <= grace_s <= _LONGEST_GRACE_S:
        raise refused("grace_seconds", f"must be 0 to {_LONGEST_GRACE_S:,}")
    key, raw = await house.db.write_async(
        lambda conn: keys.rotate(conn, house.pepper, key_id, actor=request.user.actor, grace_s=grace_s, reason=reason)
    )
    return body(key, raw)


async def revoked(request: Asked, key_id: str) -> KeyBody:
    """What REVOKE says."""
    db = door(request).house.db
    reason = admin.why(request, await admin.given(request))
    await db.write_async(lambda conn: keys.revoke(conn, key_id, actor=request.user.actor, reason=reason))
    return body(keys.get(db.reader(), key_id))


def _scopes(given: dict[str, Any]) -> tuple[str, ...]:
    """Raises InvalidRequest; keys.create says which one is unknown."""
    names = given.get("scopes")
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
        raise refused("scopes", "must be a list of strings")
    return tuple(cast("list[str]", names))


def _expiry(given: dict[str, Any]) -> int | None:
    """Milliseconds since the epoch. Raises InvalidRequest."""
    value = admin.maybe_string(given, "expires_at")
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        expires_at = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise refused("expires_at", "must be a moment as ISO 8601 writes it, e.g. 2026-05-19T12:00:00Z") from None
    if expires_at <= clock.now_ms():
        raise refused("expires_at", "has passed already")
    return expires_at


def body(key: Key, raw: str | None = None) -> KeyBody:
    return KeyBody(
        key=raw or msgspec.UNSET,
        id=key.id,
        client_id=key.org_id,
        name=key.name,
        prefix=key.prefix,
        scopes=list(key.scopes),
        surface=key.surface,
        environment=key.environment,
        created_at=clock.rfc3339(key.created_at),
        last_used_at=_when(key.last_used_at),
        expires_at=_when(key.expires_at),
        revoked_at=_when(key.revoked_at),
        rotated_from=key.rotated_from,
    )


def _when(ms: int | None) -> str | None:
    return None if ms is None else clock.rfc3339(ms)
