"""/api/v1/me/webhook-secrets: what deliveries are signed with, shown on request, and changed. gen-2 of the contract."""

from typing import Any, Literal

import msgspec
from litestar import Request, get, post

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import door
from appliance.api.shapes import Moment
from appliance.webhooks import secret
from appliance.webhooks.secret import GRACE_HOURS, TOLERANCE_S, Secret

AnyRequest = Request[Caller, Any, Any]

SCOPE = "webhook:manage"

_SHOWN = 10  # characters of a secret, by which a person tells two apart: whsec_ and four of its 43


class SecretItem(msgspec.Struct, frozen=True):
    """A secret that signs now. The previous one does until `expires_at`."""

    prefix: str
    status: Literal["current", "previous"]
    created_at: Moment | None
    expires_at: Moment | None


class SecretsBody(msgspec.Struct, frozen=True):
    """`tolerance_seconds`: how old a delivery's timestamp may be. `grace_hours`: how long a rotated secret signs on."""

    secrets: list[SecretItem]
    tolerance_seconds: int
    grace_hours: int


class SecretBody(msgspec.Struct, frozen=True):
    secret: str


_EXAMPLE = {
    "secrets": [
        {
            "prefix": "whsec_MfKQ",
            "status": "current",
            "created_at": "2026-05-19T12:00:00.000Z",
            "expires_at": None,
        },
        {
            "prefix": "whsec_C2Fs",
            "status": "previous",
            "created_at": None,
            "expires_at": "2026-05-20T12:00:00.000Z",
        },
    ],
    "tolerance_seconds": TOLERANCE_S,
    "grace_hours": GRACE_HOURS,
}
_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw3tBpvRx4Yw8="}

LIST = Entry(
    id="list_webhook_secrets",
    tag="Webhooks",
    summary="List webhook secrets",
    description=(
        "What signs deliveries now: none before the first is needed, two for a day after a rotation. The secrets "
        "themselves are not shown here."
    ),
    answer=Answer(200, SecretsBody, "The secrets' first characters.", {"rotated": _EXAMPLE}),
    scope=SCOPE,
)
REVEAL = Entry(
    id="reveal_webhook_secret",
    tag="Webhooks",
    summary="Reveal the webhook secret",
    description="The secret that signs now; made when there is none. That it was shown stands in the audit log.",
    answer=Answer(200, SecretBody, "The secret.", {"secret": _SECRET}),
    scope=SCOPE,
)
ROTATE = Entry(
    id="rotate_webhook_secret",
    tag="Webhooks",
    summary="Rotate the webhook secret",
    description=(
        f"A new secret. The previous one signs beside it for {GRACE_HOURS} hours, so that receivers change over one by "
        "one; one older still ends now."
    ),
    answer=Answer(200, SecretBody, "The new secret.", {"secret": _SECRET}),
    scope=SCOPE,
)

_PATH = "/api/v1/me/webhook-secrets"


@get(_PATH, **operation(LIST))
async def list_webhook_secrets(request: AnyRequest) -> SecretsBody:
    found = secret.find(door(request).house.db.reader(), request.user.org_id, clock.now_ms())
    return SecretsBody(_items(found), TOLERANCE_S, GRACE_HOURS)


@post(f"{_PATH}/reveal", status_code=200, **operation(REVEAL))
async def reveal_webhook_secret(request: AnyRequest) -> SecretBody:
    caller = request.user
    found = await door(request).house.db.write_async(
        lambda conn: secret.reveal(conn, caller.org_id, clock.now_ms(), actor=caller.actor)
    )
    return SecretBody(found.secret)


@post(f"{_PATH}/rotate", status_code=200, **operation(ROTATE))
async def rotate_webhook_secret(request: AnyRequest) -> SecretBody:
    caller = request.user
    made = await door(request).house.db.write_async(
        lambda conn: secret.rotate(conn, caller.org_id, clock.now_ms(), actor=caller.actor)
    )
    return SecretBody(made.secret)


ROUTES = [list_webhook_secrets, reveal_webhook_secret, rotate_webhook_secret]


def _items(found: Secret | None) -> list[SecretItem]:
    if found is None:
        return []
    items = [SecretItem(found.secret[:_SHOWN], "current", clock.rfc3339(found.created_at), None)]
    if found.previous is not None and found.previous_until is not None:
        items.append(SecretItem(found.previous[:_SHOWN], "previous", None, clock.rfc3339(found.previous_until)))
    return items
