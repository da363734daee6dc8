"""Checkout: pages of Stripe's where a customer pays, saves a card, subscribes, or sees what was paid.

The row of a top-up is written before its page is asked for, and the page under an idempotency key that belongs to the
row: so nothing paid is ever without a row, and the same request again is the same page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from appliance import audit, clock
from appliance.accounts.plans import Plan
from appliance.billing import autotopup, cards, customers, money, stripe, topups
from appliance.billing.customers import Customer
from appliance.billing.stripe import MICROS_A_CENT, Session, Stripe
from appliance.billing.topups import Mode, State, Topup
from appliance.database import Database
from appliance.errors import InvalidRequest, StripeRefused
from appliance.settings import Billing

if TYPE_CHECKING:
    from appliance.billing.stripe import SessionParams

_LOOKS_APART_MS = 2_000

T = TypeVar("T")


class Wish(msgspec.Struct, frozen=True):
    """What a customer asked for."""

    mode: Mode
    amount_micros: int = 0
    save_card: bool = False


class Page(msgspec.Struct, frozen=True):
    topup_id: str
    session_id: str
    url: str
    expires_at: int


def parse(given: dict[str, object]) -> Wish:
    """The request's members: `mode` is payment unless it says setup. Raises InvalidRequest."""
    mode, amount, save = given.get("mode", "payment"), given.get("amount_usd"), given.get("save_payment_method", False)
    if mode not in ("payment", "setup"):
        raise _refused("mode", "must be payment or setup")
    if not isinstance(save, bool):
        raise _refused("save_payment_method", "must be true or false")
    if mode == "setup":
        if amount is not None:
            raise _refused("amount_usd", "must not be given with the mode setup, which charges nothing")
        return Wish(Mode.SETUP)
    if amount is None:
        raise _refused("amount_usd", "is required")
    micros = money.parse(amount, "amount_usd")
    autotopup.check_amount(micros, "amount_usd")
    return Wish(Mode.PAYMENT, micros, save)


def open_(db: Database, api: Stripe, settings: Billing, org_id: str, topup_id: str, wish: Wish, now: int) -> Page:
    """A page to pay on or to save a card on. The same `topup_id` again is the same page. Blocks. Raises StripeDown or
    StripeRefused; then nobody can have paid."""
    return _for_customer(db, api, org_id, now, lambda customer: _open(db, api, settings, customer, topup_id, wish, now))


def offer(db: Database, api: Stripe, settings: Billing, org_id: str, wish: Wish, *, actor: str) -> Page:
    """A page that an operator hands to the organisation. Blocks. Raises as `open_` does."""
    page = open_(db, api, settings, org_id, clock.new_id(), wish, clock.now_ms())
    amount = wish.amount_micros
    db.write(
        lambda conn: audit.record(
            conn, actor, "topup.offered", org_id, org_id=org_id, amount_micros=amount, topup=page.topup_id
        )
    )
    return page


def _open(
    db: Database, api: Stripe, settings: Billing, customer: Customer, topup_id: str, wish: Wish, now: int
) -> Page:
    topup = db.write(lambda conn: topups.add(conn, topup_id, customer, wish.mode, wish.amount_micros, now))
    said = topups.metadata(db.reader(), topup)
    params = _common(settings, customer.id, said)
    params["client_reference_id"] = topup.id
    if wish.mode is Mode.SETUP:
        params["mode"] = "setup"
        params["currency"] = "usd"
        params["setup_intent_data"] = {"metadata": said}
    else:
        _add_payment(params, settings, wish, said)
    key = f"topup:{topup.id}" + ("" if customer.id == topup.customer_id else f":{customer.id}")  # asked for anew
    try:
        made = api.create_session(params, key)
    except StripeRefused:
        db.write(lambda conn: topups.close(conn, topup.id, State.FAILED, now))
        raise
    db.write(lambda conn: topups.note_session(conn, topup.id, made.id))
    return Page(topup.id, made.id, _url(made), made.expires_at * 1000)


