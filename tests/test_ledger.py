"""Charges: as a job is accepted or completes, given back when it fails; each once, in its job's own transaction."""

import itertools
import threading
from typing import Any

import msgspec
import pytest

from appliance import clock, database
from appliance.accounts import organisations, plans
from appliance.accounts.organisations import Standing
from appliance.accounts.plans import Changes, ChargeMethod
from appliance.billing import charges, ledger
from appliance.billing.ledger import Entry, EntryType
from appliance.database import Connection
from appliance.errors import AccountTerminated, Forbidden, PaymentRequired, Refusal
from appliance.house import House
from appliance.inference.wire import Answer
from appliance.jobs import advance, rows
from appliance.jobs.job import Finding, JobKind, Submission
from appliance.jobs.submit import submit
from appliance.settings import Billing, Settings
from appliance.work import looking
from tests.cast import Person

WHO: dict[str, Any] = {"actor": "operator:test", "reason": "a test"}
PRICES: dict[str, Any] = {
    "prompt_micros": 800,
    "image_micros": 2_000,
    "video_micros": 50_000,
    "gpu_second_micros": 1_500,
}


def charge(house: House, person: Person, method: ChargeMethod = ChargeMethod.PER_JOB, **prices: int) -> None:
    """Put the person's organisation on a plan that charges so."""

    def change(conn: Connection) -> None:
        plans.create(conn, "paid", "Paid", Changes(charge_method=method, **{**PRICES, **prices}), **WHO)
        conn.execute("UPDATE organisation SET plan = 'paid' WHERE id = ?", (person.org_id,))

    house.db.write(change)


def credit(house: House, person: Person, micros: int, source_id: str = "gift") -> Entry | None:
    return house.db.write(
        lambda conn: ledger.post(
            conn,
            person.org_id,
            EntryType.CREDIT,
            micros,
            source=("manual", source_id),
            description="A gift",
            now=clock.now_ms(),
        )
    )


def accept(house: House, person: Person, kind: JobKind = JobKind.PROMPT, batch_id: str | None = None) -> str:
    asked = Submission(kind, text="a lighthouse at dawn", batch_id=batch_id)
    return house.db.write(lambda conn: submit(conn, house, person.org_id, None, asked).job_id)


def finish(house: House, job_id: str, *findings: Finding | str, settings: Settings | None = None) -> None:
    """Close the job: each child with its finding, or failed with its error code."""

    def change(conn: Connection) -> None:
        now = clock.now_ms()
        children = rows.claim(conn, job_id, "w", 64, now, now + 60_000)
        for child, found in zip(children, findings or [Finding({"text": False})] * len(children), strict=True):
            if isinstance(found, str):
                rows.fail(conn, child, found, "it did not work", now)
            else:
                rows.complete(conn, child, found, True, now)
        advance.close_if_done(conn, settings or house.settings, job_id, now)

    house.db.write(change)


def entries(house: House, person: Person) -> list[tuple[str, int, int]]:
    found = house.db.reader().execute(
        "SELECT type, amount_micros, balance_micros FROM ledger WHERE org_id = ? ORDER BY seq", (person.org_id,)
    )
    return [tuple(row) for row in found]


def job(house: House, job_id: str) -> rows.JobRow:
    found = rows.job(house.db.reader(), job_id)
    assert found is not None
    return found


def test_each_kind_is_charged_its_price_as_it_is_accepted(house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 1_000_000)
    for kind in (JobKind.PROMPT, JobKind.IMAGE, JobKind.VIDEO):
        accept(house, alice, kind)
    assert entries(house, alice) == [
        ("credit", 1_000_000, 1_000_000),
        ("charge", -800, 999_200),
        ("charge", -2_000, 997_200),
        ("charge", -50_000, 947_200),
    ]
    last = house.db.reader().execute("SELECT * FROM ledger ORDER BY seq DESC").fetchone()
    assert (last["modality"], last["description"], last["source_type"]) == ("video", "Video moderation", "job")
    assert last["source_id"] == last["job_id"]


def test_nothing_is_charged_where_charging_is_off(house: House, alice: Person) -> None:
    finish(house, accept(house, alice))
    finish(house, accept(house, alice), "PROVIDER_TIMEOUT")
    assert entries(house, alice) == []


def test_a_price_of_zero_leaves_no_entry(house: House, alice: Person) -> None:
    charge(house, alice, prompt_micros=0)
    credit(house, alice, 1)
    finish(house, accept(house, alice), "PROVIDER_TIMEOUT")
    assert len(entries(house, alice)) == 1


