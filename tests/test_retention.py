"""Retention: what goes and when, in what steps, and that its bytes go too."""

import itertools
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from appliance import clock, database
from appliance.commands.retention import retention as command
from appliance.database import Connection
from appliance.demo import MEDIA
from appliance.errors import Misconfigured
from appliance.house import House
from appliance.inference.client import Models
from appliance.jobs import advance, content, rows
from appliance.jobs.job import ChildKind, Finding, JobKind, Submission
from appliance.jobs.submit import submit
from appliance.jobs.submit_batch import Item, submit_batch
from appliance.media.decoders import Decoders
from appliance.moderations import events as moderations
from appliance.outbound import Outbound
from appliance.settings import Retention, load
from appliance.tasks import Lanes
from appliance.text.engine import Engine
from appliance.work import retention
from appliance.work.hands import Hands
from appliance.work.retention import DAY_MS
from appliance.work.runner import Runner
from appliance.work.sweep import Sweep
from tests import decided
from tests.cast import Person

DONE = Finding(categories={"text": False})


def prompt(house: House, who: Person, text: str, **fields: Any) -> str:
    return house.db.write(
        lambda conn: submit(conn, house, who.org_id, who.key_id, Submission(JobKind.PROMPT, text=text, **fields)).job_id
    )


def close(house: House, *job_ids: str, days_ago: float = 0) -> None:
    """Their checks find nothing, so long ago."""
    at = clock.now_ms() - int(days_ago * DAY_MS)

    def change(conn: Connection) -> None:
        for job_id in job_ids:
            for child in rows.claim(conn, job_id, "w", 500, at, at + 1000):
                rows.complete(conn, child, DONE, True, at)
            advance.close_if_done(conn, house.settings, job_id, at)

    house.db.write(change)


def kept(house: House, job_id: str) -> bool:
    return rows.input_of(house.db.reader(), job_id) is not None


def number(house: House, table: str) -> int:
    return int(house.db.reader().execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def with_days(house: House, **days: Any) -> House:
    """The same house under other settings."""
    house.settings = msgspec.structs.replace(house.settings, retention=Retention(**days))
    return house


def own_days(house: House, who: Person, days: int | None) -> None:
    house.db.write(
        lambda conn: conn.execute("UPDATE organisation SET retain_prompts_days = ? WHERE id = ?", (days, who.org_id))
    )


def purge(house: House) -> dict[str, int]:
    """A round, without its pauses."""
    return retention.run(house, lambda _: None)


def files(house: House) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(house.settings.home.glob("*.db*")))


# --- what goes, and when ---------------------------------------------------------------------------------------------


def test_a_prompt_goes_when_its_days_are_over_and_not_before(house: House, alice: Person) -> None:
    old, young = prompt(house, alice, "an old lighthouse"), prompt(house, alice, "a young lighthouse")
    close(house, old, days_ago=30.1)
    close(house, young, days_ago=29.9)
    assert purge(house)["prompts"] == 1
    assert (kept(house, old), kept(house, young)) == (False, True)
    assert purge(house)["prompts"] == 0


def test_an_organisations_own_days_go_before_the_settings(house: House, alice: Person, charlie: Person) -> None:
    own_days(house, alice, 7)
    own_days(house, charlie, 36_500)
    short, long = prompt(house, alice, "kept a week"), prompt(house, charlie, "kept for ever")
    close(house, short, long, days_ago=31)
    purge(house)
    assert (kept(house, short), kept(house, long)) == (False, True)


def test_nought_days_mean_gone_as_soon_as_the_job_has_closed(house: House, alice: Person) -> None:
    own_days(house, alice, 0)
    job = prompt(house, alice, "not to be kept")
    purge(house)
    assert kept(house, job)
    close(house, job)
    purge(house)
    assert not kept(house, job)


