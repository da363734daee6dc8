"""Top-ups: what somebody meant to pay, and the credit once it is paid. Credited is what was chosen, exactly once.

A checkout's credit is posted under its session, an automatic one's under its payment: never both, so that whoever hears
of it first, an event, a look from the success page, or a reconciliation, posts the one entry there is.
"""

import logging
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from appliance.billing import customers, ledger, money
from appliance.billing.customers import Customer
from appliance.billing.ledger import EntryType
from appliance.billing.stripe import Intent, Session
from appliance.database import Connection, Row

log = logging.getLogger(__name__)

UNPAID = ("requires_payment_method", "canceled")
"""What a payment that will not come any more is in."""


class Mode(StrEnum):
    PAYMENT = "payment"
    SETUP = "setup"
    """Saves a card; no money."""
    AUTO = "auto"


class State(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Topup(msgspec.Struct, frozen=True):
    id: str
    org_id: str
    customer_id: str
    mode: Mode
    amount_micros: int
    status: State
    session_id: str | None
    payment_intent_id: str | None
    looked_at: int
    created_at: int
    closed_at: int | None


def add(conn: Connection, topup_id: str, customer: Customer, mode: Mode, amount_micros: int, now: int) -> Topup:
    """The row that stands before Stripe is asked for anything. The same id again is the row that stands, awaited again
    where Stripe had refused a page for it."""
    conn.execute(
        """
        INSERT INTO topup_intent (id, org_id, customer_id, mode, amount_micros, created_at)
        VALUES (:id, :org, :customer, :mode, :amount, :now)
        ON CONFLICT DO UPDATE
        SET status = 'pending', closed_at = NULL
        WHERE status = 'failed' AND session_id IS NULL
        """,
        {
            "id": topup_id,
            "org": customer.org_id,
            "customer": customer.id,
            "mode": mode.value,
            "amount": amount_micros,
            "now": now,
        },
    )
    made = get(conn, topup_id)
    assert made is not None
    return made


def metadata(conn: Connection, topup: Topup) -> dict[str, str]:
    """What Stripe keeps beside the payment: enough to write the row anew from, after a backup was restored."""
    return {
        "topup_intent_id": topup.id,
        "client_id": topup.org_id,
        "appliance_id": conn.execute("SELECT id FROM appliance").fetchone()["id"],
        "topup_mode": topup.mode.value,
        "credit_micros": str(topup.amount_micros),
    }


def get(conn: Connection, topup_id: str | None) -> Topup | None:
    row = conn.execute("SELECT * FROM topup_intent WHERE id = :id", {"id": topup_id}).fetchone()
    return None if row is None else _topup(row)


def by_intent(conn: Connection, intent_id: str) -> Topup | None:
    row = conn.execute("SELECT * FROM topup_intent WHERE payment_intent_id = :id", {"id": intent_id}).fetchone()
    return None if row is None else _topup(row)


def pending(conn: Connection, *, is_live: bool) -> list[Topup]:
    """The oldest first."""
    rows = conn.execute(
        """
        SELECT topup_intent.* FROM topup_intent
        JOIN stripe_customer ON stripe_customer.id = topup_intent.customer_id
        WHERE topup_intent.status = 'pending' AND stripe_customer.is_live = :live
        ORDER BY topup_intent.created_at
        """,
        {"live": is_live},
    )
    return [_topup(row) for row in rows]


def is_ours(conn: Connection, said: Mapping[str, str] | None) -> bool:
    """By its metadata, this object of Stripe's is about a top-up of this box."""
    said = said or {}
    if get(conn, said.get("topup_intent_id")) is not None:
        return True
    row = conn.execute("SELECT id FROM appliance").fetchone()
    return row is not None and said.get("appliance_id") == row["id"] and "topup_intent_id" in said


def claim(
    conn: Connection, said: Mapping[str, str] | None, customer_id: str | None, *, is_live: bool, now: int
) -> Topup | None:
    """The top-up that the metadata name; written anew when it is ours but the row is gone. None when it is not ours."""
    said = said or {}
    if not is_ours(conn, said):
        return None
    found = get(conn, said["topup_intent_id"])
    if found is not None:
        return found
    org_id, amount = said.get("client_id"), said.get("credit_micros", "")
    org = conn.execute("SELECT 1 FROM organisation WHERE id = :id", {"id": org_id}).fetchone()
    if org is None or org_id is None or customer_id is None or not amount.isdigit():
        log.error("a payment of ours belongs to nobody here", extra={"topup": said["topup_intent_id"]})
        return None
    customer = customers.get(conn, customer_id) or customers.adopt(conn, customer_id, org_id, is_live=is_live, now=now)
    mode = Mode(said.get("topup_mode", Mode.PAYMENT))
    log.warning("top-up written anew from Stripe's metadata", extra={"topup": said["topup_intent_id"]})
    return add(conn, said["topup_intent_id"], customer, mode, int(amount), now)


def note_session(conn: Connection, topup_id: str, session_id: str) -> None:
    conn.execute(
        "UPDATE topup_intent SET session_id = :session WHERE id = :id", {"session": session_id, "id": topup_id}
    )


def note_look(conn: Connection, topup_id: str, now: int) -> None:
    conn.execute("UPDATE topup_intent SET looked_at = :now WHERE id = :id", {"now": now, "id": topup_id})


def settle_session(conn: Connection, session: Session, now: int, *, is_live: bool) -> Topup | None:
    """Make of the top-up what its session says. Returns it, None when the session is not ours."""
    topup = claim(conn, session.metadata, session.customer, is_live=is_live, now=now)
    if topup is None:
        return None
    note_session(conn, topup.id, session.id)
    intent = session.payment_intent
    if topup.mode is Mode.SETUP:
        if session.status == "complete":
            close(conn, topup.id, State.SUCCEEDED, now)
    elif session.status == "complete" and session.payment_status == "paid":
        credit(conn, topup, ("checkout", session.id), session.intent_id, now)
    elif session.status == "complete" and isinstance(intent, Intent) and intent.status in UNPAID:
        close(conn, topup.id, State.FAILED, now)  # paid by a slow method, which did not come through
    if session.status == "expired":
        close(conn, topup.id, State.EXPIRED, now)
    return get(conn, topup.id)


def credit(conn: Connection, topup: Topup, source: tuple[str, str], intent_id: str | None, now: int) -> bool:
    """The money is there. Was it news?"""
    how = "automatically" if topup.mode is Mode.AUTO else "by Stripe Checkout"
    entry = ledger.post(
        conn,
        topup.org_id,
        EntryType.CREDIT,
        topup.amount_micros,
        source=source,
        description=f"Top-up of {money.written(topup.amount_micros)}, paid {how}",
        now=now,
    )
    conn.execute(
        """
        UPDATE topup_intent
        SET status = 'succeeded', closed_at = ifnull(closed_at, :now),
            payment_intent_id = ifnull(payment_intent_id, :intent)
        WHERE id = :id
        """,
        {"now": now, "intent": intent_id, "id": topup.id},
    )
    if entry is not None:
        log.info("top-up credited", extra={"topup": topup.id, "micros": topup.amount_micros, "source": source[1]})
    return entry is not None


def close(conn: Connection, topup_id: str, state: State, now: int) -> None:
    """No money came, or none was meant to; one that is over stays as it ended."""
    conn.execute(
        "UPDATE topup_intent SET status = :state, closed_at = :now WHERE id = :id AND status = 'pending'",
        {"state": state.value, "now": now, "id": topup_id},
    )


def _topup(row: Row) -> Topup:
    return msgspec.convert(dict(row), Topup)
