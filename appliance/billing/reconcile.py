"""Proof that the ledger is whole: every balance is the sum of its entries, every job was paid for as it ended.

Reads all of it; nothing is changed. In one transaction, so that what is compared is of one moment.
"""

import logging
from collections.abc import Callable
from datetime import date, datetime

import msgspec

from appliance import clock
from appliance.billing import alerts
from appliance.database import Connection
from appliance.house import House

log = logging.getLogger(__name__)

LOOK_S = 1800.0
"""How often Nightly is to be asked."""
_QUIET_HOUR = 3  # UTC

MOST_EVIDENCE = 100
"""Faults of one sort that are listed; all of them are counted."""


class Fault(msgspec.Struct, frozen=True):
    sort: str
    org_id: str
    subject: str
    """The entry's id or the job's."""
    message: str


class Report(msgspec.Struct, frozen=True):
    entries: int
    organisations: int
    """Those that have entries."""
    balance_micros: int
    """Of all organisations together."""
    charged_jobs: int
    refunded_jobs: int
    purged_jobs: int
    """Charged once, and gone since, as jobs go."""
    faults: dict[str, int]
    """Sort → how many. Empty = the ledger is whole."""
    evidence: list[Fault]

    @property
    def is_whole(self) -> bool:
        return not self.faults


_CHECKS = {
    "broken chain": """
        SELECT org_id, id AS subject, 'balance ' || balance_micros || ' does not follow from ' || before || ' and '
            || amount_micros AS message
        FROM (
            SELECT org_id, id, amount_micros, balance_micros,
                -- downwards, as the index has it: the other way ten million entries would be sorted first
                lead(balance_micros, 1, 0) OVER (PARTITION BY org_id ORDER BY seq DESC) AS before
            FROM ledger)
        WHERE before + amount_micros <> balance_micros
    """,
    "sum is not the balance": """
        SELECT org_id, org_id AS subject, 'the entries come to ' || total || ', the last balance is ' || last AS message
        FROM (
            SELECT org_id, sum(amount_micros) AS total,
                (SELECT balance_micros FROM ledger AS newest WHERE newest.org_id = ledger.org_id
                    ORDER BY seq DESC LIMIT 1) AS last
            FROM ledger GROUP BY org_id)
        WHERE total <> last
    """,
    "wrong sign": """
        SELECT org_id, id AS subject, type || ' of ' || amount_micros AS message FROM ledger
        WHERE (type IN ('charge', 'stripe_refund') AND amount_micros > 0) OR (type = 'refund' AND amount_micros < 0)
    """,
    "job without its charge": """
        SELECT job.org_id, job.id AS subject, 'agreed ' || price_micros || ', charged '
            || ifnull(-charge.amount_micros, 'nothing') AS message
        FROM job
        LEFT JOIN ledger AS charge ON charge.source_type = 'job' AND charge.source_id = job.id
        WHERE job.price_micros > 0 AND ifnull(-charge.amount_micros, 0) <> job.price_micros
    """,
    "metered job without its charge": """
        SELECT job.org_id, job.id AS subject, gpu_ms || ' ms at ' || gpu_second_micros || ' a second, charged '
            || ifnull(-charge.amount_micros, 'nothing') AS message
        FROM job
        LEFT JOIN ledger AS charge ON charge.source_type = 'gpu' AND charge.source_id = job.id
        WHERE job.gpu_second_micros > 0 AND ifnull(-charge.amount_micros, 0)
            <> iif(job.status = 'completed', (gpu_ms * gpu_second_micros + 500) / 1000, 0)
    """,
    "job charged twice": """
        SELECT metered.org_id, metered.source_id AS subject, 'charged as it was accepted and as it completed' AS message
        FROM ledger AS metered
        WHERE metered.source_type = 'gpu'
            AND EXISTS (SELECT 1 FROM ledger WHERE source_type = 'job' AND source_id = metered.source_id)
    """,
    "refund without its charge": """
        SELECT refund.org_id, refund.source_id AS subject, 'refunded ' || refund.amount_micros || ', charged '
            || ifnull(-charge.amount_micros, 'nothing') AS message
        FROM ledger AS refund
        LEFT JOIN ledger AS charge ON charge.source_type = 'job' AND charge.source_id = refund.source_id
        WHERE refund.source_type = 'job_failed'
            AND (charge.seq IS NULL OR charge.amount_micros <> -refund.amount_micros OR charge.org_id <> refund.org_id)
    """,
    "failed job not refunded": """
        SELECT charge.org_id, job.id AS subject, 'charged ' || -charge.amount_micros || ', not refunded' AS message
        FROM ledger AS charge
        JOIN job ON job.id = charge.source_id
        WHERE charge.source_type = 'job' AND job.status = 'failed'
            AND NOT EXISTS (SELECT 1 FROM ledger WHERE source_type = 'job_failed' AND source_id = job.id)
    """,
    "refunded job did not fail": """
        SELECT refund.org_id, job.id AS subject, 'refunded, and ' || job.status AS message
        FROM ledger AS refund
        JOIN job ON job.id = refund.source_id
        WHERE refund.source_type = 'job_failed' AND job.status <> 'failed'
    """,
    "entry of another's job": """
        SELECT ledger.org_id, ledger.id AS subject, 'its job is of ' || job.org_id AS message
        FROM ledger
        JOIN job ON job.id = ledger.job_id
        WHERE job.org_id <> ledger.org_id
    """,
    # Retention takes closed jobs in the order of their end, so what is missing and younger than the end of the oldest
    # that is there was never taken by it; what is erased by hand stands in the audit log.
    "charge without its job": """
        SELECT charge.org_id, charge.source_id AS subject, 'charged for no job' AS message
        FROM ledger AS charge
        WHERE charge.source_type IN ('job', 'gpu')
            AND charge.created_at > (SELECT ifnull(min(completed_at), 9e18) FROM job WHERE completed_at IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM job WHERE job.id = charge.source_id)
            AND NOT EXISTS (SELECT 1 FROM audit WHERE subject = charge.source_id AND action = 'job.erased')
            AND NOT EXISTS (
                SELECT 1 FROM audit
                WHERE action IN ('jobs.erased', 'organisation.erased') AND at >= charge.created_at
                    AND (org_id IS NULL OR org_id = charge.org_id))
    """,
}
"""Sort of fault → what finds it."""


