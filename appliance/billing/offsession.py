"""Charging saved cards with nobody there: auto top-up, in the worker, a look every few seconds.

Never in the way of a request: whoever submits neither waits for this nor fails by it. Stripe is asked under an
idempotency key that belongs to the attempt; while its answer is not on disk, the same key is sent again. Stripe forgets
keys after a day, so from then on it is first looked whether the payment was made.
"""

import contextlib
import logging

from appliance import clock
from appliance.billing import alerts, attempts, autotopup, cards, customers, ledger, topups
from appliance.billing.attempts import Attempt, Stand
from appliance.billing.autotopup import AutoTopup, DisabledReason
from appliance.billing.stripe import Intent, PaymentError, Stripe, is_missing
from appliance.billing.topups import Mode, State, Topup
from appliance.database import Connection, Database
from appliance.errors import CardDeclined, StripeDown, StripeRefused

log = logging.getLogger(__name__)

APART_MS = 60_000
"""Between one try and the next, whatever the first came to."""

OPERATORS = ("authentication", "permission")
"""Codes of refusals that are the key's fault: nothing was done, and the card is innocent."""

_DAY_MS = 86_400_000
_KEY_LIVES_MS = 20 * 3_600_000  # Stripe keeps a key for 24 hours at least


def due(conn: Connection) -> list[str]:
    """Organisations whose card may have to be charged, or was asked for with no answer. Two index look-ups for each
    organisation with auto top-up on; nothing for the others."""
    rows = conn.execute(
        """
        SELECT org_id FROM auto_topup
        WHERE enabled = 1 AND threshold_micros > ifnull(
            (SELECT balance_micros FROM ledger WHERE ledger.org_id = auto_topup.org_id ORDER BY seq DESC LIMIT 1), 0)
        UNION
        SELECT org_id FROM auto_topup_attempt INDEXED BY auto_topup_attempt_open
        WHERE state IN ('open', 'processing') AND state = 'open'
        UNION
        SELECT org_id FROM topup_intent INDEXED BY topup_intent_pending WHERE status = 'pending' AND mode = 'auto'
        """
    )
    return [row["org_id"] for row in rows]


def step(db: Database, api: Stripe, org_id: str, now: int, *, most_a_day: int) -> None:
    """Do what is next for this organisation, if anything is. Blocks. Raises StripeDown or StripeRefused."""
    unknown = attempts.open_(db.reader(), org_id)
    if unknown is not None:
        if unknown.state is Stand.OPEN and now - unknown.asked_at >= APART_MS:
            _resume(db, api, unknown, now)
        return
    begun = db.write(lambda conn: _begin(conn, org_id, now, is_live=api.is_live, most_a_day=most_a_day))
    if begun is not None:
        _ask(db, api, *begun, now)


def _begin(conn: Connection, org_id: str, now: int, *, is_live: bool, most_a_day: int) -> tuple[Topup, Attempt] | None:
    """The attempt to make now, on disk before Stripe hears of it. None when none is due."""
    auto = autotopup.get(conn, org_id)
    wanted = _is_wanted(conn, org_id, auto)
    waiting = _waiting(conn, org_id)
    if waiting is not None:
        before = attempts.of_topup(conn, waiting.id)
        is_same = auto.amount_micros == waiting.amount_micros and all(
            one.payment_method_id == auto.payment_method_id for one in before
        )
        if not wanted or not is_same:
            topups.close(conn, waiting.id, State.CANCELLED, now)
        elif before and now < attempts.next_at(before[-1]):
            return None
        else:
            return waiting, attempts.begin(conn, waiting, auto.payment_method_id or "", now)
    last = attempts.last(conn, org_id)
    if not wanted or (last is not None and now - last.asked_at < APART_MS):
        return None
    if attempts.since(conn, org_id, now - _DAY_MS) >= most_a_day:
        day = clock.rfc3339(now)[:10]
        alerts.raise_(
            conn,
            "auto_topup_limit",
            f"{org_id}:{day}",
            f"No more automatic top-ups today: there were {most_a_day} (billing.auto_topups_a_day)",
            now,
            org_id,
        )
        return None
    customer = customers.of_org(conn, org_id, is_live=is_live)
    card_id = auto.payment_method_id or ""
    if customer is None or not cards.owns(conn, org_id, card_id, is_live=is_live):
        _detached(conn, org_id, now)
        return None
    topup = topups.add(conn, clock.new_id(), customer, Mode.AUTO, auto.amount_micros or 0, now)
    return topup, attempts.begin(conn, topup, card_id, now)


