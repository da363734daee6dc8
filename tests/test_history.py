"""The list of jobs: every filter agrees with a plain loop over the rows, and no question scans them all."""

import itertools
import random
import re
import threading
from typing import Any

import pytest

from appliance.house import House
from appliance.jobs import history
from appliance.jobs.history import Wanted
from appliance.jobs.job import JobKind, Status
from tests import made
from tests.cast import Person
from tests.made import DAY, HOUR

T0 = 1_779_148_800_000  # 2026-05-19T00:00Z

Jobs = list[dict[str, Any]]


@pytest.fixture
def jobs(house: House, alice: Person, charlie: Person) -> Jobs:
    """Five days of Alice's, and Charlie's among them."""
    mine = made.random_jobs(alice.org_id, 1200, T0 - 2 * DAY, T0 + 3 * DAY, seed=1)
    theirs = made.random_jobs(charlie.org_id, 150, T0 - 2 * DAY, T0 + 3 * DAY, seed=2)
    made.insert(house, [*mine, *theirs])
    return [*mine, *theirs]


def matches(job: dict[str, Any], org_id: str, wanted: Wanted) -> bool:
    verdict = job["is_prohibited"] if job["status"] == "completed" else None
    return (
        job["org_id"] == org_id
        and (wanted.kinds is None or job["kind"] in wanted.kinds)
        and (wanted.statuses is None or job["status"] in wanted.statuses)
        and (wanted.is_prohibited is None or (verdict is not None and bool(verdict) is wanted.is_prohibited))
        and job["id"].startswith(wanted.prefix)
        and (wanted.since is None or job["created_at"] >= wanted.since)
        and (wanted.until is None or job["created_at"] < wanted.until)
    )


def expected(jobs: Jobs, org_id: str, wanted: Wanted) -> list[str]:
    found = [job for job in jobs if matches(job, org_id, wanted)]
    return [job["id"] for job in sorted(found, key=lambda job: (-job["created_at"], job["id"]))]


KINDS = [None, frozenset(), frozenset({JobKind.PROMPT}), frozenset({JobKind.IMAGE, JobKind.VIDEO})]
STATUSES = [None, frozenset({Status.COMPLETED}), frozenset({Status.QUEUED, Status.PROCESSING, Status.FAILED})]
VERDICTS = [None, True, False]
PREFIXES = ["", "a", "0", "7f", "b3", "c0f", "zz", "-", "a%", "_"]
RANGES = [
    (None, None),
    (T0, T0 + DAY),
    (T0 - DAY + 1, T0 + DAY - 1),
    (T0 + 90 * 60_000, None),
    (None, T0 + 5),
    (T0 + HOUR, T0 + HOUR + 1000),
    (T0 + DAY + 17, T0 + DAY + 5 * HOUR + 3),
    (T0, T0),
    (T0 + 9, T0),
]


def test_every_combination_of_filters_agrees_with_a_plain_loop(house: House, alice: Person, jobs: Jobs) -> None:
    conn = house.db.reader()
    rng = random.Random(3)
    for kinds, statuses, verdict, prefix, (since, until) in itertools.product(
        KINDS, STATUSES, VERDICTS, PREFIXES, RANGES
    ):
        wanted = Wanted(kinds, statuses, verdict, prefix, since, until)
        ids = expected(jobs, alice.org_id, wanted)
        for limit, offset in ((100, 0), (rng.randrange(1, 100), rng.randrange(0, len(ids) + 2))):
            page = history.page(conn, alice.org_id, wanted, limit, offset)
            assert page.total == len(ids), wanted
            assert [job.id for job in page.jobs] == ids[offset : offset + limit], (wanted, limit, offset)


def test_pages_put_together_are_the_whole_list(house: House, alice: Person, jobs: Jobs) -> None:
    conn = house.db.reader()
    for wanted in (Wanted(), Wanted(prefix="a"), Wanted(is_prohibited=True), Wanted(until=T0 + DAY + 77)):
        ids = expected(jobs, alice.org_id, wanted)
        pages = [history.page(conn, alice.org_id, wanted, 37, offset).jobs for offset in range(0, len(ids) + 37, 37)]
        assert [job.id for page in pages for job in page] == ids


def test_an_id_of_one_or_of_full_length_finds_what_it_begins(house: House, alice: Person, jobs: Jobs) -> None:
    conn = house.db.reader()
    one = next(job for job in jobs if job["org_id"] == alice.org_id)["id"]
    for length in (*range(1, 12), 36):
        wanted = Wanted(prefix=one[:length].upper())
        ids = expected(jobs, alice.org_id, Wanted(prefix=one[:length]))
        assert [job.id for job in history.page(conn, alice.org_id, wanted, 100, 0).jobs] == ids[:100]
    assert history.page(conn, alice.org_id, Wanted(prefix=one + "0"), 100, 0).total == 0


