"""What an account at Stripe holds, and what happens there. Amounts are cents, times are seconds, as Stripe has them."""

import copy
import itertools
import threading
import time
from typing import Any

Object = dict[str, Any]

DAY = 86_400
KEPT = 30 * DAY
"""Events are listed so long."""

CARDS: dict[str, tuple[str, str, str]] = {
    "pm_card_visa": ("", "", ""),
    "pm_card_chargeDeclined": ("card_declined", "generic_decline", ""),
    "pm_card_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds", ""),
    "pm_card_chargeDeclinedLostCard": ("card_declined", "lost_card", "do_not_try_again"),
    "pm_card_chargeDeclinedStolenCard": ("card_declined", "stolen_card", "do_not_try_again"),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", "", "do_not_try_again"),
    "pm_card_chargeDeclinedProcessingError": ("processing_error", "", "try_again_later"),
    "pm_card_authenticationRequired": ("authentication_required", "authentication_required", ""),
}
"""Stripe's test cards → code, decline code and advice when they are charged with nobody there."""


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, type: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": type, "message": message, **more}


def missing(kind: str, id: str, param: str = "id", status: int = 404) -> Refused:
    return Refused(status, "invalid_request_error", f"No such {kind}: '{id}'", code="resource_missing", param=param)


class Account:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.offset = 0.0
        self.late = 0
        """Events made from now on are listed only after so many seconds."""
        self.has_portal = True
        self.tax_percent = 0
        """Added to what a checkout is for."""
        self.customers: dict[str, Object] = {}
        self.cards: dict[str, Object] = {}
        self.sessions: dict[str, Object] = {}
        self.intents: dict[str, Object] = {}
        self.charges: dict[str, Object] = {}
        self.refunds: dict[str, Object] = {}
        self.disputes: dict[str, Object] = {}
        self.subscriptions: dict[str, Object] = {}
        self.events: list[Object] = []
        self.behaviour: dict[str, tuple[str, str, str]] = {}
        """Card → what charging it comes to."""
        self._ids = itertools.count(1)

    # --- time

    def now(self) -> int:
        return int(time.time() + self.offset)

    def now_ms(self) -> int:
        """For who is to live in the same time."""
        return int((time.time() + self.offset) * 1000)

    def turn(self, *, days: float = 0, seconds: float = 0) -> None:
        """Let time pass; open checkouts end as they do after a day."""
        with self.lock:
            self.offset += days * DAY + seconds
            for session in self.sessions.values():
                if session["status"] == "open" and session["expires_at"] <= self.now():
                    self.expire(session["id"])

    # --- things that people and banks do

    def save_card(self, customer: str, like: str = "pm_card_visa", last4: str = "4242", year: int = 2040) -> str:
        """A card is attached to the customer, as checkout does. Returns its id."""
        with self.lock:
            card = self._new(
                "pm",
                "payment_method",
                type="card",
                customer=customer,
                metadata={},
                card={"brand": "visa", "last4": last4, "exp_month": 12, "exp_year": year, "country": "US"},
            )
            self.cards[card["id"]] = card
            self.behaviour[card["id"]] = CARDS[like]
            self.tell("payment_method.attached", card)
            return card["id"]

    def renew_card(self, id: str, last4: str, year: int) -> None:
        """The network knows of a new card in place of the old one."""
        with self.lock:
            self.cards[id]["card"] |= {"last4": last4, "exp_year": year}
            self.tell("payment_method.automatically_updated", self.cards[id])

    def detach(self, id: str) -> Object:
        with self.lock:
            card = self.cards.get(id)
            if card is None:
                raise missing("PaymentMethod", id, "payment_method")
            if card["customer"] is None:
                raise Refused(
                    400,
                    "invalid_request_error",
                    "The payment method you provided is not attached to a customer so detachment is impossible.",
                    param="payment_method",
                )
            before, card["customer"] = card["customer"], None
            self.tell("payment_method.detached", card, {"customer": before})
            return card

    def delete_customer(self, id: str) -> None:
        with self.lock:
            for card in self.cards.values():
                if card["customer"] == id:
                    card["customer"] = None
            whole = self.customers[id]
            self.tell("customer.deleted", whole)
            self.customers[id] = {"id": id, "object": "customer", "deleted": True}

    def pay(self, id: str, *, card: str = "pm_card_visa", is_slow: bool = False) -> Object:
        """The customer fills in the page. By a slow method the money comes later, or does not."""
        with self.lock:
            session = self._open(id)
            session |= {"status": "complete", "url": None}
            if session["mode"] == "setup":
                session["payment_status"] = "no_payment_required"
                self.save_card(session["customer"], card)
            elif session["mode"] == "subscription":
                session["payment_status"] = "paid"
                self.subscribe(session["customer"], session["_price"], session["_intent"].get("metadata", {}))
            else:
                self._pay(session, card, is_slow)
            self.tell("checkout.session.completed", session)
            return session

    def _pay(self, session: Object, card: str, is_slow: bool) -> None:
        intent = self._intent(session["amount_total"], session["customer"], session["_intent"].get("metadata", {}))
        session["payment_intent"] = intent["id"]
        if session["_intent"].get("setup_future_usage"):
            self.save_card(session["customer"], card)
        if is_slow:
            intent["status"] = "processing"
            return
        session["payment_status"] = "paid"
        self._succeed(intent)

    def come_through(self, id: str, *, is_good: bool = True) -> None:
        """The slow payment of this session is decided."""
        with self.lock:
            session = self.sessions[id]
            intent = self.intents[session["payment_intent"]]
            if is_good:
                session["payment_status"] = "paid"
                self._succeed(intent)
                self.tell("checkout.session.async_payment_succeeded", session)
                return
            self._fail(intent, "card_declined", "", "")
            self.tell("checkout.session.async_payment_failed", session)

    def expire(self, id: str) -> Object:
        with self.lock:
            session = self._open(id)
            session |= {"status": "expired", "url": None}
            self.tell("checkout.session.expired", session)
            return session

    def refund(self, intent_id: str, amount: int | None = None, status: str = "succeeded") -> str:
        """By the operator, in the dashboard."""
        with self.lock:
            intent = self.intents[intent_id]
            charge = self.charges[intent["latest_charge"]]
            left = int(charge["amount"]) - int(charge["amount_refunded"])
            amount = amount or left
            assert 0 < amount <= left
            refund = self._new(
                "re",
                "refund",
                amount=amount,
                charge=charge["id"],
                payment_intent=intent_id,
                currency=charge["currency"],
                status=status,
                metadata={},
                reason=None,
            )
            self.refunds[refund["id"]] = refund
            charge["amount_refunded"] += amount
            charge["refunded"] = charge["amount_refunded"] == charge["amount"]
            self.tell("charge.refunded", charge)
            return refund["id"]

    def fail_refund(self, id: str) -> None:
        """The bank would not take it back."""
        with self.lock:
            refund = self.refunds[id]
            refund["status"] = "failed"
            self.charges[refund["charge"]]["amount_refunded"] -= refund["amount"]
            self.charges[refund["charge"]]["refunded"] = False
            self.tell("refund.failed", refund)

    def dispute(self, intent_id: str, amount: int | None = None, reason: str = "fraudulent") -> str:
        """The holder disputes; the bank takes the money at once."""
        with self.lock:
            charge = self.charges[self.intents[intent_id]["latest_charge"]]
            amount = amount or int(charge["amount"])
            dispute = self._new(
                "dp",
                "dispute",
                amount=amount,
                charge=charge["id"],
                payment_intent=intent_id,
                currency=charge["currency"],
                status="needs_response",
                reason=reason,
                balance_transactions=[{"id": "txn_1", "object": "balance_transaction", "amount": -amount}],
                metadata={},
            )
            self.disputes[dispute["id"]] = dispute
            charge["disputed"] = True
            self.tell("charge.dispute.created", dispute)
            self.tell("charge.dispute.funds_withdrawn", dispute)
            return dispute["id"]

    def close_dispute(self, id: str, *, is_won: bool) -> None:
        with self.lock:
            dispute = self.disputes[id]
            dispute["status"] = "won" if is_won else "lost"
            if is_won:
                back = {"id": "txn_2", "object": "balance_transaction", "amount": dispute["amount"]}
                dispute["balance_transactions"].append(back)
                self.tell("charge.dispute.funds_reinstated", dispute)
            self.tell("charge.dispute.closed", dispute)

    def subscribe(self, customer: str, price: str, metadata: dict[str, str] | None = None) -> str:
        with self.lock:
            item = {"id": "si_1", "object": "subscription_item", "price": {"id": price, "object": "price"}}
            made = self._new(
                "sub",
                "subscription",
                customer=customer,
                status="active",
                cancel_at_period_end=False,
                metadata=metadata or {},
                items={"object": "list", "data": [item], "has_more": False, "url": "/v1/subscription_items"},
            )
            self.subscriptions[made["id"]] = made
            self.tell("customer.subscription.created", made)
            return made["id"]

    def change_subscription(self, id: str, *, status: str | None = None, price: str | None = None) -> None:
        with self.lock:
            made = self.subscriptions[id]
            if price is not None:
                made["items"]["data"][0]["price"]["id"] = price
            if status is not None:
                made["status"] = status
            name = "deleted" if status == "canceled" else "updated"
            self.tell(f"customer.subscription.{name}", made)

    def tell(self, type: str, what: Object, before: Object | None = None) -> Object:
        """An event: the object as it is at this moment."""
        data = {"object": shown(what)} | ({"previous_attributes": before} if before else {})
        event = self._new("evt", "event", type=type, data=copy.deepcopy(data), api_version="2020-08-27")
        event["_visible"] = event["created"] + self.late
        self.events.append(event)
        return event

    # --- what the API does

    def create_customer(self, given: Object) -> Object:
        made = self._new(
            "cus",
            "customer",
            metadata=given.get("metadata", {}),
            invoice_settings={"default_payment_method": None},
            name=given.get("name"),
        )
        self.customers[made["id"]] = made
        return made

    def create_session(self, given: Object) -> Object:
        mode = given.get("mode")
        if mode not in ("payment", "setup", "subscription"):
            raise Refused(400, "invalid_request_error", "You must pass a mode", param="mode")
        if given.get("tax_id_collection") and given.get("customer_update", {}).get("name") != "auto":
            raise Refused(400, "invalid_request_error", "Tax ID collection requires updating business name")
        if mode == "setup" and "currency" not in given:
            raise Refused(400, "invalid_request_error", "Missing required param: currency.", param="currency")
        self._living(given.get("customer"))
        amount = sum(
            int(line.get("price_data", {}).get("unit_amount", 0)) * int(line.get("quantity", 1))
            for line in given.get("line_items", [])
        )
        if given.get("automatic_tax", {}).get("enabled") == "true":
            amount += amount * self.tax_percent // 100
        made = self._new(
            "cs",
            "checkout.session",
            mode=mode,
            status="open",
            payment_status="unpaid",
            customer=given["customer"],
            client_reference_id=given.get("client_reference_id"),
            metadata=given.get("metadata", {}),
            amount_total=amount,
            currency="usd",
            payment_intent=None,
            success_url=given.get("success_url"),
        )
        made |= {
            "url": f"https://checkout.stripe.com/c/pay/{made['id']}",
            "expires_at": self.now() + DAY,
            "_intent": given.get("payment_intent_data") or given.get("subscription_data") or {},
            "_price": (given.get("line_items") or [{}])[0].get("price"),
        }
        self.sessions[made["id"]] = made
        return made

    def create_portal(self, given: Object) -> Object:
        if not self.has_portal:
            raise Refused(
                400,
                "invalid_request_error",
                "No configuration provided and your test mode default configuration has not been created. Provide a "
                "configuration or create your default by saving your customer portal settings in test mode.",
            )
        self._living(given.get("customer"))
        made = self._new("bps", "billing_portal.session", customer=given["customer"])
        return made | {"url": f"https://billing.stripe.com/p/session/{made['id']}"}

    def create_intent(self, given: Object) -> Object:
        """Off session and confirmed at once: the only way in which we make one."""
        if given.get("off_session") != "true" or given.get("confirm") != "true":
            raise Refused(400, "invalid_request_error", "The fake charges saved cards with nobody there only")
        if given.get("automatic_payment_methods", {}).get("allow_redirects") != "never":
            raise Refused(
                400,
                "invalid_request_error",
                "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some of "
                "these payment methods might redirect your customer off of your page, you must provide a `return_url`.",
            )
        self._living(given.get("customer"))
        card = self.cards.get(given.get("payment_method", ""))
        if card is None:
            raise missing("PaymentMethod", given.get("payment_method", ""), "payment_method", 400)
        if card["customer"] != given["customer"]:
            raise Refused(
                400,
                "invalid_request_error",
                "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, "
                "shared with a connected account without Customer attachment, or was detached from a Customer.",
                param="payment_method",
            )
        intent = self._intent(int(given["amount"]), given["customer"], given.get("metadata", {}))
        intent["payment_method"] = card["id"]
        code, decline, advice = self.behaviour[card["id"]]
        if not code:
            self._succeed(intent)
            return intent
        self._fail(intent, code, decline, advice)
        more = {name: value for name, value in (("decline_code", decline), ("advice_code", advice)) if value}
        raise Refused(402, "card_error", "Your card was declined.", code=code, payment_intent=shown(intent), **more)

    def cancel_intent(self, id: str) -> Object:
        intent = self.intents.get(id)
        if intent is None:
            raise missing("payment_intent", id, "intent")
        if intent["status"] in ("succeeded", "canceled"):
            raise Refused(
                400,
                "invalid_request_error",
                f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}.",
                code="payment_intent_unexpected_state",
            )
        intent["status"] = "canceled"
        return intent

    def visible_events(self) -> list[Object]:
        """Newest first, of the last thirty days."""
        now = self.now()
        return [
            event
            for event in sorted(self.events, key=lambda one: (one["created"], one["_seq"]), reverse=True)
            if event["_visible"] <= now and event["created"] > now - KEPT
        ]

    # --- within

    def _new(self, prefix: str, kind: str, **members: Any) -> Object:
        seq = next(self._ids)
        return {
            "id": f"{prefix}_{seq:08d}",
            "object": kind,
            "created": self.now(),
            "livemode": False,
            "_seq": seq,
            **members,
        }

    def _intent(self, amount: int, customer: str, metadata: dict[str, str]) -> Object:
        intent = self._new(
            "pi",
            "payment_intent",
            amount=amount,
            amount_received=0,
            currency="usd",
            customer=customer,
            status="requires_payment_method",
            metadata=dict(metadata),
            latest_charge=None,
            last_payment_error=None,
            payment_method=None,
        )
        self.intents[intent["id"]] = intent
        return intent

    def _succeed(self, intent: Object) -> None:
        charge = self._new(
            "ch",
            "charge",
            amount=intent["amount"],
            amount_refunded=0,
            refunded=False,
            disputed=False,
            currency="usd",
            customer=intent["customer"],
            payment_intent=intent["id"],
            metadata=dict(intent["metadata"]),
        )
        self.charges[charge["id"]] = charge
        intent |= {"status": "succeeded", "amount_received": intent["amount"], "latest_charge": charge["id"]}
        self.tell("payment_intent.succeeded", intent)

    def _fail(self, intent: Object, code: str, decline: str, advice: str) -> None:
        intent["status"] = "requires_payment_method"
        intent["last_payment_error"] = {
            "type": "card_error",
            "code": code,
            "decline_code": decline or None,
            "advice_code": advice or None,
            "message": "Your card was declined.",
        }
        self.tell("payment_intent.payment_failed", intent)

    def _living(self, customer: str | None) -> None:
        found = self.customers.get(customer or "")
        if found is None or found.get("deleted"):
            raise missing("customer", customer or "", "customer", 400)

    def _open(self, id: str) -> Object:
        session = self.sessions[id]
        if session["status"] != "open":
            raise Refused(400, "invalid_request_error", f"This Session is {session['status']}.")
        return session


def shown(what: Object) -> Object:
    """Without what is the fake's own."""
    return {name: value for name, value in copy.deepcopy(what).items() if not name.startswith("_")}
