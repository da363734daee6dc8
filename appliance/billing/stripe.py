"""Stripe's room: the only file that knows the `stripe` package. What comes out of it is typed, and errors are ours.

The key is the operator's own. It is read from a file that others cannot read, and it is never printed. The package is
imported when there is a key: it costs a fifth of a second, and a box without one never needs it.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import msgspec

from appliance.errors import CardDeclined, Misconfigured, StripeDown, StripeOff, StripeRefused
from appliance.settings import Billing

if TYPE_CHECKING:
    import stripe

    SessionParams = stripe.params.checkout.SessionCreateParams

API_VERSION = "2026-10-28.endive"
"""What objects look like. Events keep the version of the day they were made, so objects are always read again."""

MICROS_A_CENT = 10_000
PAGE = 100
"""The most that Stripe lists at once."""

_RETRIES = 2
_CONNECT_S = 5.0
_CREDENTIALS = Path("/run/credentials")  # systemd's: its access list shows as a group's right to read
_KINDS = {"rk_live_": True, "sk_live_": True, "rk_test_": False, "sk_test_": False}

T = TypeVar("T")


# --- what Stripe's objects are to us ---------------------------------------------------------------------------------


class Customer(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = False
    invoice_settings: dict[str, Any] = {}

    @property
    def default_card(self) -> str | None:
        return self.invoice_settings.get("default_payment_method")


class CardFacts(msgspec.Struct, frozen=True):
    brand: str
    last4: str
    exp_month: int
    exp_year: int


class Card(msgspec.Struct, frozen=True):
    id: str
    created: int
    card: CardFacts
    customer: str | None = None


class PaymentError(msgspec.Struct, frozen=True):
    code: str | None = None
    decline_code: str | None = None
    advice_code: str | None = None


class Intent(msgspec.Struct, frozen=True):
    """A payment: cents of its currency, tax included."""

    id: str
    status: str
    amount: int
    created: int
    amount_received: int = 0
    customer: str | None = None
    metadata: dict[str, str] = {}
    last_payment_error: PaymentError | None = None


class Session(msgspec.Struct, frozen=True):
    id: str
    mode: str
    created: int
    status: str | None = None
    """open | complete | expired"""
    payment_status: str = "unpaid"
    url: str | None = None
    expires_at: int = 0
    customer: str | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] | None = None
    payment_intent: Intent | str | None = None

    @property
    def topup_id(self) -> str | None:
        return (self.metadata or {}).get("topup_intent_id") or self.client_reference_id

    @property
    def intent_id(self) -> str | None:
        return self.payment_intent.id if isinstance(self.payment_intent, Intent) else self.payment_intent


class Charge(msgspec.Struct, frozen=True):
    id: str
    payment_intent: str | None = None
    amount_refunded: int = 0
    disputed: bool = False


class Refund(msgspec.Struct, frozen=True):
    id: str
    amount: int
    created: int
    status: str | None = None
    payment_intent: str | None = None


class Dispute(msgspec.Struct, frozen=True):
    id: str
    amount: int
    status: str
    created: int
    reason: str = ""
    payment_intent: str | None = None
    balance_transactions: list[dict[str, Any]] = []

    @property
    def is_withdrawn(self) -> bool:
        """The bank has the money now, as Stripe's bookings of it say."""
        return sum(int(booked.get("amount", 0)) for booked in self.balance_transactions) < 0


class Price(msgspec.Struct, frozen=True):
    id: str


class SubscriptionItem(msgspec.Struct, frozen=True):
    price: Price


class SubscriptionItems(msgspec.Struct, frozen=True):
    data: list[SubscriptionItem]


class Subscription(msgspec.Struct, frozen=True):
    id: str
    customer: str
    status: str
    created: int
    items: SubscriptionItems
    cancel_at_period_end: bool = False


class Event(msgspec.Struct, frozen=True):
    """Something happened. `object` is as it was then: a hint at what to read again."""

    id: str
    type: str
    created: int
    data: dict[str, Any]

    @property
    def object(self) -> dict[str, Any]:
        return self.data.get("object", {})


class Page(msgspec.Struct, frozen=True):
    """Events, newest first as Stripe lists them."""

    events: list[Event]
    has_more: bool


# --- the key ---------------------------------------------------------------------------------------------------------