def test_a_prompt_is_not_kept_longer_than_its_job(house: House, alice: Person) -> None:
    own_days(house, alice, 36_500)
    job = prompt(house, alice, "a lighthouse for ever")
    close(house, job, days_ago=401)
    purge(house)
    assert number(house, "job") == 0
    assert b"a lighthouse for ever" not in files(house)


def test_an_open_job_is_never_touched(house: House, alice: Person) -> None:
    with_days(house, prompts_days=0, traces_days=0, deliveries_days=0, jobs_days=1)
    queued, processing = prompt(house, alice, "queued"), prompt(house, alice, "in work")
    house.db.write(lambda conn: rows.claim(conn, processing, "w", 1, clock.now_ms(), clock.now_ms() + 60_000))
    house.db.write(lambda conn: conn.execute("UPDATE job SET created_at = 0"))
    assert set(purge(house).values()) == {0}
    assert kept(house, queued)
    assert kept(house, processing)
    assert number(house, "child") == 2


def test_a_job_is_answered_as_before_when_its_prompt_has_gone(
    house: House, alice: Person, client: TestClient[Any]
) -> None:
    job = prompt(house, alice, "a lighthouse")
    close(house, job, days_ago=31)
    before = client.get(f"/api/v1/job/{job}", headers=alice.headers).json()
    purge(house)
    assert not kept(house, job)
    assert client.get(f"/api/v1/job/{job}", headers=alice.headers).json() == before


def test_a_trace_goes_and_the_verdict_stays(house: House, alice: Person) -> None:
    def video(conn: Connection) -> str:
        at = clock.now_ms() - 91 * DAY_MS
        job_id = submit(conn, house, alice.org_id, None, Submission(JobKind.VIDEO, url="http://a.example/v")).job_id
        (extraction,) = rows.claim(conn, job_id, "w", 1, at, at + 1000)
        rows.complete(conn, extraction, DONE, False, at)
        rows.insert_frames(conn, extraction, [(n * 1000, f"{n}.jpg") for n in range(700)], at)
        for child in rows.claim(conn, job_id, "w", 1000, at, at + 1000):
            rows.complete(conn, child, DONE, True, at)
        advance.close_if_done(conn, house.settings, job_id, at)
        return job_id

    job = house.db.write(video)
    young = prompt(house, alice, "young")
    close(house, young, days_ago=1)
    changes = watch_changes(house)
    assert purge(house)["traces"] == 702
    assert max(changes) <= 3 * retention._MOST  # the extraction does not take its frames along in one go
    found = rows.job(house.db.reader(), job)
    assert found is not None
    assert (found.status, found.is_prohibited, found.done) == ("completed", False, 700)
    assert [row["kind"] for row in house.db.reader().execute("SELECT kind FROM child")] == [ChildKind.TEXT]


def delivered(house: House, who: Person, days_ago: float, status: str = "delivered") -> str:
    job = prompt(house, who, f"sent {days_ago} {status}", webhook_url="http://receiver.example/x")
    close(house, job, days_ago=days_ago)
    at = clock.now_ms() - int(days_ago * DAY_MS)
    ended = None if status in ("pending", "sending") else at

    def change(conn: Connection) -> None:
        conn.execute("UPDATE delivery SET status = ?, finished_at = ? WHERE job_id = ?", (status, ended, job))
        for _ in range(3):
            conn.execute(
                "INSERT INTO delivery_attempt (delivery_id, at, http_status, ms) VALUES (?, ?, 500, 1.0)",
                (f"wh_{job}", at),
            )

    house.db.write(change)
    return job


def test_deliveries_that_ended_go_with_their_attempts_and_those_under_way_stay(house: House, alice: Person) -> None:
    for status in ("delivered", "failed"):
        delivered(house, alice, 91, status)
    waiting = delivered(house, alice, 91, "pending")
    young = delivered(house, alice, 89)
    assert purge(house)["deliveries"] == 2 * 4
    left = {row["job_id"] for row in house.db.reader().execute("SELECT job_id FROM delivery")}
    assert left == {waiting, young}
    assert number(house, "delivery_attempt") == 6