def subscribe(db: Database, api: Stripe, settings: Billing, org_id: str, plan: Plan, key: str) -> Page:
    """A page where the organisation subscribes to a plan. What follows comes by events. Raises InvalidRequest when the
    plan is not sold."""
    if plan.stripe_price is None:
        raise InvalidRequest(f"The plan {plan.slug!r} has no stripe_price: it is not sold by subscription")
    price = plan.stripe_price
    said = {"client_id": org_id, "appliance_id": customers.appliance_id(db), "plan": plan.slug}

    def ask(customer: Customer) -> Session:
        params = _common(settings, customer.id, said)
        params["mode"] = "subscription"
        params["line_items"] = [{"price": price, "quantity": 1}]
        params["subscription_data"] = {"metadata": said}
        _add_address(params, settings)
        return api.create_session(params, f"subscribe:{key}:{customer.id}")

    made = _for_customer(db, api, org_id, clock.now_ms(), ask)
    return Page(key, made.id, _url(made), made.expires_at * 1000)


def portal(db: Database, api: Stripe, settings: Billing, org_id: str) -> str:
    """Where the organisation sees its invoices and cards. Blocks. Raises StripeRefused when the operator has never
    saved the portal's settings at Stripe."""
    back = settings.public_url.rstrip("/") + "/billing"
    return _for_customer(db, api, org_id, clock.now_ms(), lambda customer: api.portal(customer.id, back))


def look(db: Database, api: Stripe, session_id: str, now: int) -> Topup | None:
    """The customer is back: see now whether it was paid, rather than at the next sync. None when there is no such
    session of ours. Asks Stripe only while the payment is awaited, and not twice in two seconds."""
    row = db.reader().execute("SELECT id FROM topup_intent WHERE session_id = :id", {"id": session_id}).fetchone()
    found = topups.get(db.reader(), row["id"] if row else None)
    if found is None or found.status is not State.PENDING or now - found.looked_at < _LOOKS_APART_MS:
        return found
    db.write(lambda conn: topups.note_look(conn, found.id, now))
    said = api.session(session_id)
    return db.write(lambda conn: topups.settle_session(conn, said, now, is_live=api.is_live))


def _for_customer(db: Database, api: Stripe, org_id: str, now: int, ask: Callable[[Customer], T]) -> T:
    """What `ask` answers for the organisation's customer. One that was deleted at Stripe, before any event told us, or
    that another account's key knows, is forgotten with its cards, and another one is made."""
    customer = customers.get_or_create(db, api, org_id)
    try:
        return ask(customer)
    except StripeRefused as error:
        if not (stripe.is_missing(error) and error.param == "customer"):
            raise
    cards.refresh(db, api, customer, now)
    return ask(customers.get_or_create(db, api, org_id))


def _common(settings: Billing, customer_id: str, said: dict[str, str]) -> SessionParams:
    base = settings.public_url.rstrip("/")
    return {
        "customer": customer_id,
        "metadata": said,
        "success_url": f"{base}/billing?topup=success&session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{base}/billing?topup=cancelled",
    }


def _add_payment(params: SessionParams, settings: Billing, wish: Wish, said: dict[str, str]) -> None:
    params["mode"] = "payment"
    params["line_items"] = [
        {
            "price_data": {
                "currency": "usd",
                "unit_amount": wish.amount_micros // MICROS_A_CENT,
                "product_data": {"name": f"Credit of {money.written(wish.amount_micros)}"},
            },
            "quantity": 1,
        }
    ]
    if settings.stripe_tax:
        params["line_items"][0]["price_data"]["tax_behavior"] = "exclusive"  # the credit is what was chosen
    params["invoice_creation"] = {"enabled": True}
    params["adaptive_pricing"] = {"enabled": True}
    params["payment_intent_data"] = {"metadata": said}
    if wish.save_card:
        params["payment_intent_data"]["setup_future_usage"] = "off_session"
    _add_address(params, settings)


def _add_address(params: SessionParams, settings: Billing) -> None:
    """Tax needs to know where the customer is; what is typed is kept with the customer."""
    params["billing_address_collection"] = "required"
    params["customer_update"] = {"address": "auto", "name": "auto"}
    params["tax_id_collection"] = {"enabled": True}
    if settings.stripe_tax:
        params["automatic_tax"] = {"enabled": True}


def _url(made: Session) -> str:
    if made.url is None:  # the same key again, after the page has ended
        raise StripeRefused("This checkout is over; begin another one", stripe_code="session_over")
    return made.url


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])
