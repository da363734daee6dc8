"""Customers: an organisation as Stripe knows it. Made when it first pays; made anew when Stripe's was deleted."""

import msgspec

from appliance import audit, clock
from appliance.billing.stripe import Stripe
from appliance.database import Connection, Database, Row

ACTOR = "stripe"
"""Who the audit log names when Stripe told us to."""


class Customer(msgspec.Struct, frozen=True):
    id: str
    org_id: str
    is_live: bool
    default_card: str | None
    cards_read_at: int
    deleted_at: int | None
    created_at: int


def appliance_id(db: Database) -> str:
    """This box, as Stripe's metadata name it; made once."""
    row = db.reader().execute("SELECT id FROM appliance").fetchone()
    if row is not None:
        return row["id"]

    def make(conn: Connection) -> str:
        conn.execute("INSERT INTO appliance (one, id) VALUES (1, :id) ON CONFLICT DO NOTHING", {"id": clock.new_id()})
        return conn.execute("SELECT id FROM appliance").fetchone()["id"]

    return db.write(make)


def of_org(conn: Connection, org_id: str, *, is_live: bool) -> Customer | None:
    row = conn.execute(
        "SELECT * FROM stripe_customer WHERE org_id = :org AND is_live = :live AND deleted_at IS NULL",
        {"org": org_id, "live": is_live},
    ).fetchone()
    return None if row is None else _customer(row)


def get(conn: Connection, customer_id: str | None) -> Customer | None:
    """Whose this is; the deleted ones too. None when it is none of ours: an account may serve other ends as well."""
    row = conn.execute("SELECT * FROM stripe_customer WHERE id = :id", {"id": customer_id}).fetchone()
    return None if row is None else _customer(row)


def every(conn: Connection, *, is_live: bool) -> list[Customer]:
    """The deleted ones too: what they paid may still be refunded."""
    rows = conn.execute("SELECT * FROM stripe_customer WHERE is_live = :live ORDER BY created_at", {"live": is_live})
    return [_customer(row) for row in rows]


def get_or_create(db: Database, api: Stripe, org_id: str) -> Customer:
    """The organisation's customer; made at Stripe when there is none. Blocks. Raises StripeDown or StripeRefused."""
    found = of_org(db.reader(), org_id, is_live=api.is_live)
    if found is not None:
        return found
    box = appliance_id(db)
    before = (
        db.reader()
        .execute(
            # the deleted ones alone: another payment may have made the first since we looked
            "SELECT count(*) FROM stripe_customer WHERE org_id = :org AND is_live = :live AND deleted_at IS NOT NULL",
            {"org": org_id, "live": api.is_live},
        )
        .fetchone()[0]
    )
    key = f"cust:{box}:{org_id}" + (f":{before}" if before else "")  # Stripe would answer with the deleted one
    made = api.create_customer({"client_id": org_id, "appliance_id": box}, key)
    return db.write(lambda conn: adopt(conn, made.id, org_id, is_live=api.is_live, now=clock.now_ms()))


def adopt(conn: Connection, customer_id: str, org_id: str, *, is_live: bool, now: int) -> Customer:
    """Note that this customer is the organisation's; when it has another already, that one."""
    conn.execute(
        """
        INSERT INTO stripe_customer (id, org_id, is_live, created_at)
        VALUES (:id, :org, :live, :now)
        ON CONFLICT DO NOTHING
        """,
        {"id": customer_id, "org": org_id, "live": is_live, "now": now},
    )
    found = of_org(conn, org_id, is_live=is_live)
    assert found is not None
    return found


def forget(conn: Connection, customer_id: str, now: int) -> Customer | None:
    """Stripe's was deleted, and its cards with it. Returns whose it was, None when it is none of ours or was known."""
    row = conn.execute(
        "UPDATE stripe_customer SET deleted_at = :now WHERE id = :id AND deleted_at IS NULL RETURNING *",
        {"now": now, "id": customer_id},
    ).fetchone()
    if row is None:
        return None
    audit.record(conn, ACTOR, "customer.deleted", customer_id, org_id=row["org_id"], reason="deleted at Stripe")
    return _customer(row)


def _customer(row: Row) -> Customer:
    return msgspec.convert({**dict(row), "is_live": bool(row["is_live"])}, Customer)