def test_a_job_goes_with_all_that_is_left_of_it_and_what_was_counted_stays(house: House, alice: Person) -> None:
    house.db.write(
        lambda conn: conn.execute(
            """
            INSERT INTO ledger (id, org_id, type, amount_micros, balance_micros, source_type, source_id, description,
                created_at) VALUES ('e', ?, 'credit', 5, 5, 'manual', 'm', 'credit', 0)
            """,
            (alice.org_id,),
        )
    )
    old = delivered(house, alice, 401)
    young = prompt(house, alice, "young")
    close(house, young, days_ago=399)
    used = [tuple(row) for row in house.db.reader().execute("SELECT * FROM usage")]
    removed = purge(house)
    assert (removed["jobs"], number(house, "job"), number(house, "delivery")) == (1, 1, 0)
    assert rows.job(house.db.reader(), old) is None
    assert rows.job(house.db.reader(), young) is not None
    assert [tuple(row) for row in house.db.reader().execute("SELECT * FROM usage")] == used
    assert number(house, "ledger") == 1
    assert house.db.reader().execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("status", ["pending", "sending"])
def test_a_job_whose_webhook_is_still_to_be_sent_stays_and_none_goes_before_it(
    house: House, alice: Person, status: str
) -> None:
    """After an outage of days, or a replay. What closed after it waits: the ledger's proof relies on the order."""
    first, waiting, last = (
        delivered(house, alice, 410),
        delivered(house, alice, 405, status),
        delivered(house, alice, 401),
    )
    purge(house)
    assert [rows.job(house.db.reader(), job) is None for job in (first, waiting, last)] == [True, False, False]
    assert house.db.reader().execute("SELECT status FROM delivery").fetchall()[0]["status"] == status
    house.db.write(
        lambda conn: conn.execute("UPDATE delivery SET status = 'delivered', finished_at = ?", (clock.now_ms(),))
    )
    purge(house)
    assert number(house, "job") == 0


def test_a_job_stays_until_its_batch_is_told_of(house: House, alice: Person) -> None:
    made: list[str] = []

    def change(conn: Connection) -> None:
        items = [Item("a", "one lighthouse"), Item("b", "another")]
        found = submit_batch(conn, house, alice.org_id, None, items, webhook_url="http://receiver.example/x")
        made.extend(job for _, job in found.jobs)

    house.db.write(change)
    close(house, made[0], days_ago=402)
    purge(house)
    assert number(house, "job") == 2, "its batch is open, and would be told of without it"
    close(house, made[1], days_ago=401)
    purge(house)
    assert number(house, "job") == 2, "the batch's webhook is still to be sent"
    house.db.write(
        lambda conn: conn.execute("UPDATE delivery SET status = 'delivered', finished_at = ?", (clock.now_ms(),))
    )
    purge(house)
    assert [number(house, table) for table in ("job", "batch", "delivery")] == [0, 0, 0]


def test_answers_to_an_idempotency_key_go_after_their_hours(house: House, alice: Person) -> None:
    now = clock.now_ms()
    for key, age_h in (("old", 25), ("young", 23)):
        house.db.write(
            lambda conn, key=key, age_h=age_h: conn.execute(
                """
                INSERT INTO idempotency (org_id, route, key, fingerprint, work_id, status, body, created_at)
                VALUES (?, 'r', ?, x'00', 'w', 202, x'00', ?)
                """,
                (alice.org_id, key, now - age_h * 3_600_000),
            )
        )
    assert purge(house)["idempotency"] == 1
    assert [row["key"] for row in house.db.reader().execute("SELECT key FROM idempotency")] == ["young"]


