"""Subscriptions: what an organisation pays for by the month at Stripe, and the plan that it is on because of that."""

import msgspec

from appliance.accounts import organisations, plans
from appliance.billing import alerts, customers, stripe
from appliance.database import Connection

_PAYING = ("active", "trialing", "past_due")
"""past_due: Stripe is still trying to collect; until it gives up, nothing is taken away."""


class Subscription(msgspec.Struct, frozen=True):
    id: str
    org_id: str
    customer_id: str
    price_id: str
    status: str
    cancel_at_period_end: bool
    created_at: int
    updated_at: int


def every(conn: Connection, org_id: str | None = None) -> list[Subscription]:
    rows = conn.execute(
        "SELECT * FROM subscription WHERE :org IS NULL OR org_id = :org ORDER BY created_at DESC, id", {"org": org_id}
    )
    return [
        msgspec.convert({**dict(row), "cancel_at_period_end": bool(row["cancel_at_period_end"])}, Subscription)
        for row in rows
    ]


def settle(conn: Connection, said: stripe.Subscription, now: int) -> None:
    """Keep what Stripe says of it, and put the organisation on the plan that it pays for. When none is paid for any
    more, it falls back to the standard plan, unless the operator has put it on another meanwhile."""
    customer = customers.get(conn, said.customer)
    if customer is None or not said.items.data:
        return
    before = conn.execute("SELECT price_id, status FROM subscription WHERE id = :id", {"id": said.id}).fetchone()
    conn.execute(
        """
        INSERT INTO subscription (id, org_id, customer_id, price_id, status, cancel_at_period_end, created_at,
            updated_at)
        VALUES (:id, :org, :customer, :price, :status, :ends, :created, :now)
        ON CONFLICT DO UPDATE
        SET price_id = excluded.price_id, status = excluded.status,
            cancel_at_period_end = excluded.cancel_at_period_end, updated_at = excluded.updated_at
        """,
        {
            "id": said.id,
            "org": customer.org_id,
            "customer": customer.id,
            "price": said.items.data[0].price.id,
            "status": said.status,
            "ends": said.cancel_at_period_end,
            "created": said.created * 1000,
            "now": now,
        },
    )
    paid_before = before["price_id"] if before is not None and before["status"] in _PAYING else None
    _follow(conn, customer.org_id, paid_before, said, now)


def _follow(conn: Connection, org_id: str, paid_before: str | None, said: stripe.Subscription, now: int) -> None:
    """`paid_before`: the price that this subscription was paying for until now. One that was not ends nothing: it may
    have ended long ago, and never have begun."""
    sold = {plan.stripe_price: plan.slug for plan in plans.every(conn) if plan.stripe_price}
    paid = [one for one in every(conn, org_id) if one.status in _PAYING]
    wanted = next((sold[one.price_id] for one in paid if one.price_id in sold), None)
    for one in paid:
        if one.price_id not in sold:
            alerts.raise_(
                conn,
                "unknown_price",
                one.id,
                f"{one.id} pays for {one.price_id}, which no plan names; set it: customhouse plans",
                now,
                org_id,
            )
    current = conn.execute("SELECT plan FROM organisation WHERE id = :id", {"id": org_id}).fetchone()["plan"]
    if wanted is None:
        ended = {sold.get(paid_before), sold.get(said.items.data[0].price.id)} if paid_before else set[str | None]()
        wanted = plans.STANDARD if current in ended else current
    organisations.change(
        conn,
        org_id,
        organisations.Changes(plan=wanted),
        actor=customers.ACTOR,
        reason=f"subscription {said.id} is {said.status}",
    )