class Key:
    """The operator's key. Neither str() nor repr() shows it."""

    def __init__(self, raw: str) -> None:
        self._raw = raw
        self.is_live = _KINDS[raw[:8]]
        self.is_restricted = raw.startswith("rk_")

    def reveal(self) -> str:
        return self._raw

    def __repr__(self) -> str:
        return f"Key({self._raw[:8]}…)"


def read_key(path: Path) -> Key:
    """The key in this file. Raises Misconfigured when it is not there, when others may read it, or when it is none."""
    try:
        with open(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(500).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise Misconfigured(f"{path}: Stripe's key cannot be read ({why}); see billing.stripe_key_file") from error
    others = stat.S_IRWXO if path.is_relative_to(_CREDENTIALS) else stat.S_IRWXG | stat.S_IRWXO
    if mode & others:
        raise Misconfigured(f"{path}: others may read Stripe's key; run: chmod 600 {path}")
    if raw[:8] not in _KINDS or not raw.isascii() or any(character.isspace() for character in raw):
        raise Misconfigured(f"{path}: that is no secret key of Stripe's; it begins with rk_live_ or rk_test_")
    return Key(raw)


class Live:
    """The key's file is read again when it changes: a key is rotated without a restart."""

    def __init__(self, settings: Billing) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._stripe: Stripe | None = None
        self._before: Stripe | None = None
        """The one under the last key: another thread may be asking it still."""

    @property
    def is_on(self) -> bool:
        return bool(self._settings.stripe_key_file)

    def current(self) -> Stripe:
        """Stripe, by the key as it is now. Raises StripeOff without one, StripeRefused when the file is not usable."""
        if not self._settings.stripe_key_file:
            raise StripeOff
        path = Path(self._settings.stripe_key_file)
        with self._lock:
            try:
                found = path.stat()
                stamp = (found.st_mtime_ns, found.st_size, found.st_mode)
                if self._stripe is None or stamp != self._stamp:
                    fresh = Stripe(read_key(path), self._settings)
                    if self._before is not None:
                        self._before.close()
                    self._before, self._stripe, self._stamp = self._stripe, fresh, stamp
            except (OSError, Misconfigured) as error:
                why = error.message if isinstance(error, Misconfigured) else f"{path}: {error.strerror}"
                raise StripeRefused(f"Stripe's key is not usable: {why}", stripe_code="key") from error
            return self._stripe

    def close(self) -> None:
        with self._lock:
            for opened in (self._stripe, self._before):
                if opened is not None:
                    opened.close()
            self._stripe = self._before = None


# --- the API ---------------------------------------------------------------------------------------------------------


class Stripe:
    """Stripe's API under one key. Every method blocks, and raises StripeDown or StripeRefused."""

    def __init__(self, key: Key, settings: Billing) -> None:
        import stripe

        stripe.enable_telemetry = False
        self.is_live = key.is_live
        self.is_restricted = key.is_restricted
        self._http = httpx.Client(
            timeout=httpx.Timeout(settings.stripe_timeout_s, connect=min(_CONNECT_S, settings.stripe_timeout_s)),
            trust_env=False,  # neither proxies nor a .netrc, which would replace our Authorization
            proxy=settings.stripe_proxy or None,
            verify=ssl.create_default_context(),
        )
        address = settings.stripe_address.rstrip("/")
        self._api = stripe.StripeClient(
            key.reveal(),
            stripe_version=API_VERSION,
            base_addresses={"api": address} if address else None,
            max_network_retries=_RETRIES,
            http_client=_wire(self._http),
        ).v1

    def close(self) -> None:
        self._http.close()

    # --- customers and cards

    def create_customer(self, metadata: dict[str, str], idempotency_key: str) -> Customer:
        with _ours():
            made = self._api.customers.create({"metadata": metadata}, {"idempotency_key": idempotency_key})
            return _typed(made, Customer)

    def customer(self, customer_id: str) -> Customer:
        with _ours():
            return _typed(self._api.customers.retrieve(customer_id), Customer)

    def cards(self, customer_id: str) -> list[Card]:
        with _ours():
            listed = self._api.payment_methods.list({"customer": customer_id, "type": "card", "limit": PAGE})
            return [_typed(card, Card) for card in listed.auto_paging_iter()]

    def detach(self, card_id: str) -> None:
        """The card is of no customer any more; also when it was of none before."""
        with _gone_is_fine(), _ours():
            self._api.payment_methods.detach(card_id)

    # --- checkout and portal

    def create_session(self, params: SessionParams, idempotency_key: str) -> Session:
        with _ours():
            return _typed(self._api.checkout.sessions.create(params, {"idempotency_key": idempotency_key}), Session)

    def session(self, session_id: str) -> Session:
        """With its payment."""
        with _ours():
            found = self._api.checkout.sessions.retrieve(session_id, {"expand": ["payment_intent"]})
            return _typed(found, Session)

    def sessions(self, customer_id: str) -> list[Session]:
        with _ours():
            listed = self._api.checkout.sessions.list({"customer": customer_id, "limit": PAGE})
            return [_typed(one, Session) for one in listed.auto_paging_iter()]

    def sessions_of(self, intent_id: str) -> list[Session]:
        """The one session that this payment was made in, or none."""
        with _ours():
            listed = self._api.checkout.sessions.list({"payment_intent": intent_id, "limit": 1})
            return [_typed(one, Session) for one in listed.data]

    def portal(self, customer_id: str, return_url: str) -> str:
        """The address of a page where the customer sees invoices and cards."""
        with _ours():
            made = self._api.billing_portal.sessions.create({"customer": customer_id, "return_url": return_url})
            return made.url

    # --- payments

    def charge(
        self, customer_id: str, card_id: str, amount_micros: int, metadata: dict[str, str], idempotency_key: str
    ) -> Intent:
        """Charge a saved card with nobody there. Raises CardDeclined."""
        with _ours():
            made = self._api.payment_intents.create(
                {
                    "amount": amount_micros // MICROS_A_CENT,
                    "currency": "usd",
                    "customer": customer_id,
                    "payment_method": card_id,
                    "off_session": True,
                    "confirm": True,
                    # without this Stripe asks where to send somebody who is redirected, though it is a card
                    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                    "metadata": metadata,
                },
                {"idempotency_key": idempotency_key},
            )
            return _typed(made, Intent)

    def cancel(self, intent_id: str) -> None:
        """Nobody will finish this payment; also when it is over already."""
        with _gone_is_fine(), _ours():
            self._api.payment_intents.cancel(intent_id)

    def intent(self, intent_id: str) -> Intent:
        with _ours():
            return _typed(self._api.payment_intents.retrieve(intent_id), Intent)

    def intents(self, customer_id: str) -> list[Intent]:
        """Newest first."""
        with _ours():
            listed = self._api.payment_intents.list({"customer": customer_id, "limit": PAGE})
            return [_typed(one, Intent) for one in listed.auto_paging_iter()]

    def charges(self, customer_id: str) -> list[Charge]:
        """Which of a customer's payments went back, in one list."""
        with _ours():
            listed = self._api.charges.list({"customer": customer_id, "limit": PAGE})
            return [_typed(one, Charge) for one in listed.auto_paging_iter()]

    def refunds(self, intent_id: str) -> list[Refund]:
        with _ours():
            listed = self._api.refunds.list({"payment_intent": intent_id, "limit": PAGE})
            return [_typed(one, Refund) for one in listed.auto_paging_iter()]

    def dispute(self, dispute_id: str) -> Dispute:
        with _ours():
            return _typed(self._api.disputes.retrieve(dispute_id), Dispute)

    def disputes(self, intent_id: str) -> list[Dispute]:
        with _ours():
            listed = self._api.disputes.list({"payment_intent": intent_id, "limit": PAGE})
            return [_typed(one, Dispute) for one in listed.auto_paging_iter()]

    # --- subscriptions

    def subscription(self, subscription_id: str) -> Subscription:
        with _ours():
            return _typed(self._api.subscriptions.retrieve(subscription_id), Subscription)

    def subscriptions(self, customer_id: str) -> list[Subscription]:
        """The ended ones too."""
        with _ours():
            listed = self._api.subscriptions.list({"customer": customer_id, "status": "all", "limit": PAGE})
            return [_typed(one, Subscription) for one in listed.auto_paging_iter()]

    # --- events

    def events_after(self, cursor: str, types: list[str]) -> Page:
        """The events next after this one. Raises StripeRefused (resource_missing) when Stripe knows it no more."""
        with _ours():
            listed = self._api.events.list({"ending_before": cursor, "types": types, "limit": PAGE})
            return Page([_typed(one, Event) for one in listed.data], listed.has_more)

    def events_since(self, created: int, types: list[str], before: str | None = None) -> Page:
        """Events made at this second or later, and before that one: for reading back page by page."""
        with _ours():
            params: stripe.params.EventListParams = {"created": {"gte": created}, "types": types, "limit": PAGE}
            if before is not None:
                params["starting_after"] = before
            listed = self._api.events.list(params)
            return Page([_typed(one, Event) for one in listed.data], listed.has_more)


def is_about_the_key(error: StripeRefused) -> bool:
    """It is the operator's to mend, and names what is the operator's: the file, the key's last characters, its
    permissions."""
    return error.stripe_code in ("key", "authentication", "permission")


def is_missing(error: StripeRefused) -> bool:
    """Stripe has no such object."""
    return error.stripe_code == "resource_missing"


def _typed(made: stripe.StripeObject, kind: type[T]) -> T:
    """Raises StripeRefused when it is not what we take it for: the version is pinned, so that is a fault."""
    try:
        return msgspec.convert(made.to_dict(), kind)
    except msgspec.ValidationError as error:
        raise StripeRefused(
            f"Stripe's {kind.__name__} is not as we know it: {error}", stripe_code="unreadable"
        ) from error


def _wire(http: httpx.Client) -> stripe.HTTPClient:
    """The package's own clients read the environment's proxies, and leave connections open as threads end."""
    import stripe

    class Wire(stripe.HTTPClient):
        name = "httpx"

        def request(  # pyright: ignore[reportIncompatibleMethodOverride]  # the package calls it by these four only
            self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
        ) -> tuple[str, int, Mapping[str, str]]:
            try:
                answer = http.request(method, url, headers=dict(headers), content=post_data)
            except httpx.HTTPError as error:
                raise stripe.APIConnectionError(type(error).__name__, should_retry=True) from error
            return answer.text, answer.status_code, answer.headers

        def close(self) -> None:
            http.close()

    return Wire()


@contextlib.contextmanager
def _gone_is_fine() -> Generator[None]:
    """What is to end has ended already, and Stripe says so by a refusal."""
    try:
        yield
    except StripeRefused as error:
        if error.stripe_code not in ("resource_missing", "payment_intent_unexpected_state", "unattached"):
            raise


@contextlib.contextmanager
def _ours() -> Generator[None]:
    """The package's errors in our words. Its own may hold parts of the key, and whole answers."""
    import stripe

    try:
        yield
    except stripe.CardError as error:
        said = error.error
        intent = getattr(said, "payment_intent", None)
        raise CardDeclined(
            error.user_message or "The card was declined",
            code=error.code or "card_declined",
            decline_code=getattr(said, "decline_code", None) or "",
            advice=getattr(said, "advice_code", None) or "",
            payment_intent="" if intent is None else intent["id"],
        ) from error
    except stripe.AuthenticationError as error:
        raise StripeRefused(
            "Stripe does not know the key in billing.stripe_key_file; it may be rolled or of another account",
            stripe_code="authentication",
        ) from error
    except stripe.PermissionError as error:
        raise StripeRefused(
            f"The Stripe key may not do this; give it the permission in Stripe's dashboard. Stripe says: "
            f"{error.user_message}",
            stripe_code="permission",
        ) from error
    except stripe.IdempotencyError as error:
        raise StripeRefused(f"Stripe refused: {error.user_message}", stripe_code="idempotency_error") from error
    except stripe.RateLimitError as error:
        raise StripeDown("Stripe is asked too much just now; try again") from error
    except stripe.InvalidRequestError as error:
        message = error.user_message or ""
        code = error.code or ("unattached" if "not attached to a customer" in message else "")
        param = str(getattr(error, "param", None) or "")
        raise StripeRefused(f"Stripe refused: {message}", stripe_code=code, param=param) from error
    except stripe.APIConnectionError as error:
        raise StripeDown(f"Stripe cannot be reached ({error.user_message}); try again") from error
    except stripe.StripeError as error:
        raise StripeDown(f"Stripe failed ({error.http_status or 'no status'}); try again") from error