def test_the_facets_are_the_databases_own(house: House, alice: Person) -> None:
    states = [*history.STATES, (Status.FAILED, True)]
    pairs = list(itertools.product(history.KINDS, states))
    made.insert(
        house,
        [
            made.job(alice.org_id, T0 + place, kind=kind.value, status=status.value, is_prohibited=verdict)
            for place, (kind, (status, verdict)) in enumerate(pairs)
        ],
    )
    stored = [row[0] for row in house.db.reader().execute("SELECT facet FROM job ORDER BY created_at")]
    for facet, (kind, (status, verdict)) in zip(stored, pairs, strict=True):
        wanted = Wanted(frozenset({kind}), frozenset({status}), verdict if status is Status.COMPLETED else None)
        assert facet in history.facets(wanted)


def test_counts_follow_a_job_through_its_states_and_out(house: House, alice: Person, jobs: Jobs) -> None:
    rng = random.Random(4)
    mine = [job for job in jobs if job["org_id"] == alice.org_id]

    def change(conn: Any) -> None:
        for job in rng.sample(mine, 400):
            if rng.random() < 0.4:
                conn.execute("DELETE FROM job WHERE id = :id", job)
                jobs.remove(job)
            else:
                status, verdict = rng.choice(made.STATES)
                job.update(status=status, is_prohibited=verdict)
                conn.execute("UPDATE job SET status = :status, is_prohibited = :is_prohibited WHERE id = :id", job)

    house.db.write(change)
    conn = house.db.reader()
    for wanted in (Wanted(), Wanted(prefix="a"), Wanted(since=T0, until=T0 + DAY), Wanted(is_prohibited=False)):
        page = history.page(conn, alice.org_id, wanted, 100, 0)
        assert page.total == len(expected(jobs, alice.org_id, wanted))
        assert [job.id for job in page.jobs] == expected(jobs, alice.org_id, wanted)[:100]
    house.db.write(lambda conn: conn.execute("DELETE FROM job"))
    for table in ("job_count_day", "job_count_hour", "job_count_head"):
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, f"{table} keeps rows of nothing"


def test_a_page_and_its_total_are_of_one_moment(house: House, alice: Person) -> None:
    """Whatever is submitted meanwhile: all of the list fits on the page, so the two must be equal."""
    stop = threading.Event()

    def submit() -> None:
        at = T0
        while not stop.is_set() and at < T0 + 90:
            made.insert(house, [made.job(alice.org_id, at)])
            at += 1

    writer = threading.Thread(target=submit)
    writer.start()
    try:
        for _ in range(200):
            page = history.page(house.db.reader(), alice.org_id, Wanted(), 100, 0)
            assert page.total == len(page.jobs)
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Wanted(), "job_of_org"),
        (Wanted(since=T0 + 5, until=T0 + DAY + 5), "job_of_org"),
        (Wanted(kinds=frozenset({JobKind.VIDEO})), "job_listed"),
        (Wanted(is_prohibited=True, since=T0 + 5), "job_listed"),
        (Wanted(statuses=frozenset({Status.FAILED, Status.QUEUED}), prefix="a"), "job_listed"),
        (Wanted(prefix="ab", since=T0 - DAY + 1), "job_of_org"),
        (Wanted(prefix="abc", is_prohibited=True), "job_by_id"),
    ],
)
def test_no_question_of_the_list_scans_the_table_or_sorts_what_it_skips(
    house: House, alice: Person, jobs: Jobs, wanted: Wanted, index: str
) -> None:
    plans = planned(house, lambda conn: history.page(conn, alice.org_id, wanted, 50, 0))
    steps = [step for plan in plans for step in plan]
    assert any(index in step for step in steps), steps
    for step in steps:
        assert not re.match(r"SCAN (job|api_key|job_count_\w+|usage\w*)\b", step), steps
    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in steps if "job_listed" in step or "job_of_org" in step)


def planned(house: House, ask: Any) -> list[list[str]]:
    """The query plan of each statement that `ask` runs on the connection it is given."""
    conn = house.db.reader()
    statements: list[str] = []
    conn.set_trace_callback(statements.append)
    try:
        ask(conn)
    finally:
        conn.set_trace_callback(None)
    return [
        [row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}")]
        for statement in statements
        if statement.lstrip().startswith("SELECT")
    ]
