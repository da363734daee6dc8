"""Credit by hand: a bank transfer, a gift, a correction. Posted once for each reference, with its reason."""

from appliance import audit, clock
from appliance.accounts.organisations import Organisation
from appliance.billing import ledger, money
from appliance.billing.ledger import Entry, EntryType
from appliance.database import Connection
from appliance.errors import Conflict, InvalidRequest

LONGEST_REASON = 200


def parse(amount: str, *, force: bool) -> int:
    """In millionths. A negative one is a correction, and has to be meant. Raises InvalidRequest."""
    micros = money.parse(amount, "AMOUNT", can_be_negative=True)
    if micros == 0:
        raise InvalidRequest("AMOUNT must not be zero")
    if micros < 0 and not force:
        raise InvalidRequest("AMOUNT is negative; to take credit back as a correction, add --force")
    return micros


def check_reason(reason: str) -> str:
    """Blanks at the ends removed. Raises InvalidRequest."""
    if not 1 <= len(reason.strip()) <= LONGEST_REASON:
        raise InvalidRequest(f"--reason has 1 to {LONGEST_REASON} characters")
    return reason.strip()


def give(
    conn: Connection, owner: Organisation, micros: int, now: int, *, actor: str, reason: str, reference: str = ""
) -> Entry | None:
    """The entry; None when `reference` was credited before. The reason is seen by the organisation, too. Raises
    Conflict when it was credited with another amount."""
    source = ("manual", f"{owner.id}:{reference}" if reference else clock.new_id())
    entry = ledger.post(conn, owner.id, EntryType.CREDIT, micros, source=source, description=reason, now=now)
    if entry is not None:
        audit.record(
            conn,
            actor,
            "billing.credited" if micros > 0 else "billing.corrected",
            owner.name,
            org_id=owner.id,
            reason=reason,
            amount_micros=micros,
            entry=entry.id,
        )
        return entry
    before = ledger.by_source(conn, *source)
    if before is not None and before.amount_micros != micros:
        raise Conflict(
            f"{reference} was credited with {money.written(before.amount_micros)} before; nothing was changed. "
            "Name another reference for another credit"
        )
    return None