def test_a_number_that_follows_a_removed_job_is_a_new_one(house: House, alice: Person) -> None:
    """seq is handed out once: the emptied content of the last job that was removed still has it."""
    first = prompt(house, alice, "first")
    close(house, first, days_ago=401)
    purge(house)
    assert number(house, "job") == 0
    assert kept(house, prompt(house, alice, "second"))


def test_use_by_the_minute_goes_after_two_days_and_the_hours_stay(house: House, alice: Person) -> None:
    close(house, prompt(house, alice, "a lighthouse"))
    house.db.write(lambda conn: conn.execute("UPDATE usage SET at = at - 3 * 86400000"))
    close(house, prompt(house, alice, "another"))
    assert purge(house)["minutes"] == 1
    steps = house.db.reader().execute("SELECT step, count(*) FROM usage GROUP BY step").fetchall()
    assert [tuple(row) for row in steps] == [(60_000, 1), (3_600_000, 2)]


@pytest.mark.parametrize(
    ("key", "value"),
    [("PROMPTS_DAYS", "-1"), ("JOBS_DAYS", "0"), ("TRACES_DAYS", "36501"), ("DELIVERIES_DAYS", "-1"), ("EVERY_S", "0")],
)
def test_days_that_mean_nothing_are_refused_at_start(key: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"retention.{key.lower()}"):
        load(environ={f"CUSTOMHOUSE_RETENTION_{key}": value})


# --- media -----------------------------------------------------------------------------------------------------------


def test_a_file_of_a_job_that_closes_at_once_is_not_kept(house: House, alice: Person, client: TestClient[Any]) -> None:
    off = json.dumps({"nsfw": False, "underage": False, "ai_adult_general": False})
    house.db.write(lambda conn: conn.execute("UPDATE organisation SET checks_off = ?", (off,)))
    picture = {"image_file": ("a.jpg", next(MEDIA.glob("*.jpg")).read_bytes())}
    answer = client.post("/api/v1/moderate/image", files=picture, headers=alice.headers)
    assert answer.status_code == 202
    job = client.get(f"/api/v1/job/{answer.json()['job_id']}", headers=alice.headers).json()
    assert job["status"] == "completed"
    assert list(house.settings.media_dir.iterdir()) == []


@pytest.fixture
def sweep(house: House) -> Iterator[Sweep]:
    models, decoders = Models(house.settings.inference_socket, 1.0), Decoders(house.settings)
    lanes = Lanes(house.settings)
    yield Sweep(Runner(Hands(house, models, decoders, Outbound([]), Engine(house)), lanes.follow), lanes)
    lanes.close()
    decoders.close()
    models.close()


def test_media_that_no_open_job_has_go_after_an_hour_by_one_look_at_the_jobs(
    house: House, alice: Person, sweep: Sweep
) -> None:
    """However many files there are: with a look each, ten thousand jobs in the queue took minutes."""
    folder = house.settings.media_dir
    video = Submission(JobKind.VIDEO, path="upload-of-an-open-job")
    job = house.db.write(lambda conn: submit(conn, house, alice.org_id, None, video).job_id)
    for name in ("upload-of-an-open-job", "upload-left", "upload-left-too", "upload-young"):
        (folder / name).write_bytes(b"drawn shapes")
    for name in (job, "frames-of-nobody"):
        (folder / name).mkdir()
    (folder / "frames-of-nobody" / "0001.png").write_bytes(b"drawn shapes")
    for path in folder.iterdir():
        if path.name != "upload-young":
            os.utime(path, (1, 1))
    statements: list[str] = []
    house.db.reader().set_trace_callback(statements.append)
    sweep.media()
    assert {path.name for path in folder.iterdir()} == {"upload-of-an-open-job", job, "upload-young"}
    assert len(statements) == 1


