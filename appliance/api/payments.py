"""/api/v1/billing/…: saved cards, auto top-up, and the pages of Stripe's where customers pay. B.1 14 to 19.

Whatever asks Stripe runs in threads of its own: they may wait for seconds, and nothing else may wait for them.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter
from msgspec import Meta

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import form, idempotency, submission
from appliance.api.documents import Answer, Entry, Field, Link, operation
from appliance.api.door import Door, door
from appliance.api.shapes import Moment, Uuid
from appliance.billing import autotopup, cards, checkout, customers, money, stripe, topups
from appliance.billing.autotopup import LONGEST_ID, AutoTopup, DisabledReason
from appliance.billing.cards import Card
from appliance.billing.stripe import Stripe
from appliance.errors import StripeDown, StripeRefused, Unavailable

log = logging.getLogger(__name__)

AnyRequest = Request[Caller, Any, Any]
T = TypeVar("T")

SCOPE = "billing:write"
_BODY = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_FRESH_MS = 5_000  # a list asked for again at once is not asked of Stripe again

Dollars = (
    Annotated[float, Meta(ge=5, le=5000, multiple_of=0.01)]
    | Annotated[str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,2})?$")]
)


class PaymentMethod(msgspec.Struct, frozen=True):
    payment_method_id: str
    card_brand: str
    card_last4: str
    card_exp_month: int
    card_exp_year: int
    is_default: bool
    created_at: Moment


class PaymentMethods(msgspec.Struct, frozen=True):
    """`is_default`: the card that auto top-up charges; without auto top-up, the one that invoices are paid from."""

    payment_methods: list[PaymentMethod]


class AutoTopupBody(msgspec.Struct, frozen=True):
    """`disabled_reason` says why it was switched off; null when nobody but the account did."""

    enabled: bool
    threshold_usd: float | None
    amount_usd: float | None
    payment_method_id: str | None
    disabled_reason: DisabledReason | None


class CheckoutBody(msgspec.Struct, frozen=True):
    url: str
    topup_intent_id: Uuid
    session_id: str
    expires_at: Moment


class PortalBody(msgspec.Struct, frozen=True):
    url: str


_CARD: dict[str, Any] = {
    "payment_method_id": "pm_1SQn2eLkdIwHu7ix0m4J8Qp2",
    "card_brand": "visa",
    "card_last4": "4242",
    "card_exp_month": 12,
    "card_exp_year": 2030,
    "is_default": True,
    "created_at": "2026-05-19T12:00:00.000Z",
}
_OFF: dict[str, Any] = {
    "enabled": False,
    "threshold_usd": None,
    "amount_usd": None,
    "payment_method_id": None,
    "disabled_reason": None,
}
_ON: dict[str, Any] = {
    "enabled": True,
    "threshold_usd": 10.0,
    "amount_usd": 50.0,
    "payment_method_id": _CARD["payment_method_id"],
    "disabled_reason": None,
}
_CHECKOUT: dict[str, Any] = {
    "url": "https://checkout.stripe.com/c/pay/cs_live_a1b2c3",
    "topup_intent_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "session_id": "cs_live_a1b2c3",
    "expires_at": "2026-05-20T12:00:00.000Z",
}
_UNAVAILABLE = {"SERVICE_UNAVAILABLE": "Payments by Stripe are not set up here (billing.stripe_key_file)"}

LIST = Entry(
    id="list_payment_methods",
    tag="Billing",
    summary="List payment methods",
    description="The cards saved to this account, the newest first. While Stripe is down, as they were last seen.",
    scope=SCOPE,
    answer=Answer(200, PaymentMethods, "The saved cards.", {"one card": {"payment_methods": [_CARD]}}),
    links=(
        Link(
            "detach_payment_method",
            {"payment_method_id": "$response.body#/payment_methods/0/payment_method_id"},
            "Remove the first.",
        ),
    ),
    messages=_UNAVAILABLE,
)
DETACH = Entry(
    id="detach_payment_method",
    tag="Billing",
    summary="Detach a payment method",
    description=(
        "Removes a saved card. When it is the one that auto top-up charges, it is switched off, with the reason "
        "`payment_method_detached`."
    ),
    scope=SCOPE,
    answer=Answer(204, None, "The card is saved no more."),
    errors=("INVALID_REQUEST", "NOT_FOUND"),
    messages={**_UNAVAILABLE, "NOT_FOUND": "There is no such payment method"},
)
READ_AUTO = Entry(
    id="get_auto_topup",
    tag="Billing",
    summary="Get auto top-up",
    description="Whether a card is charged when the balance falls below a threshold; if switched off, why.",
    scope=SCOPE,
    answer=Answer(200, AutoTopupBody, "As it is set.", {"on": _ON, "never set": _OFF}),
)
CHANGE_AUTO = Entry(
    id="put_auto_topup",
    tag="Billing",
    summary="Change auto top-up",
    description=(
        "Changes the members that are given and leaves the others. To be enabled it needs a threshold, a larger "
        "amount, both from 5 to 5000 dollars, and a saved card. Enabling clears `disabled_reason`."
    ),
    scope=SCOPE,
    answer=Answer(200, AutoTopupBody, "As it is set now.", {"on": _ON}),
    errors=_BODY,
    messages={**_UNAVAILABLE, "INVALID_REQUEST": "threshold_usd must be less than amount_usd"},
    fields=(
        Field("enabled", "Whether to charge the card from now on.", kind=OpenAPIType.BOOLEAN),
        Field("threshold_usd", "Below this balance the card is charged.", shape=Dollars | None),
        Field("amount_usd", "So much is charged and credited, in whole cents.", shape=Dollars | None),
        Field("payment_method_id", "One of the saved cards.", longest=LONGEST_ID, is_nullable=True),
    ),
    examples={
        "enable": {
            "enabled": True,
            "threshold_usd": 10,
            "amount_usd": 50,
            "payment_method_id": _CARD["payment_method_id"],
        },
        "disable": {"enabled": False},
    },
    is_json_only=True,
)
CHECKOUT = Entry(
    id="create_checkout_session",
    tag="Billing",
    summary="Create a checkout session",
    description=(
        "A page of Stripe's to pay a top-up on (`payment`), or to save a card on without paying (`setup`). What is "
        "credited is `amount_usd`, whatever tax or another currency make of the sum, as soon as it is paid."
    ),
    scope=SCOPE,
    answer=Answer(200, CheckoutBody, "Send the customer to `url`.", {"top-up": _CHECKOUT}),
    errors=_BODY,
    messages={**_UNAVAILABLE, "INVALID_REQUEST": "amount_usd must be between 5 and 5000 US dollars"},
    fields=(
        Field("mode", "What the page is for.", choices=("payment", "setup"), default="payment"),
        Field(
            "amount_usd",
            "The credit, from 5 to 5000, in whole cents. Required to pay; not given to save a card.",
            shape=Dollars | None,
        ),
        Field("save_payment_method", "Keep the card that is paid with.", kind=OpenAPIType.BOOLEAN, default=False),
    ),
    examples={
        "top-up": {"mode": "payment", "amount_usd": 25, "save_payment_method": True},
        "save a card": {"mode": "setup"},
    },
    is_json_only=True,
    has_idempotency=True,
    links=(Link("list_billing_records", description="The credit, once it is paid."),),
)
PORTAL = Entry(
    id="create_portal_session",
    tag="Billing",
    summary="Create a portal session",
    description="A page of Stripe's where the customer sees invoices and manages cards. Its address is short-lived.",
    scope=SCOPE,
    answer=Answer(
        200, PortalBody, "Send the customer to `url`.", {"portal": {"url": "https://billing.stripe.com/p/…"}}
    ),
    messages=_UNAVAILABLE,
)

_CARDS = "/api/v1/billing/payment-methods"
_AUTO = "/api/v1/billing/auto-topup"

CardId = Annotated[str, PathParameter(description="The `payment_method_id` of the card.", max_length=LONGEST_ID)]


@get(_CARDS, **operation(LIST))
async def list_payment_methods(request: AnyRequest) -> PaymentMethods:
    there, org_id = door(request), request.user.org_id
    api = await _stripe(there)
    await _asking(there, lambda: _refreshed(there, api, org_id))
    found = cards.every(there.house.db.reader(), org_id, is_live=api.is_live)
    return PaymentMethods([_method(card) for card in found])


@delete(f"{_CARDS}/{{payment_method_id:str}}", **operation(DETACH))
async def detach_payment_method(request: AnyRequest, payment_method_id: CardId) -> None:
    there, caller = door(request), request.user
    if len(payment_method_id) > LONGEST_ID:
        raise submission.refused("payment_method_id", f"is over {LONGEST_ID} characters")
    api = await _stripe(there)
    await _asking(
        there,
        lambda: cards.detach(there.house.db, api, caller.org_id, payment_method_id, clock.now_ms(), actor=caller.actor),
    )


@get(_AUTO, **operation(READ_AUTO))
async def get_auto_topup(request: AnyRequest) -> AutoTopupBody:
    return _auto(autotopup.get(door(request).house.db.reader(), request.user.org_id))


@put(_AUTO, **operation(CHANGE_AUTO))
async def put_auto_topup(request: AnyRequest) -> AutoTopupBody:
    there, caller = door(request), request.user
    given = await form.json_object(request)
    merged = autotopup.merge(autotopup.get(there.house.db.reader(), caller.org_id), given)
    if given.get("enabled") is True or given.get("payment_method_id") is not None:
        api = await _stripe(there)
        await _asking(there, lambda: _known(there, api, caller.org_id, merged.payment_method_id))
    changed = await there.house.db.write_async(
        lambda conn: autotopup.change(conn, caller.org_id, given, clock.now_ms(), actor=caller.actor)
    )
    return _auto(changed)


@post("/api/v1/billing/checkout-session", status_code=200, **operation(CHECKOUT))
async def create_checkout_session(request: AnyRequest) -> Response[CheckoutBody]:
    there, caller = door(request), request.user
    given = await form.json_object(request)
    wish = checkout.parse(given)
    async with idempotency.asked(request, given, calls_out=True) as asked:
        if asked.answer is not None:
            return asked.answer
        api = await _stripe(there)
        settings = there.house.settings.billing
        page = await _asking(
            there,
            lambda: checkout.open_(there.house.db, api, settings, caller.org_id, asked.work_id, wish, clock.now_ms()),
        )
        body = CheckoutBody(page.url, page.topup_id, page.session_id, clock.rfc3339(page.expires_at))
        return await asked.done(lambda _: body)


@post("/api/v1/billing/portal-session", status_code=200, **operation(PORTAL))
async def create_portal_session(request: AnyRequest) -> PortalBody:
    there, org_id = door(request), request.user.org_id
    api = await _stripe(there)
    settings = there.house.settings.billing
    return PortalBody(await _asking(there, lambda: checkout.portal(there.house.db, api, settings, org_id)))


@get("/billing", include_in_schema=False, media_type="text/html")
async def returned(request: Request[Any, Any, Any]) -> Response[str]:
    """Where Stripe sends the customer back to. It needs no key, says nothing of anybody, and has the payment looked at
    now rather than with the next sync."""
    there = door(request)
    query = request.query_params
    session_id = query.get("session_id", "")
    state = None
    if query.get("topup") == "success" and session_id.startswith("cs_") and len(session_id) <= 200:
        try:
            api = await _stripe(there)
            state = await _asking(there, lambda: checkout.look(there.house.db, api, session_id, clock.now_ms()))
        except Unavailable as error:
            log.info("payment not looked at; sync will", extra={"why": error.message})
    sentence = _SENTENCES["cancelled" if query.get("topup") == "cancelled" else state.status if state else "later"]
    return Response(
        _PAGE.format(sentence=sentence),
        media_type="text/html",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "Cache-Control": "no-store",
        },
    )


ROUTES = [
    list_payment_methods,
    detach_payment_method,
    get_auto_topup,
    put_auto_topup,
    create_checkout_session,
    create_portal_session,
    returned,
]

_SENTENCES = {
    topups.State.SUCCEEDED: "Thank you. It is done.",
    topups.State.FAILED: "The payment did not come through. Nothing was credited.",
    topups.State.EXPIRED: "The page had expired. Nothing was paid.",
    "cancelled": "Nothing was paid.",
    "later": "Thank you. It will be credited as soon as the payment is confirmed.",
    topups.State.PENDING: "Thank you. It will be credited as soon as the payment is confirmed.",
    topups.State.CANCELLED: "Nothing was paid.",
}
_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Billing</title><style>body{{font:1.1rem system-ui;margin:15vh auto;max-width:30rem;padding:0 1rem}}</style>"
    "<p>{sentence}</p><p>You can close this page.</p></html>"
)


async def _stripe(there: Door) -> Stripe:
    """The first time takes a quarter of a second: the package is imported, certificates are read."""
    return await _asking(there, there.stripe.current)


async def _asking(there: Door, act: Callable[[], T]) -> T:
    """Something that asks Stripe, beside the event loop. What is wrong with the key is told to the operator only."""
    try:
        return await asyncio.get_running_loop().run_in_executor(there.payments, act)
    except StripeRefused as error:
        if not stripe.is_about_the_key(error):
            raise
        log.warning("Stripe not asked", extra={"why": error.message})
        raise Unavailable(
            "Payments by Stripe do not work just now; the operator of this service sees why: customhouse stripe status",
            retry_after_s=error.retry_after_s,
        ) from error


def _refreshed(there: Door, api: Stripe, org_id: str) -> None:
    """Have the mirror as of now; as it was last when Stripe is down."""
    customer = customers.of_org(there.house.db.reader(), org_id, is_live=api.is_live)
    now = clock.now_ms()
    if customer is None or now - customer.cards_read_at < _FRESH_MS:
        return
    try:
        cards.refresh(there.house.db, api, customer, now)
    except StripeDown as error:
        log.warning("cards not refreshed", extra={"why": error.message})


def _known(there: Door, api: Stripe, org_id: str, card_id: str | None) -> None:
    """A card that was saved a moment ago is in the mirror from here on."""
    if card_id is not None and not cards.owns(there.house.db.reader(), org_id, card_id, is_live=api.is_live):
        _refreshed(there, api, org_id)


def _method(card: Card) -> PaymentMethod:
    return PaymentMethod(
        payment_method_id=card.id,
        card_brand=card.brand,
        card_last4=card.last4,
        card_exp_month=card.exp_month,
        card_exp_year=card.exp_year,
        is_default=card.is_default,
        created_at=clock.rfc3339(card.created_at),
    )


def _auto(found: AutoTopup) -> AutoTopupBody:
    return AutoTopupBody(
        enabled=found.enabled,
        threshold_usd=None if found.threshold_micros is None else money.usd(found.threshold_micros),
        amount_usd=None if found.amount_micros is None else money.usd(found.amount_micros),
        payment_method_id=found.payment_method_id,
        disabled_reason=found.disabled_reason,
    )