def _is_wanted(conn: Connection, org_id: str, auto: AutoTopup) -> bool:
    row = conn.execute("SELECT status FROM organisation WHERE id = :id", {"id": org_id}).fetchone()
    return (
        auto.enabled
        and row["status"] == "active"
        and auto.threshold_micros is not None
        and ledger.balance(conn, org_id) < auto.threshold_micros
    )


def _waiting(conn: Connection, org_id: str) -> Topup | None:
    """The automatic top-up that was declined and is to be tried again."""
    row = conn.execute(
        "SELECT id FROM topup_intent WHERE org_id = :org AND status = 'pending' AND mode = 'auto'", {"org": org_id}
    ).fetchone()
    return None if row is None else topups.get(conn, row["id"])


def _resume(db: Database, api: Stripe, attempt: Attempt, now: int) -> None:
    """Find out what an attempt came to whose answer was lost; ask again under the same key while it is wanted."""
    reader = db.reader()
    topup = topups.get(reader, attempt.topup_id)
    assert topup is not None
    auto = autotopup.get(reader, attempt.org_id)
    is_wanted = _is_wanted(reader, attempt.org_id, auto) and auto.payment_method_id == attempt.payment_method_id
    if not is_wanted or now - attempt.created_at >= _KEY_LIVES_MS:
        made = _find(api, topup, attempt)
        if made is not None:
            db.write(lambda conn: attempts.settle(conn, made, now, is_live=api.is_live))
            return
    if not is_wanted:
        db.write(lambda conn: _abandon(conn, topup, attempt, State.CANCELLED, "not wanted any more", now))
        return
    db.write(lambda conn: attempts.asked(conn, attempt, now))
    _ask(db, api, topup, attempt, now)


def _find(api: Stripe, topup: Topup, attempt: Attempt) -> Intent | None:
    """The payment that this attempt made, if it made one."""
    for made in api.intents(topup.customer_id):
        said = made.metadata
        if said.get("topup_intent_id") == topup.id and said.get("attempt") == str(attempt.number):
            return made
    return None


def _ask(db: Database, api: Stripe, topup: Topup, attempt: Attempt, now: int) -> None:
    said = {**topups.metadata(db.reader(), topup), "attempt": str(attempt.number)}
    try:
        made = api.charge(
            topup.customer_id, attempt.payment_method_id, topup.amount_micros, said, attempt.idempotency_key
        )
    except CardDeclined as declined:
        error = PaymentError(declined.code, declined.decline_code, declined.advice)
        db.write(lambda conn: attempts.decline(conn, topup, attempt, error, now))
        _cancel(api, declined.payment_intent)
        return
    except StripeRefused as error:
        if error.stripe_code in OPERATORS:
            raise
        db.write(lambda conn, error=error: _refused(conn, topup, attempt, error, now))
        return
    db.write(lambda conn: attempts.settle(conn, made, now, is_live=api.is_live))
    if made.status in ("requires_action", "requires_confirmation"):
        _cancel(api, made.id)


def _cancel(api: Stripe, intent_id: str) -> None:
    """Nobody will come back to it. It ends by itself too, only later."""
    if intent_id:
        with contextlib.suppress(StripeDown, StripeRefused):
            api.cancel(intent_id)


def _refused(conn: Connection, topup: Topup, attempt: Attempt, error: StripeRefused, now: int) -> None:
    """Stripe made no payment of it: the card is gone, or what we asked for is at fault."""
    _abandon(conn, topup, attempt, State.FAILED, error.message, now)
    if is_missing(error) or error.param == "payment_method" or error.stripe_code == "payment_method_unexpected_state":
        _detached(conn, topup.org_id, now)
        return
    alerts.raise_(conn, "auto_topup_refused", topup.id, error.message, now, topup.org_id)


def _abandon(conn: Connection, topup: Topup, attempt: Attempt, state: State, why: str, now: int) -> None:
    attempts.end(conn, attempt, Stand.ABANDONED, now, why[:200])
    topups.close(conn, topup.id, state, now)


def _detached(conn: Connection, org_id: str, now: int) -> None:
    autotopup.disable(
        conn,
        org_id,
        DisabledReason.PAYMENT_METHOD_DETACHED,
        now,
        actor=customers.ACTOR,
        reason="the card is not saved at Stripe",
        forget_card=True,
    )