def test_the_media_of_a_job_that_the_sweep_gives_up_go_with_its_end(house: House, alice: Person, sweep: Sweep) -> None:
    (house.settings.media_dir / "upload").write_bytes(b"drawn shapes")
    job = house.db.write(
        lambda conn: submit(conn, house, alice.org_id, None, Submission(JobKind.VIDEO, path="upload")).job_id
    )
    (house.settings.media_dir / job).mkdir()
    for _ in range(house.settings.worker.max_attempts):
        house.db.write(lambda conn: conn.execute("UPDATE child SET status = 'queued'"))
        house.db.write(lambda conn: rows.claim(conn, job, "lost", 1, clock.now_ms(), 1))
    sweep.begin()
    found = rows.job(house.db.reader(), job)
    assert found is not None
    assert found.status == "failed"
    assert list(house.settings.media_dir.iterdir()) == []


# --- in what steps ---------------------------------------------------------------------------------------------------


def watch_changes(house: House) -> list[int]:
    """Collects how many rows each later write changed, triggers and references counted."""
    changes: list[int] = []
    write = house.db.write

    def watched(change: Callable[[Connection], Any]) -> Any:
        def counted(conn: Connection) -> Any:
            before = conn.total_changes
            answer = change(conn)
            changes.append(conn.total_changes - before)
            return answer

        return write(counted)

    house.db.write = watched  # type: ignore[method-assign]
    return changes


def filled(house: House, who: Person, jobs: int, days_ago: float = 401) -> None:
    def change(conn: Connection) -> None:
        at = clock.now_ms() - int(days_ago * DAY_MS)
        for n in range(jobs):
            sub = Submission(JobKind.PROMPT, text=f"a lighthouse, number {n}", webhook_url="http://r.example/x")
            job_id = submit(conn, house, who.org_id, None, sub).job_id
            conn.execute("UPDATE child SET status = 'completed' WHERE job_id = ?", (job_id,))
            advance.close_if_done(conn, house.settings, job_id, at)
        conn.execute("UPDATE delivery SET status = 'failed', finished_at = ?", (at,))
        conn.execute(
            """
            INSERT INTO idempotency (org_id, route, key, fingerprint, work_id, status, body, created_at)
            SELECT org_id, 'r', id, x'00', id, 202, x'00', created_at FROM job
            """
        )
        conn.execute("UPDATE idempotency SET created_at = ?", (at,))
        asked = [decided.asked() for _ in range(jobs)]
        moderations.record_all(conn, who.org_id, None, asked)
        conn.execute("UPDATE moderation_event SET created_at = ?", (at,))

    house.db.write(change)


def test_a_writer_waits_for_a_few_hundred_rows_at_most(house: House, alice: Person) -> None:
    filled(house, alice, 1500)
    changes = watch_changes(house)
    removed = purge(house)
    assert removed == {
        "prompts": 1500,
        "traces": 3000,
        "deliveries": 1500,
        "jobs": 1500,
        "events": 1500,
        "idempotency": 1500,
        "minutes": 0,
    }
    assert max(changes) <= 3 * retention._MOST
    assert len(changes) > 1500 / retention._MOST * 5


def test_between_two_steps_it_leaves_the_writer_to_others_for_twice_as_long(house: House, alice: Person) -> None:
    filled(house, alice, 450)
    events: list[tuple[str, float]] = []
    write = house.db.write

    def slow(change: Callable[[Connection], Any]) -> Any:
        began = time.monotonic()
        answer = write(change)
        events.append(("step" if answer else "end", time.monotonic() - began))
        return answer

    house.db.write = slow  # type: ignore[method-assign]
    retention.run(house, lambda seconds: events.append(("wait", seconds)))
    for (before, took), (after, waited) in itertools.pairwise(events):
        if before == "step":
            assert after == "wait"
            assert waited >= 2 * took


def test_a_round_ends_early_when_the_worker_stops(house: House, alice: Person) -> None:
    filled(house, alice, 450)
    assert retention.run(house, lambda _: True) == {"prompts": retention._MOST}
    assert purge(house)["prompts"] == 450 - retention._MOST


