"""Events as hints: which object to read again, and what to do with it in a transaction.

Nothing that an event carries is acted upon: it is rendered as of another day, perhaps in another version, and may come
twice or late. Whoever tells us, the poll, a reconciliation, or a webhook some day, ends in the same few verbs.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from appliance.billing import attempts, cards, customers, reversals, stripe, subscriptions, topups
from appliance.billing.stripe import Event, Stripe
from appliance.billing.topups import Mode
from appliance.database import Connection, Database
from appliance.errors import StripeRefused

log = logging.getLogger(__name__)

Effect = Callable[[Connection], object]

TYPES = [
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_method.attached",
    "payment_method.detached",
    "payment_method.automatically_updated",
    "charge.refunded",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
]
"""What we ask for. Stripe takes twenty names, and these are twenty."""


def effect(api: Stripe, db: Database, event: Event, now: int) -> Effect | None:
    """What to do about this event, once its object was read again; None when it is not about anybody here, or when what
    it was about is gone. Blocks. Raises StripeDown or StripeRefused."""
    try:
        return _effect(api, db.reader(), event, now)
    except StripeRefused as error:
        if not stripe.is_missing(error):
            raise
        log.info("event about what is gone", extra={"event": event.id, "type": event.type})
        return None


def _effect(api: Stripe, conn: Connection, event: Event, now: int) -> Effect | None:
    said = event.object
    subject = str(said.get("id", ""))
    match event.type.split("."):
        case ["checkout", "session", *_]:
            return of_session(api, subject, now) if topups.is_ours(conn, _metadata(said)) else None
        case ["payment_intent", *_]:
            return _of_intent(api, conn, subject, now) if topups.is_ours(conn, _metadata(said)) else None
        case ["payment_method", *_]:
            return _of_cards(api, conn, _holder(conn, event), now)
        case ["charge", "refunded"] if _is_elsewhere(conn, said):
            return None
        case ["charge", "refunded"] | ["charge", "dispute", *_] | ["refund", *_]:
            return of_reversal(api, conn, str(said.get("payment_intent") or ""), now)
        case ["customer", "deleted"]:
            return _of_cards(api, conn, subject, now)
        case ["customer", "subscription", *_] if customers.get(conn, said.get("customer")) is not None:
            found = api.subscription(subject)
            return lambda conn: subscriptions.settle(conn, found, now)
        case _:
            return None


def of_session(api: Stripe, session_id: str, now: int) -> Effect:
    found = api.session(session_id)
    return lambda conn: topups.settle_session(conn, found, now, is_live=api.is_live)


def of_reversal(api: Stripe, conn: Connection, intent_id: str, now: int) -> Effect | None:
    """Refunds and disputes of this payment; the payment itself first, in case it was not heard of."""
    if not intent_id:
        return None
    if topups.by_intent(conn, intent_id) is None and not topups.is_ours(conn, api.intent(intent_id).metadata):
        return None
    paid = _of_intent(api, conn, intent_id, now) if topups.by_intent(conn, intent_id) is None else None
    said = reversals.read(api, intent_id)

    def settle(conn: Connection) -> None:
        if paid is not None:
            paid(conn)
        topup = topups.by_intent(conn, intent_id)
        if topup is not None:
            reversals.settle(conn, topup, said, now)

    return settle


def _of_intent(api: Stripe, conn: Connection, intent_id: str, now: int) -> Effect | None:
    """A checkout's payment is settled by its session, so that both lead to one entry."""
    found = api.intent(intent_id)
    topup = topups.get(conn, found.metadata.get("topup_intent_id"))
    mode = topup.mode if topup is not None else found.metadata.get("topup_mode")
    if mode == Mode.AUTO:
        return lambda conn: attempts.settle(conn, found, now, is_live=api.is_live)
    session = next(iter(api.sessions_of(intent_id)), None)
    return None if session is None else of_session(api, session.id, now)


def _of_cards(api: Stripe, conn: Connection, customer_id: str | None, now: int) -> Effect | None:
    customer = customers.get(conn, customer_id)
    if customer is None:
        return None
    found, saved = cards.read(api, customer.id)
    return lambda conn: cards.mirror(conn, customer, found, saved, now)


def _holder(conn: Connection, event: Event) -> str | None:
    """Whose card it is, or was: a detached one names nobody."""
    before = cast("dict[str, Any]", event.data.get("previous_attributes") or {})
    holder = event.object.get("customer") or before.get("customer")
    if holder:
        return str(holder)
    row = conn.execute(
        "SELECT customer_id FROM payment_method WHERE id = :id", {"id": event.object.get("id")}
    ).fetchone()
    return row["customer_id"] if row else None


def _is_elsewhere(conn: Connection, said: Mapping[str, Any]) -> bool:
    """Another customer's: said without a question to Stripe."""
    return customers.get(conn, said.get("customer")) is None and not topups.is_ours(conn, _metadata(said))


def _metadata(said: Mapping[str, Any]) -> dict[str, str]:
    return said.get("metadata") or {}