def check(conn: Connection) -> Report:
    """What holds now. Ten million entries take about a minute."""
    conn.execute("BEGIN")
    try:
        return _check(conn)
    finally:
        conn.execute("COMMIT")


class Nightly:
    """`check`, once a day and process; a person is told when the ledger is not whole."""

    def __init__(self, house: House, now: Callable[[], datetime] = clock.now) -> None:
        self._house = house
        self._now = now
        self._done: date | None = None

    def once(self) -> None:
        now = self._now()
        if now.hour < _QUIET_HOUR or self._done == now.date():
            return
        report = check(self._house.db.reader())
        self._done = now.date()
        if report.is_whole:
            log.info("ledger reconciled", extra={"entries": report.entries})
            return
        log.error("the ledger is not whole", extra={"faults": report.faults})
        found = ", ".join(f"{sort} ({count})" for sort, count in report.faults.items())
        message = f"The ledger is not whole: {found}. See: customhouse billing reconcile"
        subject, at = now.date().isoformat(), int(now.timestamp() * 1000)
        self._house.db.write(lambda conn: alerts.raise_(conn, "ledger_not_whole", subject, message, at))


def _check(conn: Connection) -> Report:
    faults: dict[str, int] = {}
    evidence: list[Fault] = []
    for sort, question in _CHECKS.items():
        for row in conn.execute(question):
            faults[sort] = faults.get(sort, 0) + 1
            if faults[sort] <= MOST_EVIDENCE:
                evidence.append(Fault(sort, row["org_id"], row["subject"], row["message"]))
    counted = conn.execute(
        """
        SELECT count(*) AS entries, count(DISTINCT org_id) AS organisations, ifnull(sum(amount_micros), 0) AS balance,
            count(*) FILTER (WHERE source_type IN ('job', 'gpu')) AS charged,
            count(*) FILTER (WHERE source_type = 'job_failed') AS refunded,
            count(*) FILTER (WHERE source_type IN ('job', 'gpu')
                AND NOT EXISTS (SELECT 1 FROM job WHERE job.id = source_id)) AS gone
        FROM ledger
        """
    ).fetchone()
    return Report(
        entries=counted["entries"],
        organisations=counted["organisations"],
        balance_micros=counted["balance"],
        charged_jobs=counted["charged"],
        refunded_jobs=counted["refunded"],
        purged_jobs=counted["gone"] - faults.get("charge without its job", 0),
        faults=faults,
        evidence=evidence,
    )