def test_no_step_reads_a_whole_table(house: House, alice: Person) -> None:
    filled(house, alice, 3)
    house.db.write(lambda conn: conn.execute("UPDATE usage SET at = 0 WHERE step = 60000"))
    statements: list[str] = []

    def change(conn: Connection) -> None:
        conn.set_trace_callback(statements.append)
        for purge in retention.PURGES:
            purge.due(conn, house.settings, clock.now_ms())
            assert purge.step(conn, house.settings, clock.now_ms(), 100) > 0
        until = content.removable(conn)
        content.remove(conn, until or 1, 100)
        conn.set_trace_callback(None)

    house.db.write(change)
    reader = house.db.reader()
    plans = {
        sql: [row["detail"] for row in reader.execute(f"EXPLAIN QUERY PLAN {sql}")]
        for sql in statements
        if re.match(r"\s*(SELECT|DELETE|UPDATE)", sql)
    }
    assert len(plans) > 10
    small = {"organisation", "one", "json_each", "job_input"}  # the view's rows that were found already
    for sql, details in plans.items():
        for detail in details:
            scanned = re.match(r"SCAN (\w+)", detail)
            assert scanned is None or scanned[1] in small, f"{sql}\n{details}"


# --- the bytes -------------------------------------------------------------------------------------------------------


