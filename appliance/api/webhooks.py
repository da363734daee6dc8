"""POST and DELETE /api/v1/webhook/register: where an organisation's results are sent. B.1 23 of the contract."""

from typing import Any

import msgspec
from litestar import Request, delete, post

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import form, submission
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.shapes import Moment
from appliance.webhooks import endpoints


class RegisteredBody(msgspec.Struct, frozen=True):
    """`secret` is there only when this call made it: it is shown once."""

    url: str
    updated_at: Moment
    secret: str | msgspec.UnsetType = msgspec.UNSET


REGISTER = Entry(
    id="register_webhook",
    tag="Webhooks",
    summary="Register webhook",
    description=(
        "Registers, or replaces, the address that every result of this account is sent to. HTTPS is advised. The first "
        "registration answers the secret under which deliveries are signed (Standard Webhooks)."
    ),
    answer=Answer(
        200,
        RegisteredBody,
        "The address is registered.",
        {"replaced": {"url": "https://your-app.com/webhooks/stars", "updated_at": "2026-05-19T12:00:01.500Z"}},
    ),
    errors=("INVALID_REQUEST", "PAYLOAD_TOO_LARGE"),
    fields=(Field("url", "An http or https address.", is_required=True, longest=endpoints.MAX_URL, format="uri"),),
    examples={"register": {"url": "https://your-app.com/webhooks/stars"}},
    is_json_only=True,
)
UNREGISTER = Entry(
    id="unregister_webhook",
    tag="Webhooks",
    summary="Remove the webhook",
    description="From now on nothing is sent, except for jobs that name an address of their own. Safe to repeat.",
    answer=Answer(204, None, "There is no webhook now."),
)

_PATH = "/api/v1/webhook/register"


@post(_PATH, status_code=200, **operation(REGISTER))
async def register_webhook(request: Request[Caller, Any, Any]) -> RegisteredBody:
    there = door(request)
    caller = request.user
    given = await form.json_object(request)
    url = given.get("url")
    if url is None:
        raise submission.refused("url", "is required")
    if not isinstance(url, str):
        raise submission.refused("url", "must be a string")
    endpoints.check_url(url)
    await submission.check_address(there, "url", url)
    registered = await there.house.db.write_async(
        lambda conn: endpoints.register(
            conn,
            caller.org_id,
            url,
            clock.now_ms(),
            actor=caller.actor,
            sign=there.house.settings.webhooks.sign,
        )
    )
    return RegisteredBody(
        url=registered.url,
        updated_at=clock.rfc3339(registered.updated_at),
        secret=registered.secret or msgspec.UNSET,
    )


@delete(_PATH, **operation(UNREGISTER))
async def unregister_webhook(request: Request[Caller, Any, Any]) -> None:
    caller = request.user
    await door(request).house.db.write_async(lambda conn: endpoints.unregister(conn, caller.org_id, actor=caller.actor))


ROUTES = [register_webhook, unregister_webhook]
