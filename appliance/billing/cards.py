"""Saved cards: a mirror of what Stripe keeps, of brand, last four digits and expiry only."""

import msgspec

from appliance import audit
from appliance.billing import autotopup, customers, stripe
from appliance.billing.autotopup import DisabledReason
from appliance.billing.customers import Customer
from appliance.billing.stripe import Stripe
from appliance.database import Connection, Database, Row
from appliance.errors import NotFound, StripeRefused


class Card(msgspec.Struct, frozen=True):
    id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    created_at: int
    is_default: bool = False
    """The one that auto top-up charges; without one, the one that invoices are paid from."""


def every(conn: Connection, org_id: str, *, is_live: bool) -> list[Card]:
    """As the mirror has them, the newest first."""
    customer = customers.of_org(conn, org_id, is_live=is_live)
    if customer is None:
        return []
    default = autotopup.get(conn, org_id).payment_method_id or customer.default_card
    rows = conn.execute(
        "SELECT * FROM payment_method WHERE customer_id = :customer ORDER BY created_at DESC, id",
        {"customer": customer.id},
    )
    return [_card(row, default) for row in rows]


def refresh(db: Database, api: Stripe, customer: Customer, now: int) -> None:
    """Have the mirror as Stripe has it now. Blocks. Raises StripeDown or StripeRefused."""
    found, cards = read(api, customer.id)
    db.write(lambda conn: mirror(conn, customer, found, cards, now))


def read(api: Stripe, customer_id: str) -> tuple[stripe.Customer, list[stripe.Card]]:
    """The customer and the cards as Stripe has them; deleted, and none, when it has no such customer."""
    try:
        found = api.customer(customer_id)
        return found, [] if found.deleted else api.cards(customer_id)
    except StripeRefused as error:
        if stripe.is_missing(error):
            return stripe.Customer(customer_id, deleted=True), []
        raise


def mirror(conn: Connection, customer: Customer, found: stripe.Customer, cards: list[stripe.Card], now: int) -> None:
    """Write what was read. A card that is gone takes auto top-up with it, when that charged it."""
    if found.deleted:
        customers.forget(conn, customer.id, now)
    for card in cards:
        put(conn, customer, card)
    known = conn.execute("SELECT id FROM payment_method WHERE customer_id = :id", {"id": customer.id}).fetchall()
    for card_id in {row["id"] for row in known} - {card.id for card in cards}:
        remove(conn, customer.org_id, card_id, now, actor=customers.ACTOR, reason="no longer saved at Stripe")
    conn.execute(
        "UPDATE stripe_customer SET default_card = :card, cards_read_at = :now WHERE id = :id",
        {"card": found.default_card, "now": now, "id": customer.id},
    )


def put(conn: Connection, customer: Customer, card: stripe.Card) -> None:
    conn.execute(
        """
        INSERT INTO payment_method (id, org_id, customer_id, brand, last4, exp_month, exp_year, created_at)
        VALUES (:id, :org, :customer, :brand, :last4, :exp_month, :exp_year, :created_at)
        ON CONFLICT DO UPDATE
        SET org_id = excluded.org_id, customer_id = excluded.customer_id, brand = excluded.brand,
            last4 = excluded.last4, exp_month = excluded.exp_month, exp_year = excluded.exp_year
        """,
        {
            "id": card.id,
            "org": customer.org_id,
            "customer": customer.id,
            "created_at": card.created * 1000,
            **msgspec.structs.asdict(card.card),
        },
    )


def remove(conn: Connection, org_id: str, card_id: str, now: int, *, actor: str, reason: str) -> bool:
    """The card is no longer saved. Auto top-up that charged it is switched off. Was it there?"""
    there = conn.execute(
        "DELETE FROM payment_method WHERE id = :id AND org_id = :org", {"id": card_id, "org": org_id}
    ).rowcount
    if autotopup.get(conn, org_id).payment_method_id == card_id:
        autotopup.disable(
            conn,
            org_id,
            DisabledReason.PAYMENT_METHOD_DETACHED,
            now,
            actor=actor,
            reason=reason,
            forget_card=True,
        )
    if there:
        audit.record(conn, actor, "card.detached", card_id, org_id=org_id, reason=reason)
    return bool(there)


def detach(db: Database, api: Stripe, org_id: str, card_id: str, now: int, *, actor: str) -> None:
    """Have Stripe forget the card. Blocks. Raises NotFound when the organisation has no such card, else as Stripe."""
    if not owns(db.reader(), org_id, card_id, is_live=api.is_live):
        customer = customers.of_org(db.reader(), org_id, is_live=api.is_live)
        if customer is not None:
            refresh(db, api, customer, now)  # saved a moment ago, and not heard of yet
        if not owns(db.reader(), org_id, card_id, is_live=api.is_live):
            raise NotFound("There is no such payment method")
    api.detach(card_id)
    db.write(lambda conn: remove(conn, org_id, card_id, now, actor=actor, reason="detached by the account"))


def owns(conn: Connection, org_id: str, card_id: str, *, is_live: bool) -> bool:
    row = conn.execute(
        """
        SELECT 1 FROM payment_method JOIN stripe_customer ON stripe_customer.id = payment_method.customer_id
        WHERE payment_method.id = :id AND payment_method.org_id = :org AND stripe_customer.is_live = :live
        """,
        {"id": card_id, "org": org_id, "live": is_live},
    ).fetchone()
    return row is not None


def _card(row: Row, default: str | None) -> Card:
    return msgspec.convert({**dict(row), "is_default": row["id"] == default}, Card)