def texts(many: int, seed: int = 1) -> list[str]:
    """Short ones, long ones, and some over several pages; each begins, continues and ends like no other."""
    rnd = random.Random(seed)
    sizes = [rnd.choice([20, 60, 300, 1500, 5000, 19_000]) for _ in range(many)]
    return [
        f"begin-{n:06d} " + f"middle-{n:06d} é " * ((size - 30) // 18) + f"end-{n:06d}" for n, size in enumerate(sizes)
    ]


def numbers_in(raw: bytes) -> set[int]:
    return {int(found) for found in re.findall(rb"(?:begin|middle|end)-(\d{6})", raw)}


def test_what_is_purged_is_gone_from_the_files_and_what_is_kept_stands_there_once(
    house: House, alice: Person, charlie: Person
) -> None:
    """Found 2026-11-21: rows that move leave copies in the unused space of pages, whatever secure_delete does."""
    own_days(house, charlie, 36_500)
    rnd = random.Random(7)
    every = texts(2500)
    owners = [rnd.choice([alice, charlie]) for _ in every]
    jobs: list[str] = []
    for begin in range(0, len(every), 100):
        jobs += house.db.write(
            lambda conn, begin=begin: [
                submit(conn, house, who.org_id, None, Submission(JobKind.PROMPT, text=text)).job_id
                for who, text in zip(owners[begin : begin + 100], every[begin : begin + 100], strict=True)
            ]
        )
    order = list(jobs)
    rnd.shuffle(order)
    for part in range(0, len(order), 500):  # they close in another order than they came
        close(house, *order[part : part + 500], days_ago=31)
        purge(house)
    raw = files(house)
    assert numbers_in(raw) == {n for n, who in enumerate(owners) if who is charlie}
    begins = re.findall(rb"begin-\d{6}", raw)
    assert len(begins) == len(set(begins))
    # then what was Charlie's goes too, the front is given back, and the newest stay whole
    own_days(house, charlie, 30)
    last = prompt(house, charlie, "begin-999999 the last lighthouse end-999999")
    purge(house)
    assert numbers_in(files(house)) == {999_999}
    assert kept(house, last)
    assert number(house, "job_content") == 1 + 1000
    assert house.db.reader().execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_row_that_is_kept_at_the_front_keeps_the_empty_ones_behind_it(
    house: House, alice: Person, charlie: Person
) -> None:
    own_days(house, charlie, 36_500)
    first = prompt(house, charlie, "a lighthouse for ever")
    filled(house, alice, 1300, days_ago=31)
    close(house, first, days_ago=31)
    purge(house)
    assert (number(house, "job_content"), number(house, "job_input")) == (1301, 1)
    assert kept(house, first)


def test_emptied_content_is_neither_shown_nor_found(house: House, alice: Person) -> None:
    job = prompt(house, alice, "a lighthouse")
    house.db.write(lambda conn: conn.execute("DELETE FROM job_input WHERE job_id = ?", (job,)))
    assert not kept(house, job)
    assert number(house, "job_input") == 0
    row = house.db.reader().execute("SELECT is_kept, text, hex(text) AS bytes FROM job_content").fetchone()
    assert (row["is_kept"], row["bytes"]) == (0, "00" * len("a lighthouse"))


def test_a_reader_in_the_way_is_waited_for_and_the_log_is_emptied_later(house: House, alice: Person) -> None:
    job = prompt(house, alice, "a lighthouse in the log")
    close(house, job, days_ago=31)
    reading = database.connect(house.db.path)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM job").fetchone()
    assert purge(house)["prompts"] == 1
    assert b"a lighthouse in the log" in files(house)  # its page as it was: somebody still reads that
    assert not retention.settle(house, 0)
    prompt(house, alice, "writers are not kept waiting")
    reading.execute("COMMIT")
    reading.close()
    purge(house)
    assert b"a lighthouse in the log" not in files(house)


def test_what_went_leaves_the_log_even_if_something_else_could_not_go(house: House, alice: Person) -> None:
    job = prompt(house, alice, "a lighthouse before the trouble")
    close(house, job, days_ago=91)
    house.db.write(
        lambda conn: conn.execute(
            "CREATE TRIGGER stuck BEFORE DELETE ON child BEGIN SELECT raise(ABORT, 'not this one'); END"
        )
    )
    with pytest.raises(database.IntegrityError):
        purge(house)
    assert b"a lighthouse before the trouble" not in files(house)


def test_a_round_that_was_killed_is_made_good_by_the_next_one(house: House, alice: Person) -> None:
    job = prompt(house, alice, "a lighthouse before the kill")
    close(house, job, days_ago=31)
    step = retention.PURGES[0]
    house.db.write(lambda conn: retention._step(conn, house, step))  # and then nothing: no log emptied, no end noted
    assert b"a lighthouse before the kill" in files(house)
    purge(house)
    assert b"a lighthouse before the kill" not in files(house)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))

    def ask(*words: str) -> Any:
        done = CliRunner().invoke(command, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return ask


def test_the_command_says_what_is_due_and_then_removes_it(
    house: House, alice: Person, asked: Callable[..., Any]
) -> None:
    own_days(house, alice, 7)
    job = prompt(house, alice, "a lighthouse")
    close(house, job, days_ago=8)
    assert asked("run", "--dry-run")["due"]["prompts"] == 1
    assert kept(house, job)
    shown = asked("show")
    assert shown["organisations"] == [{"organisation": "A", "prompts_days": 7, "own": True, "due": 1}]
    prompts = shown["kept"][0]
    assert (prompts["what"], prompts["days"], prompts["due"], prompts["last_run"]) == ("prompts", 30, 1, None)
    assert asked("run") == {
        "dry_run": False,
        "removed": {**dict.fromkeys(retention.due(house), 0), "prompts": 1},
        "settled": True,
    }
    assert not kept(house, job)
    prompts = asked("show")["kept"][0]
    assert (prompts["removed_then"], prompts["removed_ever"], prompts["due"]) == (1, 1, 0)
    assert prompts["last_run"] is not None


def test_the_command_writes_for_a_person_too(house: House, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    own_days(house, alice, 0)
    shown = CliRunner().invoke(command, ["show"]).output
    assert re.search(r"^prompts +30 days +0 +0  never$", shown, re.MULTILINE)
    assert re.search(r"^A +not at all +0 due  its own$", shown, re.MULTILINE)
    assert "prompts                 0 removed" in CliRunner().invoke(command, ["run"]).output
