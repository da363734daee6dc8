"""Auto top-up as an organisation set it: below what balance, how much, from which card; and why it was switched off.

Charging the card is offsession.py's.
"""

from enum import StrEnum

import msgspec

from appliance import audit
from appliance.billing import money
from appliance.billing.stripe import MICROS_A_CENT
from appliance.database import Connection, Row
from appliance.errors import InvalidRequest

LEAST_MICROS = 5 * money.MICROS
MOST_MICROS = 5000 * money.MICROS
"""Of a top-up, and of the threshold."""

LONGEST_ID = 64


class DisabledReason(StrEnum):
    PAYMENT_METHOD_DETACHED = "payment_method_detached"
    CARD_DECLINED = "card_declined"
    AUTHENTICATION_REQUIRED = "authentication_required"
    """The bank wants the holder there."""
    PAYMENT_METHOD_EXPIRED = "payment_method_expired"
    MAX_FAILURES_REACHED = "max_failures_reached"
    ADMIN_DISABLED = "admin_disabled"
    """By the operator, or because a payment was disputed."""


class AutoTopup(msgspec.Struct, frozen=True):
    enabled: bool = False
    threshold_micros: int | None = None
    amount_micros: int | None = None
    payment_method_id: str | None = None
    disabled_reason: DisabledReason | None = None


def get(conn: Connection, org_id: str) -> AutoTopup:
    """As it is set; everything off and empty when it never was."""
    row = conn.execute("SELECT * FROM auto_topup WHERE org_id = :org", {"org": org_id}).fetchone()
    return AutoTopup() if row is None else _auto_topup(row)


def merge(before: AutoTopup, given: dict[str, object]) -> AutoTopup:
    """What it is to be: the members of `given` over what it was. Raises InvalidRequest when that cannot stand."""
    enabled, card = given.get("enabled", before.enabled), given.get("payment_method_id", before.payment_method_id)
    if not isinstance(enabled, bool):
        raise _refused("enabled", "must be true or false")
    if card is not None and not (isinstance(card, str) and 1 <= len(card) <= LONGEST_ID):
        raise _refused("payment_method_id", f"must be a string of at most {LONGEST_ID} characters")
    after = AutoTopup(
        enabled=enabled,
        threshold_micros=_amount(given, "threshold_usd", before.threshold_micros),
        amount_micros=_amount(given, "amount_usd", before.amount_micros),
        payment_method_id=card,
        disabled_reason=None if enabled else before.disabled_reason,
    )
    low, high = after.threshold_micros, after.amount_micros
    if low is not None and high is not None and low >= high:
        raise _refused("threshold_usd", "must be less than amount_usd")
    wanted = {"threshold_usd": low, "amount_usd": high, "payment_method_id": card}
    if enabled and (lacking := [name for name, value in wanted.items() if value is None]):
        raise _refused(lacking[0], "is required to enable auto top-up")
    return after


def change(conn: Connection, org_id: str, given: dict[str, object], now: int, *, actor: str) -> AutoTopup:
    """Merge `given` in, validated against what is there in this very transaction. Raises InvalidRequest."""
    before = get(conn, org_id)
    after = merge(before, given)
    if after.payment_method_id is not None and after.payment_method_id != before.payment_method_id:
        known = conn.execute(
            "SELECT 1 FROM payment_method WHERE id = :id AND org_id = :org",
            {"id": after.payment_method_id, "org": org_id},
        ).fetchone()
        if known is None:
            raise _refused("payment_method_id", "is none of this account's saved cards")
    if after != before:
        _write(conn, org_id, after, now)
        audit.record(conn, actor, "auto_topup.changed", org_id, org_id=org_id, **msgspec.to_builtins(after))
    return after


def disable(
    conn: Connection, org_id: str, why: DisabledReason, now: int, *, actor: str, reason: str, forget_card: bool = False
) -> bool:
    """Switch it off and say why. Was it on? When it was off already, the former reason stands."""
    before = get(conn, org_id)
    card = None if forget_card else before.payment_method_id
    if not before.enabled:
        if card != before.payment_method_id:
            _write(conn, org_id, msgspec.structs.replace(before, payment_method_id=card), now)
        return False
    _write(
        conn, org_id, msgspec.structs.replace(before, enabled=False, disabled_reason=why, payment_method_id=card), now
    )
    audit.record(conn, actor, "auto_topup.disabled", org_id, org_id=org_id, reason=reason, why=why.value)
    return True


def check_amount(micros: int, field: str) -> None:
    """5 to 5000 dollars, in whole cents. Raises InvalidRequest."""
    if not LEAST_MICROS <= micros <= MOST_MICROS:
        raise _refused(field, "must be between 5 and 5000 US dollars")
    if micros % MICROS_A_CENT:
        raise _refused(field, "must be in whole cents")


def _amount(given: dict[str, object], field: str, before: int | None) -> int | None:
    if field not in given:
        return before
    value = given[field]
    if value is None:
        return None
    micros = money.parse(value, field)
    check_amount(micros, field)
    return micros


def _write(conn: Connection, org_id: str, after: AutoTopup, now: int) -> None:
    conn.execute(
        """
        INSERT INTO auto_topup (org_id, enabled, threshold_micros, amount_micros, payment_method_id, disabled_reason,
            updated_at)
        VALUES (:org_id, :enabled, :threshold_micros, :amount_micros, :payment_method_id, :disabled_reason, :now)
        ON CONFLICT DO UPDATE
        SET enabled = excluded.enabled, threshold_micros = excluded.threshold_micros,
            amount_micros = excluded.amount_micros, payment_method_id = excluded.payment_method_id,
            disabled_reason = excluded.disabled_reason, updated_at = excluded.updated_at
        """,
        {"org_id": org_id, "now": now, **msgspec.to_builtins(after)},
    )


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])


def _auto_topup(row: Row) -> AutoTopup:
    return msgspec.convert({**dict(row), "enabled": bool(row["enabled"])}, AutoTopup)
