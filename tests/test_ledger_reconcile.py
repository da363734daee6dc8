"""Reconcile: a whole ledger is said to be whole, and each sort of damage is found and named."""

from typing import Any

import pytest

from appliance import clock
from appliance.billing import ledger, reconcile
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from tests.cast import Person
from tests.test_ledger import accept, charge, credit, finish

_GUARDS = ("ledger_not_changed", "ledger_not_removed")


def damage(house: House, statement: str, *bound: Any) -> None:
    """What no code of ours can do: the guards are off for it."""

    def change(conn: Connection) -> None:
        for guard in _GUARDS:
            conn.execute(f"DROP TRIGGER IF EXISTS {guard}")
        conn.execute(statement, bound)

    house.db.write(change)


@pytest.fixture
def busy(house: House, alice: Person, charlie: Person) -> list[str]:
    """Two organisations; four jobs: completed, failed, under way, and another's."""
    charge(house, alice)
    house.db.write(lambda conn: conn.execute("UPDATE organisation SET plan = 'paid'"))
    for person in (alice, charlie):
        credit(house, person, 10_000, person.org_id)
    done, failed, open_ = (accept(house, alice) for _ in range(3))
    finish(house, done)
    finish(house, failed, "MEDIA_UNREACHABLE")
    return [done, failed, open_, accept(house, charlie)]


def test_a_whole_ledger_is_said_to_be_whole(house: House, busy: list[str]) -> None:
    report = reconcile.check(house.db.reader())
    assert report.is_whole, report.evidence
    assert (report.entries, report.organisations) == (7, 2)
    assert (report.charged_jobs, report.refunded_jobs, report.purged_jobs) == (4, 1, 0)
    assert report.balance_micros == 20_000 - 3 * 800


def test_an_empty_ledger_is_whole(house: House) -> None:
    assert reconcile.check(house.db.reader()).is_whole


@pytest.mark.parametrize(
    ("statement", "sort"),
    [
        ("UPDATE ledger SET balance_micros = balance_micros + 1 WHERE seq = 4", "broken chain"),
        ("DELETE FROM ledger WHERE source_type = 'job' AND seq = 3", "broken chain"),
        ("UPDATE ledger SET amount_micros = 11000 WHERE seq = 1", "sum is not the balance"),
        ("UPDATE ledger SET amount_micros = 800 WHERE seq = 3", "wrong sign"),
        (
            "INSERT INTO ledger SELECT 99, 'x', org_id, type, 0, 9200, 'gpu', source_id, job_id, modality, 'd', 0 "
            "FROM ledger WHERE seq = 3",
            "job charged twice",
        ),
        ("UPDATE ledger SET amount_micros = 900 WHERE source_type = 'job_failed'", "refund without its charge"),
        ("UPDATE ledger SET source_id = 'other' WHERE source_type = 'job_failed'", "failed job not refunded"),
        ("UPDATE job SET status = 'completed' WHERE status = 'failed'", "refunded job did not fail"),
        (
            "UPDATE ledger SET org_id = (SELECT id FROM organisation WHERE name = 'C') WHERE seq = 5",
            "entry of another's job",
        ),
        ("DELETE FROM job WHERE status = 'completed'", "charge without its job"),
    ],
)
def test_each_sort_of_damage_is_found_and_named(house: House, busy: list[str], statement: str, sort: str) -> None:
    damage(house, statement)
    report = reconcile.check(house.db.reader())
    assert sort in report.faults
    assert not report.is_whole
    assert any(fault.sort == sort and fault.message and fault.subject for fault in report.evidence)


def test_jobs_that_were_purged_are_counted_and_no_fault(house: House, busy: list[str]) -> None:
    def purge(conn: Connection) -> None:
        conn.execute("DELETE FROM job WHERE status = 'completed'")
        conn.execute(
            "INSERT OR REPLACE INTO retention_run VALUES ('jobs', ?, 1, ?, 1)", (clock.now_ms(), clock.now_ms())
        )

    house.db.write(purge)
    report = reconcile.check(house.db.reader())
    assert (report.is_whole, report.purged_jobs) == (True, 1)


def test_many_faults_are_counted_and_some_are_shown(house: House, alice: Person) -> None:
    def fill(conn: Connection) -> None:
        for n in range(150):
            ledger.post(
                conn, alice.org_id, EntryType.CHARGE, -1, source=("job", str(n)), description="d", now=clock.now_ms()
            )

    house.db.write(fill)
    report = reconcile.check(house.db.reader())
    assert report.faults == {"charge without its job": 150}
    assert len(report.evidence) == reconcile.MOST_EVIDENCE
