"""Attempts: each try to charge a saved card, and what came of it. The rows; offsession.py asks Stripe.

Open means that Stripe was asked and that its answer is not on disk: the next try of the same attempt carries the same
idempotency key, so that the card is charged once however often we ask.
"""

import logging
from enum import StrEnum

import msgspec

from appliance.billing import autotopup, customers, topups
from appliance.billing.autotopup import DisabledReason
from appliance.billing.stripe import Intent, PaymentError
from appliance.billing.topups import Mode, State, Topup
from appliance.database import Connection, Row

log = logging.getLogger(__name__)

TRIES = 3
_WAITS_MS = (6 * 3_600_000, 18 * 3_600_000)  # the third is a day after the first

_HARD = frozenset(
    (
        "card_not_supported",
        "currency_not_supported",
        "fraudulent",
        "highest_risk_level",
        "incorrect_number",
        "invalid_account",
        "lost_card",
        "merchant_blacklist",
        "pickup_card",
        "restricted_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "security_violation",
        "stolen_card",
        "stop_payment_order",
        "transaction_not_allowed",
    )
)
"""Decline codes after which networks forbid to try the card again; all others may pass."""


class Stand(StrEnum):
    OPEN = "open"
    PROCESSING = "processing"
    """Stripe took it, and will say."""
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    ABANDONED = "abandoned"


class Attempt(msgspec.Struct, frozen=True):
    id: int
    topup_id: str
    org_id: str
    number: int
    payment_method_id: str
    state: Stand
    code: str | None
    created_at: int
    asked_at: int
    closed_at: int | None

    @property
    def idempotency_key(self) -> str:
        return f"auto:{self.topup_id}:{self.number}"


def begin(conn: Connection, topup: Topup, card_id: str, now: int) -> Attempt:
    """The next attempt at this top-up. One of an organisation is open at a time: an index holds that."""
    row = conn.execute(
        """
        INSERT INTO auto_topup_attempt (topup_id, org_id, number, payment_method_id, created_at, asked_at)
        SELECT :topup, :org, count(*) + 1, :card, :now, :now FROM auto_topup_attempt WHERE topup_id = :topup
        RETURNING *
        """,
        {"topup": topup.id, "org": topup.org_id, "card": card_id, "now": now},
    ).fetchone()
    return _attempt(row)


def open_(conn: Connection, org_id: str) -> Attempt | None:
    """The one whose end is not known."""
    row = conn.execute(
        "SELECT * FROM auto_topup_attempt WHERE org_id = :org AND state IN ('open', 'processing')", {"org": org_id}
    ).fetchone()
    return None if row is None else _attempt(row)


def of_topup(conn: Connection, topup_id: str) -> list[Attempt]:
    rows = conn.execute("SELECT * FROM auto_topup_attempt WHERE topup_id = :id ORDER BY number", {"id": topup_id})
    return [_attempt(row) for row in rows]


def last(conn: Connection, org_id: str) -> Attempt | None:
    row = conn.execute(
        "SELECT * FROM auto_topup_attempt WHERE org_id = :org ORDER BY created_at DESC, id DESC LIMIT 1",
        {"org": org_id},
    ).fetchone()
    return None if row is None else _attempt(row)


def since(conn: Connection, org_id: str, created_at: int) -> int:
    """For how many top-ups the card was tried from then on."""
    return conn.execute(
        """
        SELECT count(DISTINCT topup_id) FROM auto_topup_attempt
        WHERE org_id = :org AND created_at >= :since AND state != 'abandoned'
        """,
        {"org": org_id, "since": created_at},
    ).fetchone()[0]


def asked(conn: Connection, attempt: Attempt, now: int) -> None:
    conn.execute("UPDATE auto_topup_attempt SET asked_at = :now WHERE id = :id", {"now": now, "id": attempt.id})


def end(conn: Connection, attempt: Attempt, stand: Stand, now: int, code: str | None = None) -> bool:
    """What came of it. Was it news? One that is over stays as it ended, except that money which came counts."""
    moved = conn.execute(
        """
        UPDATE auto_topup_attempt
        SET state = :state, code = ifnull(:code, code), closed_at = :closed
        WHERE id = :id AND (state IN ('open', 'processing') OR :state = 'succeeded')
        """,
        {
            "state": stand.value,
            "code": code,
            "closed": None if stand is Stand.PROCESSING else now,
            "id": attempt.id,
        },
    ).rowcount
    return bool(moved)


def settle(conn: Connection, intent: Intent, now: int, *, is_live: bool) -> Topup | None:
    """Make of an automatic top-up what its payment says. Returns it, None when the payment is none of that kind."""
    topup = topups.claim(conn, intent.metadata, intent.customer, is_live=is_live, now=now)
    if topup is None or topup.mode is not Mode.AUTO:
        return None
    number = intent.metadata.get("attempt", "")
    attempt = next((one for one in of_topup(conn, topup.id) if str(one.number) == number), None)
    if intent.status == "succeeded":
        topups.credit(conn, topup, ("payment_intent", intent.id), intent.id, now)
        if attempt is not None:
            end(conn, attempt, Stand.SUCCEEDED, now)
    elif attempt is not None and intent.status == "processing":
        end(conn, attempt, Stand.PROCESSING, now)
    elif attempt is not None and intent.status in ("requires_action", "requires_confirmation"):
        decline(conn, topup, attempt, PaymentError(code="authentication_required"), now)
    elif attempt is not None and intent.status in topups.UNPAID:
        decline(conn, topup, attempt, intent.last_payment_error or PaymentError(), now)
    return topups.get(conn, topup.id)


def decline(conn: Connection, topup: Topup, attempt: Attempt, error: PaymentError, now: int) -> None:
    """The card was not charged. A passing reason is tried again, three times in a day; any other switches auto top-up
    off, and so does the third. Told twice, it counts once."""
    code = error.decline_code or error.code or "card_declined"
    if not end(conn, attempt, Stand.DECLINED, now, code):
        return
    log.info("card declined", extra={"topup": topup.id, "attempt": attempt.number, "code": code})
    why = _final(error)
    if why is None and attempt.number < TRIES:
        return
    topups.close(conn, topup.id, State.FAILED, now)
    if autotopup.get(conn, topup.org_id).payment_method_id == attempt.payment_method_id:
        autotopup.disable(
            conn,
            topup.org_id,
            why or DisabledReason.MAX_FAILURES_REACHED,
            now,
            actor=customers.ACTOR,
            reason=f"declined: {code}",
        )


def next_at(attempt: Attempt) -> int:
    """When a declined one may be followed by the next."""
    return (attempt.closed_at or attempt.asked_at) + _WAITS_MS[min(attempt.number, len(_WAITS_MS)) - 1]


def _final(error: PaymentError) -> DisabledReason | None:
    """Why trying this card again cannot help, or None when it may."""
    if "authentication_required" in (error.code, error.decline_code):
        return DisabledReason.AUTHENTICATION_REQUIRED
    if "expired_card" in (error.code, error.decline_code):
        return DisabledReason.PAYMENT_METHOD_EXPIRED
    if error.advice_code == "try_again_later":
        return None
    if error.advice_code in ("do_not_try_again", "confirm_card_data") or error.decline_code in _HARD:
        return DisabledReason.CARD_DECLINED
    return None


def _attempt(row: Row) -> Attempt:
    return msgspec.convert(dict(row), Attempt)