def test_a_failed_job_is_given_back_what_was_charged_once(house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 10_000)
    job_id = accept(house, alice)
    house.db.write(lambda conn: plans.change(conn, "paid", Changes(prompt_micros=900), **WHO))
    finish(house, job_id, "MEDIA_UNREACHABLE")
    assert entries(house, alice)[1:] == [("charge", -800, 9_200), ("refund", 800, 10_000)]
    house.db.write(lambda conn: charges.on_fail(conn, alice.org_id, job_id, "prompt", "MEDIA_UNREACHABLE", 0))
    finish(house, job_id)
    assert len(entries(house, alice)) == 3


def test_a_completed_job_keeps_its_charge(house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 10_000)
    finish(house, accept(house, alice))
    assert [kind for kind, *_ in entries(house, alice)] == ["credit", "charge"]


def test_a_submission_at_or_below_zero_is_refused_and_leaves_nothing(house: House, alice: Person) -> None:
    charge(house, alice)
    with pytest.raises(
        PaymentRequired, match=r"balance of this account is \$0\.00; nothing was accepted\. Top up: POST"
    ):
        accept(house, alice)
    credit(house, alice, 500)
    accept(house, alice)  # nothing is reserved: the last job may take it a little below zero
    with pytest.raises(PaymentRequired, match=r"is -\$0\.0003;"):
        accept(house, alice)
    assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 1
    assert entries(house, alice)[-1] == ("charge", -800, -300)


def test_however_many_submit_together_one_job_at_most_goes_below_zero(house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 10_000)
    refused: list[PaymentRequired] = []

    def client() -> None:
        for _ in range(10):
            try:
                accept(house, alice)
            except PaymentRequired as error:
                refused.append(error)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entries(house, alice)[-1] == ("charge", -800, 10_000 - 13 * 800)
    assert len(refused) == 80 - 13


def test_jobs_accepted_already_complete_at_any_balance(house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 100)
    job_id = accept(house, alice)
    finish(house, job_id)
    assert job(house, job_id).status == "completed"


def test_a_batch_that_has_begun_is_taken_whole(house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 1_000)
    for _ in range(3):
        accept(house, alice, batch_id="b1")
    assert entries(house, alice)[-1] == ("charge", -800, -1_400)
    with pytest.raises(PaymentRequired):
        accept(house, alice, batch_id="b2")


def test_metered_time_is_charged_as_the_job_completes(house: House, alice: Person) -> None:
    charge(house, alice, ChargeMethod.GPU_TIME)
    credit(house, alice, 10_000)
    job_id = accept(house, alice)
    assert len(entries(house, alice)) == 1
    house.db.write(lambda conn: plans.change(conn, "paid", Changes(gpu_second_micros=9), **WHO))
    finish(house, job_id, Finding({"text": False}, spent_ms={"cuda:0": 2_000.2, "cpu": 500.0}))
    assert job(house, job_id).gpu_ms == 2_001
    assert entries(house, alice)[1:] == [("charge", -3_002, 6_998)]  # 2.001 s at the price as it was accepted
    description = house.db.reader().execute("SELECT description FROM ledger WHERE source_type = 'gpu'").fetchone()[0]
    assert description == "Prompt moderation, 2.001 s of model time"


def test_a_metered_job_that_fails_costs_nothing(house: House, alice: Person) -> None:
    charge(house, alice, ChargeMethod.GPU_TIME)
    credit(house, alice, 10_000)
    finish(house, accept(house, alice), "PROVIDER_TIMEOUT")
    assert len(entries(house, alice)) == 1


def test_a_job_pays_as_was_agreed_when_it_was_accepted(house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 10_000)
    flat = accept(house, alice)
    house.db.write(lambda conn: plans.change(conn, "paid", Changes(charge_method=ChargeMethod.GPU_TIME), **WHO))
    metered = accept(house, alice)
    house.db.write(lambda conn: plans.change(conn, "paid", Changes(charge_method=ChargeMethod.PER_JOB), **WHO))
    for job_id in (flat, metered):
        finish(house, job_id, Finding({"text": False}, spent_ms={"cuda:0": 1_000.0}))
    assert [amount for _, amount, _ in entries(house, alice)] == [10_000, -800, -1_500]


def test_time_on_the_cpu_counts_where_the_settings_say_so(house: House, alice: Person) -> None:
    spent = Finding({"text": False}, spent_ms={"cpu": 12.3})
    uncounted, counted = accept(house, alice), accept(house, alice)
    finish(house, uncounted, spent)
    finish(
        house, counted, spent, settings=msgspec.structs.replace(house.settings, billing=Billing(count_cpu_seconds=True))
    )
    assert (job(house, uncounted).gpu_ms, job(house, counted).gpu_ms) == (0, 13)


def test_model_time_is_each_answer_once_however_many_scores_it_gave() -> None:
    answers = {
        "judge": Answer(scores={"nsfw": 0.1, "underage": 0.1}, device="cuda:0", ms=40.0),
        "opennsfw": Answer(scores={"nsfw": 0.1}, device="cpu", ms=7.5),
        "absent": Answer(),
    }
    assert looking.spent([answers, answers]) == {"cuda:0": 80.0, "cpu": 15.0}


