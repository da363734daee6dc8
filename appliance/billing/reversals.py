"""Money that goes back: refunds and disputes, taken from the balance in the proportion that they are of the payment.

A payment holds tax, and may be in the customer's own currency; the credit is in dollars without either. So a refund of
half of what was paid takes half of the credit, and all the refunds of one payment together take exactly what their sum
says: no cent is lost or found by rounding each.
"""

import logging

import msgspec

from appliance.billing import alerts, autotopup, customers, ledger, money
from appliance.billing.autotopup import DisabledReason
from appliance.billing.ledger import EntryType
from appliance.billing.stripe import Dispute, Intent, Refund, Stripe
from appliance.billing.topups import State, Topup
from appliance.database import Connection

log = logging.getLogger(__name__)

_CAME_TO_NOTHING = ("failed", "canceled")
_OVER = ("won", "lost", "warning_closed", "prevented")


class Returned(msgspec.Struct, frozen=True):
    """What Stripe says of one payment."""

    intent: Intent
    refunds: list[Refund]
    disputes: list[Dispute]


def read(api: Stripe, intent_id: str) -> Returned:
    """Blocks. Raises StripeDown or StripeRefused."""
    return Returned(api.intent(intent_id), api.refunds(intent_id), api.disputes(intent_id))


def settle(conn: Connection, topup: Topup, said: Returned, now: int) -> None:
    """Take from the balance what went back, and give again what came back after all. Nothing for a payment that was
    never credited."""
    if topup.status is not State.SUCCEEDED:
        return
    paid = said.intent.amount_received or said.intent.amount
    for dispute in said.disputes:
        if not _is_taken(dispute):  # first: what it gives back may be what a refund takes
            _settle_dispute(conn, topup, dispute, 0, now)
    back = 0
    for refund in sorted(said.refunds, key=lambda one: (one.created, one.id)):
        if refund.status in _CAME_TO_NOTHING:
            _give(conn, topup, "refund", refund.id, refund.status or "", now)
            continue
        back += refund.amount
        due = _share(topup.amount_micros, back, paid) - _taken(conn, topup.id, refunds_only=True)
        _take(conn, topup, "refund", refund.id, due, refund.status or "succeeded", now)
    for dispute in said.disputes:
        if _is_taken(dispute):
            _settle_dispute(conn, topup, dispute, _share(topup.amount_micros, dispute.amount, paid), now)


def _is_taken(dispute: Dispute) -> bool:
    """The bank has the money now, or for good."""
    return dispute.status == "lost" or (dispute.is_withdrawn and dispute.status != "won")


def _settle_dispute(conn: Connection, topup: Topup, dispute: Dispute, share: int, now: int) -> None:
    is_new = conn.execute("SELECT 1 FROM stripe_reversal WHERE id = :id", {"id": dispute.id}).fetchone() is None
    if _is_taken(dispute):
        _take(conn, topup, "dispute", dispute.id, share, dispute.status, now)
    else:
        _give(conn, topup, "dispute", dispute.id, dispute.status, now)
    if is_new:
        alerts.raise_(
            conn,
            "dispute",
            dispute.id,
            f"A top-up of {money.written(topup.amount_micros)} is disputed ({dispute.reason or 'no reason given'}); "
            "answer it in Stripe's dashboard",
            now,
            topup.org_id,
        )
        autotopup.disable(
            conn,
            topup.org_id,
            DisabledReason.ADMIN_DISABLED,
            now,
            actor=customers.ACTOR,
            reason=f"payment disputed: {dispute.id}",
        )
    if dispute.status in _OVER:
        alerts.resolve(conn, "dispute", dispute.id, now)


def _take(conn: Connection, topup: Topup, kind: str, id: str, micros: int, status: str, now: int) -> None:
    """Once a round: what was taken stays so until it is given again."""
    row = conn.execute("SELECT debit_micros, rounds FROM stripe_reversal WHERE id = :id", {"id": id}).fetchone()
    if row is not None and row["debit_micros"]:
        _note(conn, topup, kind, id, status, row["debit_micros"], row["rounds"], now)
        return
    rounds = (row["rounds"] if row else 0) + 1
    micros = max(0, min(micros, topup.amount_micros - _taken(conn, topup.id)))  # never more than was credited
    if micros:
        ledger.post(
            conn,
            topup.org_id,
            EntryType.STRIPE_REFUND,
            -micros,
            source=(f"stripe_{kind}", _round(id, rounds)),
            description=f"{kind.capitalize()} of a top-up of {money.written(topup.amount_micros)}",
            now=now,
        )
        log.info("money went back", extra={"topup": topup.id, "id": id, "micros": micros})
    _note(conn, topup, kind, id, status, micros, rounds, now)


def _give(conn: Connection, topup: Topup, kind: str, id: str, status: str, now: int) -> None:
    row = conn.execute("SELECT debit_micros, rounds FROM stripe_reversal WHERE id = :id", {"id": id}).fetchone()
    if row is not None and row["debit_micros"]:
        ledger.post(
            conn,
            topup.org_id,
            EntryType.CREDIT,
            row["debit_micros"],
            source=(f"stripe_{kind}_undone", _round(id, row["rounds"])),
            description=f"{kind.capitalize()} undone, of a top-up of {money.written(topup.amount_micros)}",
            now=now,
        )
        log.info("money came back", extra={"topup": topup.id, "id": id, "micros": row["debit_micros"]})
    _note(conn, topup, kind, id, status, 0, row["rounds"] if row else 0, now)


def _note(conn: Connection, topup: Topup, kind: str, id: str, status: str, debit: int, rounds: int, now: int) -> None:
    conn.execute(
        """
        INSERT INTO stripe_reversal (id, kind, topup_id, status, debit_micros, rounds, updated_at)
        VALUES (:id, :kind, :topup, :status, :debit, :rounds, :now)
        ON CONFLICT DO UPDATE
        SET status = excluded.status, debit_micros = excluded.debit_micros, rounds = excluded.rounds,
            updated_at = excluded.updated_at
        """,
        {
            "id": id,
            "kind": kind,
            "topup": topup.id,
            "status": status,
            "debit": debit,
            "rounds": rounds,
            "now": now,
        },
    )


def _taken(conn: Connection, topup_id: str, *, refunds_only: bool = False) -> int:
    row = conn.execute(
        """
        SELECT ifnull(sum(debit_micros), 0) AS taken FROM stripe_reversal
        WHERE topup_id = :topup AND (kind = 'refund' OR NOT :refunds_only)
        """,
        {"topup": topup_id, "refunds_only": refunds_only},
    ).fetchone()
    return row["taken"]


def _share(credit_micros: int, part: int, whole: int) -> int:
    """Rounded half up."""
    return (2 * credit_micros * part + whole) // (2 * whole) if whole else 0


def _round(id: str, rounds: int) -> str:
    return id if rounds == 1 else f"{id}:{rounds}"
