"""GET /api/v1/admin/audit: who changed what, and why, newest first."""

import asyncio
from typing import Any

import msgspec
from litestar import get
from litestar.openapi.spec import OpenAPIType

from appliance import audit, clock
from appliance.api import admin, query
from appliance.api.admin import ROOT, Asked, administered
from appliance.api.documents import Answer, Entry, Field
from appliance.api.door import door
from appliance.api.shapes import Moment, Uuid
from appliance.audit import Filter, Line


class LineBody(msgspec.Struct, frozen=True):
    """`detail` holds what was changed; where a value was there before, as [before, after]."""

    id: int
    at: Moment
    actor: str
    action: str
    subject: str
    client_id: Uuid | None
    reason: str | None
    detail: dict[str, Any]


class AuditBody(msgspec.Struct, frozen=True):
    lines: list[LineBody]
    next_cursor: str | None


_LINE: dict[str, Any] = {
    "id": 812,
    "at": "2026-05-19T12:00:00.000Z",
    "actor": "operator:root",
    "action": "organisation.terminated",
    "subject": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "client_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "reason": "Repeated abuse, ticket 4711",
    "detail": {},
}

LIST = Entry(
    id="list_audit",
    tag="Admin",
    summary="Read the audit log",
    description=(
        "Every administrative change, newest first. Lines are only ever added. `next_cursor` asks for the lines before "
        "the last one shown; it is null at the end, and knows nothing of the filters."
    ),
    answer=Answer(200, AuditBody, "The lines.", {"a ban": {"lines": [_LINE], "next_cursor": None}}),
    query=(
        msgspec.structs.replace(admin.LIMIT, most=500),
        Field("cursor", "The `next_cursor` of the page before.", kind=OpenAPIType.INTEGER, least=1, most=1e15),
        Field("actor", "Who: key:PREFIX or operator:NAME."),
        Field("action", "What was done, e.g. organisation.changed."),
        Field("subject", "To what: an id, a slug, a key's prefix."),
        Field("client_id", "Whom it concerned."),
        Field("from", "From this moment on, ISO 8601.", format="date-time"),
        Field("to", "Before this moment, ISO 8601.", format="date-time"),
    ),
)


@get(f"{ROOT}/audit", **administered(LIST))
async def list_audit(request: Asked) -> AuditBody:
    return await listed(request, query.sent(request, "client_id"))


ROUTES = [list_audit]


async def listed(request: Asked, org_id: str | None) -> AuditBody:
    """What the query asks for, of this organisation or of all. Raises InvalidRequest."""
    limit = query.whole(request, "limit", 50, 1, 500)
    before = query.whole(request, "cursor", 0, 1, 10**15) if query.sent(request, "cursor") is not None else None
    wanted = Filter(
        actor=query.sent(request, "actor"),
        action=query.sent(request, "action"),
        subject=query.sent(request, "subject"),
        org_id=org_id,
        since=query.moment(request, "from"),
        until=query.moment(request, "to"),
    )
    db = door(request).house.db
    found = await asyncio.to_thread(lambda: audit.page(db.reader(), wanted, before=before, limit=limit + 1))
    more = len(found) > limit
    return AuditBody(
        lines=[_body(line) for line in found[:limit]], next_cursor=str(found[limit - 1].id) if more else None
    )


def _body(line: Line) -> LineBody:
    return LineBody(
        id=line.id,
        at=clock.rfc3339(line.at),
        actor=line.actor,
        action=line.action,
        subject=line.subject,
        client_id=line.org_id,
        reason=line.reason,
        detail=line.detail,
    )