def test_tokens_are_those_that_a_text_judge_read(house: House, alice: Person) -> None:
    judged, unjudged = accept(house, alice), accept(house, alice)
    finish(house, judged, Finding({"text": False}, detail={"tokens": 212.0, "windows": 1.0}))
    finish(house, unjudged, Finding({"text": False}, detail={"windows": 1.0}))
    assert (job(house, judged).tokens, job(house, unjudged).tokens) == (212, 0)


def test_what_is_told_twice_is_paid_once(house: House, alice: Person) -> None:
    assert credit(house, alice, 5) is not None
    assert credit(house, alice, 5) is None
    assert entries(house, alice) == [("credit", 5, 5)]


def test_threads_that_post_together_leave_an_unbroken_chain(house: House, alice: Person, charlie: Person) -> None:
    def post(person: Person, name: str) -> None:
        for n in range(20):
            credit(house, person, n + 1, f"{name}-{n % 15}")

    threads = [
        threading.Thread(target=post, args=(person, name))
        for person, name in ((alice, "a"), (alice, "a"), (charlie, "c"), (alice, "b"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for person, expected in ((alice, 240), (charlie, 120)):
        held = entries(house, person)
        assert sum(amount for _, amount, _ in held) == held[-1][2] == expected
        assert all(before[2] + after[1] == after[2] for before, after in itertools.pairwise(held))


@pytest.mark.parametrize("statement", ["UPDATE ledger SET amount_micros = 0", "DELETE FROM ledger"])
def test_an_entry_is_never_edited(house: House, alice: Person, statement: str) -> None:
    credit(house, alice, 5)
    with pytest.raises(database.IntegrityError, match="only ever added to"):
        house.db.write(lambda conn: conn.execute(statement))


def _synced(house: House, ok_hours_ago: float, failed_hours_ago: float | None) -> None:
    now = clock.now_ms()
    ok, failed = (None if hours is None else now - int(hours * 3_600_000) for hours in (ok_hours_ago, failed_hours_ago))
    house.db.write(
        lambda conn: conn.execute(
            """
            INSERT OR REPLACE INTO stripe_sync (is_live, cursor_at, looked_back_at, last_ok_at, last_error_at)
            VALUES (1, 0, 0, ?, ?)
            """,
            (ok, failed),
        )
    )


@pytest.mark.parametrize(
    ("ok_hours_ago", "failed_hours_ago", "grace_hours", "is_refused"),
    [
        (0.1, None, 72, True),  # Stripe is well: what was paid is known
        (0.1, 0.2, 72, True),  # it failed, and was well again since
        (2, 0.1, 72, False),
        (71, 0.1, 72, False),
        (73, 0.1, 72, True),  # for too long
        (2, 0.1, 0, True),  # no grace
    ],
)
def test_while_stripe_cannot_be_reached_grace_decides_whether_zero_is_refused(
    house: House,
    alice: Person,
    ok_hours_ago: float,
    failed_hours_ago: float | None,
    grace_hours: float,
    is_refused: bool,
) -> None:
    charge(house, alice)
    _synced(house, ok_hours_ago, failed_hours_ago)
    billing = Billing(stripe_key_file="/named/only", offline_grace_hours=grace_hours)
    settings = msgspec.structs.replace(house.settings, billing=billing)
    assert charges.must_pay(house.db.reader(), settings, alice.org_id, clock.now_ms()) is is_refused


def test_there_is_no_grace_without_stripe_nor_for_the_half_of_the_account_that_is_left(
    house: House, alice: Person
) -> None:
    charge(house, alice)
    _synced(house, 2, 0.1)
    assert charges.must_pay(house.db.reader(), house.settings, alice.org_id, clock.now_ms())
    settings = msgspec.structs.replace(house.settings, billing=Billing(stripe_key_file="/named/only"))
    assert not charges.must_pay(house.db.reader(), settings, alice.org_id, clock.now_ms())
    house.db.write(lambda conn: conn.execute("UPDATE stripe_sync SET is_live = 0"))  # it was a test key's …
    _synced(house, 0.01, None)  # … and a live one is well
    assert charges.must_pay(house.db.reader(), settings, alice.org_id, clock.now_ms())


@pytest.mark.parametrize(
    ("standing", "refusal"), [(Standing.TERMINATED, AccountTerminated), (Standing.DISABLED, Forbidden)]
)
def test_what_was_still_coming_in_as_the_account_was_closed_is_not_accepted(
    house: House, alice: Person, standing: Standing, refusal: type[Refusal]
) -> None:
    """An upload may take minutes; its key was let in before the ban."""
    house.db.write(
        lambda conn: organisations.set_status(conn, alice.org_id, standing, actor="operator:test", reason="why")
    )
    with pytest.raises(refusal):
        accept(house, alice)
    assert entries(house, alice) == []
