"""What a job costs: charged as it is accepted (per_job) or as it completes (gpu_time), given back when it fails.

Every entry is posted in the transaction of the rows that it is for, and once: its source is the job. So a kill between
any two steps leaves neither a job without its charge nor a charge without its job.
"""

import msgspec

from appliance.accounts.plans import ChargeMethod, Terms
from appliance.billing import ledger, money
from appliance.billing.ledger import Entry, EntryType
from appliance.database import Connection
from appliance.errors import PaymentRequired
from appliance.settings import Settings

CHARGED = "job"
METERED = "gpu"
GIVEN_BACK = "job_failed"
"""The source types of a job's entries; the source id is the job's."""


class Agreed(msgspec.Struct, frozen=True):
    """What a job costs, as it stood when it was accepted; kept with the job."""

    job_micros: int | None = None
    gpu_second_micros: int | None = None


def must_pay(conn: Connection, settings: Settings, org_id: str, now: int) -> bool:
    """Whether an organisation that is charged has nothing left, so that a submission is refused. Nothing is reserved
    for jobs that are under way: they complete, and the balance may go a little below zero.

    Not while Stripe cannot be reached, for billing.offline_grace_hours: what was paid meanwhile is not known here yet.
    """
    return ledger.balance(conn, org_id) <= 0 and not _has_grace(conn, settings, now)


def check(conn: Connection, settings: Settings, terms: Terms, org_id: str, now: int) -> None:
    """Raises PaymentRequired where a submission is refused now."""
    if terms.charge_method is not ChargeMethod.NONE and must_pay(conn, settings, org_id, now):
        raise _refusal(conn, org_id)


def agreed(terms: Terms, modality: str) -> Agreed:
    """Under these terms, now."""
    match terms.charge_method:
        case ChargeMethod.PER_JOB:
            return Agreed(job_micros=_price(terms, modality))
        case ChargeMethod.GPU_TIME:
            return Agreed(gpu_second_micros=terms.gpu_second_micros)
        case ChargeMethod.NONE:
            return Agreed()


def on_accept(conn: Connection, agreed: Agreed, org_id: str, job_id: str, modality: str, now: int) -> Entry | None:
    """Charge the job at once, where a price a job is agreed on; None when nothing is charged now."""
    if not agreed.job_micros:
        return None
    return ledger.post(
        conn,
        org_id,
        EntryType.CHARGE,
        -agreed.job_micros,
        source=(CHARGED, job_id),
        description=f"{modality.capitalize()} moderation",
        now=now,
        job_id=job_id,
        modality=modality,
    )


def on_complete(
    conn: Connection, org_id: str, job_id: str, modality: str, gpu_ms: int, second_micros: int | None, now: int
) -> Entry | None:
    """Charge the time that the models spent, where that is metered, to the nearest millionth of a dollar."""
    amount = (gpu_ms * (second_micros or 0) + 500) // 1000
    if amount == 0:
        return None
    return ledger.post(
        conn,
        org_id,
        EntryType.CHARGE,
        -amount,
        source=(METERED, job_id),
        description=f"{modality.capitalize()} moderation, {gpu_ms / 1000:g} s of model time",
        now=now,
        job_id=job_id,
        modality=modality,
    )


def on_fail(conn: Connection, org_id: str, job_id: str, modality: str, error_code: str, now: int) -> Entry | None:
    """Give back what was charged for the job; None when nothing was."""
    charged = ledger.by_source(conn, CHARGED, job_id)
    if charged is None:
        return None
    return ledger.post(
        conn,
        org_id,
        EntryType.REFUND,
        -charged.amount_micros,
        source=(GIVEN_BACK, job_id),
        description=f"{modality.capitalize()} moderation failed: {error_code}",
        now=now,
        job_id=job_id,
        modality=modality,
    )


def _refusal(conn: Connection, org_id: str) -> PaymentRequired:
    return PaymentRequired(
        f"The balance of this account is {money.written(ledger.balance(conn, org_id))}; nothing was accepted. Top up: "
        "POST /api/v1/billing/checkout-session, or ask the operator of this service for credit "
        "(customhouse billing credit)"
    )


def _has_grace(conn: Connection, settings: Settings, now: int) -> bool:
    """Whether the last sync failed, and the last good one was not too long ago. Never without Stripe. Of the two halves
    of an account, live and test, the one that was asked last counts: the other one's key is used no more."""
    if not settings.billing.stripe_key_file:
        return False
    since = now - int(settings.billing.offline_grace_hours * 3_600_000)
    last = conn.execute(
        """
        SELECT last_error_at > last_ok_at AND last_ok_at > :since AS is_failing
        FROM stripe_sync
        ORDER BY max(ifnull(last_ok_at, 0), ifnull(last_error_at, 0)) DESC
        LIMIT 1
        """,
        {"since": since},
    ).fetchone()
    return last is not None and bool(last["is_failing"])


def _price(terms: Terms, modality: str) -> int:
    return {"prompt": terms.prompt_micros, "image": terms.image_micros, "video": terms.video_micros}[modality]
