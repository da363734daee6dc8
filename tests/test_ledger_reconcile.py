"""Reconcile: a whole ledger is said to be whole, and each sort of damage is found and named."""

from datetime import UTC, datetime
from typing import Any

import pytest

from appliance import audit, clock
from appliance.accounts.plans import ChargeMethod
from appliance.billing import alerts, ledger, reconcile
from appliance.billing.ledger import EntryType
from appliance.billing.reconcile import Nightly
from appliance.database import Connection
from appliance.house import House
from appliance.jobs.job import Finding
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
        ("UPDATE ledger SET source_id = 'x', job_id = 'x' WHERE seq = 3", "job without its charge"),
        ("UPDATE ledger SET amount_micros = -900 WHERE seq = 3", "job without its charge"),
        (
            "UPDATE job SET gpu_second_micros = 1500, gpu_ms = 20 WHERE status = 'completed'",
            "metered job without its charge",
        ),
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
        (
            "INSERT INTO ledger SELECT 99, 'x', org_id, type, 0, 9200, 'job', 'nothing', 'nothing', modality, 'd', "
            "created_at + 60000 FROM ledger WHERE seq = 3",
            "charge without its job",
        ),
    ],
)
def test_each_sort_of_damage_is_found_and_named(house: House, busy: list[str], statement: str, sort: str) -> None:
    damage(house, statement)
    report = reconcile.check(house.db.reader())
    assert sort in report.faults
    assert not report.is_whole
    assert any(fault.sort == sort and fault.message and fault.subject for fault in report.evidence)


def test_jobs_that_retention_took_are_counted_and_no_fault(house: House, busy: list[str]) -> None:
    done, failed, *_ = busy
    house.db.write(
        lambda conn: conn.execute("UPDATE job SET completed_at = completed_at + 60000 WHERE id = ?", (failed,))
    )
    house.db.write(lambda conn: conn.execute("DELETE FROM job WHERE id = ?", (done,)))
    report = reconcile.check(house.db.reader())
    assert (report.is_whole, report.purged_jobs) == (True, 1)


@pytest.mark.parametrize(
    ("action", "subject", "is_whole"),
    [
        ("job.erased", "{job}", True),
        ("job.erased", "another", False),
        ("jobs.erased", "A", True),
        ("organisation.erased", "A", True),
        ("key.revoked", "{job}", False),
    ],
)
def test_jobs_that_were_erased_by_hand_are_no_fault(
    house: House, alice: Person, busy: list[str], action: str, subject: str, is_whole: bool
) -> None:
    def erase(conn: Connection) -> None:
        conn.execute("UPDATE job SET completed_at = created_at - 60000 WHERE id = ?", (busy[1],))
        conn.execute("DELETE FROM job WHERE id = ?", (busy[0],))
        audit.record(conn, "operator:test", action, subject.format(job=busy[0]), org_id=alice.org_id, reason="r")

    house.db.write(erase)
    assert reconcile.check(house.db.reader()).is_whole is is_whole


def test_many_faults_are_counted_and_some_are_shown(house: House, alice: Person) -> None:
    finish(house, accept(house, alice))

    def fill(conn: Connection) -> None:
        for n in range(150):
            ledger.post(
                conn,
                alice.org_id,
                EntryType.CHARGE,
                -1,
                source=("job", str(n)),
                description="d",
                now=clock.now_ms() + 60_000,
            )

    house.db.write(fill)
    report = reconcile.check(house.db.reader())
    assert report.faults == {"charge without its job": 150}
    assert len(report.evidence) == reconcile.MOST_EVIDENCE


def test_a_person_is_told_once_a_day_that_the_ledger_is_not_whole(house: House, busy: list[str]) -> None:
    moments = [datetime(2026, 11, day, hour, tzinfo=UTC) for day, hour in ((21, 2), (21, 3), (21, 15), (22, 3))]
    nightly = Nightly(house, now=iter(moments).__next__)
    damage(house, "UPDATE ledger SET balance_micros = balance_micros + 1 WHERE seq = 4")
    told: list[int] = []
    for _ in moments:
        nightly.once()
        told.append(len(alerts.open_(house.db.reader())))
    assert told == [0, 1, 1, 2]
    alert = alerts.open_(house.db.reader())[-1]
    assert (alert.kind, alert.subject) == ("ledger_not_whole", "2026-11-21")
    assert "broken chain (2)" in alert.message


def test_nobody_is_told_of_a_whole_ledger(house: House, busy: list[str]) -> None:
    Nightly(house, now=lambda: datetime(2026, 11, 21, 4, 0, tzinfo=UTC)).once()
    assert alerts.open_(house.db.reader()) == []


def test_metered_jobs_of_every_end_reconcile(house: House, alice: Person) -> None:
    charge(house, alice, ChargeMethod.GPU_TIME)
    credit(house, alice, 10_000)
    finish(house, accept(house, alice), Finding({"text": False}, spent_ms={"cuda:0": 12.3}))
    finish(house, accept(house, alice), Finding({"text": False}))
    finish(house, accept(house, alice), "PROVIDER_TIMEOUT")
    accept(house, alice)
    report = reconcile.check(house.db.reader())
    assert (report.faults, report.charged_jobs) == ({}, 1)
