"""The administrator's routes: who may use them, and what they have in common. B.1.4 and B.2.4 of the contract.

They are answered at the operators' socket, where the Unix user is the actor, and on the network only when
server.admin_on_network says so: then a key with the scope admin:config is. Every change takes a reason, and leaves a
line in the audit log in its own transaction.
"""

import re
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance.accounts.keys import Caller
from appliance.api import form, operators, query
from appliance.api.auth import recognised
from appliance.api.documents import Entry, Field, operation
from appliance.api.door import door
from appliance.api.submission import refused
from appliance.errors import NotFound

SCOPE = "admin:config"
ROOT = "/api/v1/admin"
ORGS = "/admin/v1/orgs"
"""Where OmniMod's dashboard functions are, by organisation: B.2.4 of the contract."""
NOTHING = "There is nothing at this path; see /schema for what there is"

# the router passes over slashes that are doubled
_OURS = re.compile("|".join("/+".join(root.split("/")) + "/" for root in (ROOT, ORGS)))
_REASON_LENGTH = 1000
_LARGEST = 2**63 - 1  # that SQLite holds


class Operator(msgspec.Struct, frozen=True):
    """A Unix user at the operators' socket."""

    name: str
    org_id: str | None = None

    @property
    def actor(self) -> str:
        return f"operator:{self.name}"

    @property
    def key_prefix(self) -> str:
        """Who stands in the log of requests, where a key's prefix would."""
        return self.actor


Asked = Request[Operator | Caller, Any, Any]

OrgId = Annotated[str, PathParameter(description="The `id` of the organisation.", schema_extra={"format": "uuid"})]

REASON = Field("reason", "Why; kept in the audit log.", longest=_REASON_LENGTH)
REQUIRED_REASON = msgspec.structs.replace(REASON, is_required=True, shortest=1, pattern=r"\S")


def administered(entry: Entry, *, never_null: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments of a route's decorator, as `operation` gives them, with this surface's guard, tag and scope. A
    member that may be left out may be null as well, unless it is named in `never_null`."""
    optional = [
        msgspec.structs.replace(field, is_nullable=not (field.is_required or field.name in never_null or field.shape))
        for field in entry.fields
    ]
    entry = msgspec.structs.replace(
        entry,
        fields=tuple(optional),
        tag="Admin",
        scope=SCOPE,
        errors=tuple(dict.fromkeys((*entry.errors, "NOT_FOUND"))),
        is_json_only=True,
        is_for_operators=True,
    )
    return {**operation(entry), "guards": [admitted]}


async def admitted(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """An operator at the socket, or a key with the scope where the network is let in. Raises NotFound elsewhere, as for
    a path that is not there."""
    await found(connection, handler)
    name = operators.operator(connection.scope)
    if name is not None:
        connection.scope["user"] = Operator(name)
    else:
        await recognised(connection, handler)


async def found(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """The administrator's paths are there for whoever asks here. Raises NotFound, as for a path that is not."""
    if is_hidden(connection):
        raise NotFound(NOTHING)


def is_hidden(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """The path is the administrator's, and asked for on a network that is not let in."""
    return (
        _OURS.match(connection.scope["path"]) is not None
        and operators.operator(connection.scope) is None
        and not door(connection).house.settings.server.admin_on_network
    )


async def given(request: Asked) -> dict[str, Any]:
    """The body's members; none when there is no body. Raises InvalidRequest, PayloadTooLarge or UnsupportedMedia."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return {}
    return await form.json_object(request)


async def closed(request: Asked, entry: Entry) -> dict[str, Any]:
    """The body, without a member that this route does not know: a slip of the pen must not pass for a change. Raises
    InvalidRequest."""
    members = await given(request)
    known = [field.name for field in entry.fields]
    unknown = [name for name in members if name not in known]
    if unknown:
        raise refused(unknown[0], f"is not known here; there are: {', '.join(known)}")
    return members


def why(request: Asked, members: dict[str, Any]) -> str:
    """The reason, which this change needs. Raises InvalidRequest."""
    reason = maybe_why(request, members)
    if reason is None:
        raise refused("reason", "is required; it is kept in the audit log")
    return reason


def maybe_why(request: Asked, members: dict[str, Any]) -> str | None:
    """The reason from the body, or from the query where a client sends no body with a DELETE. Raises InvalidRequest."""
    reason = members.get("reason", request.query_params.get("reason"))
    if reason is None:
        return None
    if not isinstance(reason, str):
        raise refused("reason", "must be a string")
    reason = reason.strip()
    if len(reason) > _REASON_LENGTH:
        raise refused("reason", f"has at most {_REASON_LENGTH:,} characters")
    return reason or None


def string(members: dict[str, Any], name: str) -> str:
    """A member that must be there. Raises InvalidRequest."""
    value = maybe_string(members, name)
    if value is None:
        raise refused(name, "is required")
    return value


def maybe_string(members: dict[str, Any], name: str) -> str | None:
    """None when it is not there, or null. Raises InvalidRequest."""
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise refused(name, "must be a string")
    return value


def whole(members: dict[str, Any], name: str) -> int | None:
    """A whole number, or None for null; 60.0 is one, as JSON has a single kind of number. Raises InvalidRequest."""
    value = members[name]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST):
        raise refused(name, "must be a whole number or null")
    return value


def flag(members: dict[str, Any], name: str) -> bool | None:
    """None when it is not there, or null. Raises InvalidRequest."""
    value = members.get(name)
    if value is not None and not isinstance(value, bool):
        raise refused(name, "must be true or false")
    return value


LIMIT = Field("limit", "How many to answer.", kind=OpenAPIType.INTEGER, least=1, most=100, default=50)
OFFSET = Field("offset", "How many to pass over.", kind=OpenAPIType.INTEGER, least=0, most=999_999_999, default=0)


def paging(request: Asked) -> tuple[int, int]:
    """limit and offset. Raises InvalidRequest."""
    return query.whole(request, "limit", 50, 1, 100), query.whole(request, "offset", 0, 0, 999_999_999)
