"""Erase: what goes, what stays, that it can be run again, and that the files hold nothing of it."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from appliance import audit, clock, database
from appliance.accounts import keys, organisations
from appliance.api import progress
from appliance.api.watcher import Standing, Watcher
from appliance.commands.erase import erase as command
from appliance.database import Connection
from appliance.errors import JobNotFound
from appliance.house import House
from appliance.jobs import advance, rows
from appliance.jobs.job import Finding, JobKind, Status, Submission
from appliance.jobs.submit import submit
from appliance.jobs.submit_batch import Item, submit_batch
from appliance.moderations import events
from appliance.text import keywords
from appliance.webhooks import deliveries, endpoints
from appliance.webhooks.schedule import Outcome, State
from appliance.work import erase, proof
from appliance.work.erase import Scope
from tests import decided
from tests.cast import Person, enrol
from tests.test_retention import close, files, number, prompt, texts

ROOT = Path(__file__).resolve().parent.parent
WHO: dict[str, Any] = {"actor": "operator:test", "reason": "asked by the person"}


def the_organisation(house: House, who: Person) -> organisations.Organisation:
    return next(one for one in organisations.every(house.db.reader()) if one.id == who.org_id)


def audit_lines(house: House) -> list[dict[str, Any]]:
    return [dict(row) for row in house.db.reader().execute("SELECT * FROM audit ORDER BY id")]


# --- a job -----------------------------------------------------------------------------------------------------------


def test_an_erased_job_is_not_found_and_nothing_of_it_is_left(
    house: House, alice: Person, charlie: Person, client: TestClient[Any]
) -> None:
    job = prompt(house, alice, "a lighthouse that is to go", webhook_url="http://receiver.example/x")
    other = prompt(house, charlie, "a harbour that stays")
    close(house, job, other)
    report = erase.erase(house, Scope(job_id=job), **WHO)
    assert report.is_proven
    assert (report.contents, report.looked_for, report.found) == (1, 1, 0)
    assert report.looked_through_bytes > 100_000
    assert report.removed == {"job": 1, "child": 1, "delivery": 1, "media": 0}
    answer = client.get(f"/api/v1/job/{job}", headers=alice.headers)
    assert (answer.status_code, answer.json()["error"]) == (404, "JOB_NOT_FOUND")
    assert client.get(f"/api/v1/job/{other}", headers=charlie.headers).json()["status"] == "completed"
    assert b"lighthouse" not in files(house)
    assert b"a harbour that stays" in files(house)
    assert_no_orphans(house)


def test_the_audit_log_says_who_why_and_how_much_and_not_what(house: House, alice: Person) -> None:
    job = prompt(house, alice, "a lighthouse that is to go")
    close(house, job)
    erase.erase(house, Scope(job_id=job), **WHO)
    lines = audit_lines(house)
    assert [(line["action"], line["subject"], line["actor"]) for line in lines] == [
        ("job.erased", job, "operator:test"),
        ("erase.looked", job, "operator:test"),
    ]
    assert lines[0]["reason"] == "asked by the person"
    assert json.loads(lines[0]["detail"])["job"] == 1
    assert json.loads(lines[1]["detail"])["found"] == 0
    assert "lighthouse" not in json.dumps(lines)


def test_a_job_that_never_was_cannot_be_erased_and_one_that_was_can_be_again(house: House, alice: Person) -> None:
    with pytest.raises(JobNotFound):
        erase.erase(house, Scope(job_id=clock.new_id()), **WHO)
    assert audit_lines(house) == []
    job = prompt(house, alice, "a lighthouse")
    close(house, job)
    erase.erase(house, Scope(job_id=job), **WHO)
    again = erase.erase(house, Scope(job_id=job), **WHO)
    assert (again.is_proven, again.removed["job"]) == (True, 0)


def test_media_go_from_the_disk(house: House, alice: Person) -> None:
    media = house.settings.media_dir
    (media / "upload-1.bin").write_bytes(b"drawn shapes")
    job = house.db.write(
        lambda conn: submit(conn, house, alice.org_id, None, Submission(JobKind.VIDEO, path="upload-1.bin")).job_id
    )
    (media / job).mkdir()
    (media / job / "frame-1.jpg").write_bytes(b"drawn shapes")
    other = media / "upload-2.bin"
    other.write_bytes(b"of another job")
    report = erase.erase(house, Scope(job_id=job), **WHO)
    assert report.removed["media"] == 2
    assert list(media.iterdir()) == [other]


def test_an_open_job_is_ended_and_given_back_what_it_cost(house: House, alice: Person) -> None:
    def charged(conn: Connection) -> None:
        conn.execute("UPDATE plan SET charge_method = 'per_job', prompt_micros = 500")
        conn.execute(
            """
            INSERT INTO ledger (id, org_id, type, amount_micros, balance_micros, source_type, source_id, description,
                created_at) VALUES ('e', ?, 'credit', 1000, 1000, 'manual', 'm', 'credit', 0)
            """,
            (alice.org_id,),
        )

    house.db.write(charged)
    job = prompt(house, alice, "a lighthouse")
    erase.erase(house, Scope(job_id=job), **WHO)
    entries = house.db.reader().execute("SELECT type, balance_micros FROM ledger ORDER BY seq").fetchall()
    assert [tuple(row) for row in entries] == [("credit", 1000), ("charge", 500), ("refund", 1000)]
    assert rows.open_jobs(house.db.reader()) == 0


def test_a_worker_that_comes_back_late_brings_nothing_back(house: House, alice: Person) -> None:
    now = clock.now_ms()
    job = house.db.write(
        lambda conn: submit(conn, house, alice.org_id, None, Submission(JobKind.VIDEO, url="http://a.example/v")).job_id
    )
    (child,) = house.db.write(lambda conn: rows.claim(conn, job, "w", 1, now, now + 60_000))
    erase.erase(house, Scope(job_id=job), **WHO)

    def late(conn: Connection) -> tuple[bool, bool, bool, advance.FollowUp]:
        done = rows.complete(conn, child, Finding(categories={}), False, now)
        failed = rows.fail(conn, child, "PROVIDER_TIMEOUT", "late", now)
        waits = rows.put_back(conn, child, "PROVIDER_TIMEOUT", "late", now)
        return done, failed, waits, advance.close_if_done(conn, house.settings, job, now)

    assert house.db.write(late) == (False, False, False, advance.FollowUp(job, is_closed=True))
    assert (number(house, "job"), number(house, "child"), number(house, "job_input")) == (0, 0, 0)


def test_a_delivery_that_comes_back_late_is_not_logged(house: House, alice: Person) -> None:
    now = clock.now_ms()
    job = prompt(house, alice, "a lighthouse", webhook_url="http://receiver.example/x")
    close(house, job)
    claim = house.db.write(lambda conn: deliveries.claim(conn, f"wh_{job}", now + 1000, 60_000))
    assert claim is not None
    erase.erase(house, Scope(job_id=job), **WHO)
    attempt = deliveries.Attempt(now, 200, None, 5.0)
    assert not house.db.write(lambda conn: deliveries.record(conn, claim, attempt, Outcome(State.DELIVERED), now))
    assert (number(house, "delivery"), number(house, "delivery_attempt")) == (0, 0)


@pytest.mark.parametrize("was_open", [True, False])
def test_a_batch_that_is_still_to_be_told_of_is_told_of_without_the_erased_job(
    house: House, alice: Person, was_open: bool
) -> None:
    items = [Item(key, f"the secret {key} of a lighthouse") for key in "abc"]
    made = house.db.write(
        lambda conn: submit_batch(conn, house, alice.org_id, None, items, webhook_url="http://receiver.example/x")
    )
    jobs = dict(made.jobs)
    close(house, jobs["a"], jobs["c"])
    if not was_open:
        close(house, jobs["b"])
    erase.erase(house, Scope(job_id=jobs["b"]), **WHO)
    (sent,) = house.db.reader().execute("SELECT id, status, body FROM delivery").fetchall()
    assert (sent["id"], sent["status"]) == (f"wh_{made.batch_id}", "pending")
    assert [item["key"] for item in json.loads(sent["body"])["items"]] == ["a", "c"]


def test_nothing_more_is_told_of_an_organisation_that_is_erased(house: House, alice: Person) -> None:
    items = [Item(key, f"the secret {key} of a lighthouse") for key in "abc"]
    made = house.db.write(
        lambda conn: submit_batch(conn, house, alice.org_id, None, items, webhook_url="http://receiver.example/x")
    )
    close(house, *(job for _, job in made.jobs))
    erase.erase(house, Scope(organisation=the_organisation(house, alice)), **WHO)
    assert [number(house, table) for table in ("delivery", "batch", "job")] == [0, 0, 0]


def test_a_stream_of_an_erased_job_ends(house: House, alice: Person) -> None:
    job = prompt(house, alice, "a lighthouse")
    standing = Standing(job_id=job, kind=JobKind.PROMPT, status=Status.QUEUED, total=1, done=0)

    async def stream() -> list[bytes]:
        watcher = Watcher(house.settings.database, every_s=0.01)
        said = []
        async with asyncio.timeout(20):
            async for piece in progress.events(watcher, standing, 0, lambda: True):
                said.append(piece)
                await asyncio.to_thread(house.db.write, lambda conn: conn.execute("DELETE FROM job"))
        await watcher.close()
        return said

    assert len(asyncio.run(stream())) == 1


def test_the_answer_to_an_idempotency_key_goes_with_its_job(
    house: House, alice: Person, client: TestClient[Any]
) -> None:
    def send(key: str) -> str:
        headers = {**alice.headers, "Idempotency-Key": key}
        return str(client.post("/api/v1/moderate/prompt", data={"prompt": key}, headers=headers).json()["job_id"])

    first, second = send("one"), send("two")
    erase.erase(house, Scope(job_id=first), **WHO)
    assert number(house, "idempotency") == 1
    assert send("one") != first
    assert send("two") == second


def test_the_event_of_a_picture_goes_with_its_job_and_what_was_counted_stays(house: House, alice: Person) -> None:
    job, other = (prompt(house, alice, f"a lighthouse {n}") for n in range(2))
    close(house, job, other)
    for one in (job, other):
        asked = decided.asked({"nsfw": 0.1}, modality="image")
        house.db.write(lambda conn, one=one, asked=asked: events.record(conn, alice.org_id, None, *asked, job_id=one))
    erase.erase(house, Scope(job_id=job), **WHO)
    left = house.db.reader().execute("SELECT job_id FROM moderation_event").fetchall()
    assert [row["job_id"] for row in left] == [other]
    assert number(house, "moderation_use") == 1
    assert_no_orphans(house)


# --- an organisation, and the past -----------------------------------------------------------------------------------


def everything_of(house: House, who: Person, job_id: str) -> dict[str, int]:
    """A row of this organisation, or of this job, in every table that can name one: made as the schema says, so that a
    table that is added later is filled too. Table → rows."""
    conn = database.connect(house.db.path)
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute("PRAGMA ignore_check_constraints = ON")
    tables = [row["name"] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for place, table in enumerate(tables):
        columns = conn.execute("SELECT * FROM pragma_table_xinfo(?) WHERE hidden = 0", (table,)).fetchall()
        names = {row["name"] for row in columns}
        if not names & {"org_id", "job_id"} or table in ("job", "job_content"):
            continue
        row: dict[str, Any] = {}
        for column in columns:
            if column["name"] in ("org_id", "job_id"):
                row[column["name"]] = who.org_id if column["name"] == "org_id" else job_id
            elif (
                column["type"] == "INTEGER"
                and column["pk"] == 1
                and "org_id" not in (names if column["pk"] == 0 else ())
            ):
                continue  # numbers itself
            elif column["notnull"] or column["pk"]:
                word = f"{table} {place} {who.org_id}"
                row[column["name"]] = {"INTEGER": 1, "REAL": 1.0, "BLOB": word.encode()}.get(column["type"], word)
        for key in conn.execute("SELECT * FROM pragma_foreign_key_list(?)", (table,)).fetchall():
            if isinstance(row.get(key["from"]), int):  # a number is another's as well: the row made just before is ours
                (row[key["from"]],) = conn.execute(f"SELECT max(rowid) FROM {key['table']}").fetchone()
        named = ", ".join(row)
        conn.execute(
            f"INSERT OR IGNORE INTO {table} ({named}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )
    conn.close()
    return rows_of(house, who.org_id)


def rows_of(house: House, org_id: str) -> dict[str, int]:
    reader = house.db.reader()
    tables = [row["name"] for row in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {
        table: reader.execute(f"SELECT count(*) FROM {table} WHERE org_id = ?", (org_id,)).fetchone()[0]
        for table in tables
        if reader.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = 'org_id'", (table,)).fetchone()
    }


def assert_no_orphans(house: House) -> None:
    """Every reference leads somewhere, and every job_id names a job, but where the accounts keep it."""
    reader = house.db.reader()
    assert reader.execute("PRAGMA foreign_key_check").fetchall() == []
    for row in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        table = row["name"]
        columns = {column["name"] for column in reader.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        if "job_id" in columns and table not in erase.STAYS | {"job_content"}:
            orphans = reader.execute(f"SELECT job_id FROM {table} WHERE job_id NOT IN (SELECT id FROM job)").fetchall()
            assert orphans == [], table
        if "path" in columns and table == "job_content":
            assert (
                reader.execute("SELECT count(*) FROM job_input WHERE job_id NOT IN (SELECT id FROM job)").fetchone()[0]
                == 0
            )


def test_every_table_that_names_a_job_is_known_to_erase(house: House) -> None:
    """One that is added later is either a job's own (jobs/removal.py) or stays."""
    reader = house.db.reader()
    found = {
        row["name"]
        for row in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if reader.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = 'job_id'", (row["name"],)).fetchone()
    }
    assert found == {"child", "delivery", "ledger", "job_content", "moderation_event"}


def test_an_erased_organisation_leaves_no_row_behind_but_its_accounts(
    house: House, alice: Person, bob: Person, charlie: Person, client: TestClient[Any]
) -> None:
    jobs = {
        who.org_id: [prompt(house, who, f"a lighthouse of {name}, {n}") for n in range(120)]
        for who, name in ((alice, "A"), (charlie, "C"))
    }
    for one in jobs.values():
        close(house, *one[:60])
    filled = everything_of(house, alice, jobs[alice.org_id][0])
    others = everything_of(house, charlie, jobs[charlie.org_id][0])
    assert {table for table, count in filled.items() if not count} == set()
    report = erase.erase(house, Scope(organisation=the_organisation(house, alice)), **WHO)
    assert (report.is_proven, report.removed["job"]) == (True, 120)
    assert report.contents >= 120 + 3  # a term, an address, a secret
    left = {table: count for table, count in rows_of(house, alice.org_id).items() if count}
    assert set(left) == set(erase.STAYS)
    assert rows_of(house, charlie.org_id) == others
    assert b"a lighthouse of A" not in files(house)
    assert b"a lighthouse of C, 119" in files(house)
    for who in (alice, bob):
        assert client.get(f"/api/v1/job/{jobs[who.org_id][0]}", headers=who.headers).status_code == 401
    assert client.get(f"/api/v1/job/{jobs[charlie.org_id][0]}", headers=charlie.headers).status_code == 200
    names = [(one.name, one.status) for one in organisations.every(house.db.reader())]
    assert names == [("C", "active"), (f"erased {alice.org_id}", "terminated")]
    assert "organisation.erased" in [line["action"] for line in audit_lines(house)]


def test_what_stays_of_an_organisation_is_named_as_it_is(house: House) -> None:
    tables = {row["name"] for row in house.db.reader().execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables >= erase.STAYS


def test_the_past_is_erased_of_everybody_or_of_one_organisation(house: House, alice: Person, charlie: Person) -> None:
    noon = clock.now_ms() - 600_000  # behind jobs that have waited for an hour none is let in
    made = {}
    for who in (alice, charlie):
        for age, at in (("old", noon - 1), ("new", noon)):
            made[who.org_id, age] = job = prompt(house, who, f"{age} lighthouse of {who.org_id}")
            house.db.write(
                lambda conn, at=at, job=job: conn.execute("UPDATE job SET created_at = ? WHERE id = ?", (at, job))
            )

    def there() -> set[tuple[str, str]]:
        return {key for key, job in made.items() if rows.job(house.db.reader(), job)}

    erase.erase(house, Scope(organisation=the_organisation(house, alice), before=noon), **WHO)
    assert there() == set(made) - {(alice.org_id, "old")}
    assert the_organisation(house, alice).name == "A"
    assert client_works(house, alice)
    erase.erase(house, Scope(before=noon), **WHO)
    assert there() == {(alice.org_id, "new"), (charlie.org_id, "new")}


def client_works(house: House, who: Person) -> bool:
    return rows.job(house.db.reader(), prompt(house, who, "still in business")) is not None


def test_no_step_reads_all_jobs_or_checks(house: House, alice: Person, bob: Person) -> None:
    jobs = [prompt(house, alice, f"a lighthouse {n}", webhook_url="http://receiver.example/x") for n in range(3)]
    close(house, *jobs[:2])
    statements: list[str] = []
    write = house.db.write

    def traced(change: Callable[[Connection], Any]) -> Any:
        def within(conn: Connection) -> Any:
            conn.set_trace_callback(statements.append)
            try:
                return change(conn)
            finally:
                conn.set_trace_callback(None)

        return write(within)

    house.db.write = traced  # type: ignore[method-assign]
    org = the_organisation(house, alice)
    for scope in (Scope(job_id=jobs[0]), Scope(before=1), Scope(organisation=org, before=1), Scope(organisation=org)):
        found, named = erase._jobs_of(scope)
        statements.append(
            f"SELECT job.id {found}".replace(":before", "1").replace(":org", "'x'").replace(":job", "'x'")
        )
        assert len(named) >= 1
        erase.erase(house, scope, **WHO)
    reader = house.db.reader()
    plans = {
        sql: [row["detail"] for row in reader.execute(f"EXPLAIN QUERY PLAN {sql}")]
        for sql in statements
        if re.match(r"\s*(SELECT|DELETE|UPDATE)", sql)
    }
    assert len(plans) > 20
    large = {"job", "child", "delivery", "delivery_attempt", "job_content", "idempotency", "usage", "audit", "kept"}
    for sql, details in plans.items():
        if "erased" in sql and "audit" in sql:
            continue
        for detail in details:
            scanned = re.match(r"SCAN (\w+)", detail)
            assert scanned is None or scanned[1] not in large, f"{sql}\n{details}"


# --- again, and the proof --------------------------------------------------------------------------------------------


def test_an_erase_that_was_killed_is_run_again(house: House, alice: Person, tmp_path: Path) -> None:
    """Killed by the kernel in mid-run, as often as it takes."""
    every = texts(1500)
    for begin in range(0, len(every), 250):
        house.db.write(
            lambda conn, begin=begin: [
                submit(conn, house, alice.org_id, alice.key_id, Submission(JobKind.PROMPT, text=text))
                for text in every[begin : begin + 250]
            ]
        )
    environ = {**os.environ, "CUSTOMHOUSE_HOME": str(house.settings.home)}
    words = [sys.executable, "-m", "appliance", "erase", "--org", "A", "--reason", "contract ended", "--yes", "--json"]
    kills = 0
    while number(house, "job") > 300:
        left = number(house, "job")
        running = subprocess.Popen(words, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
        while number(house, "job") > max(300, left - 400) and running.poll() is None:
            time.sleep(0.005)
        running.kill()
        running.wait()
        kills += 1
        assert_no_orphans(house)
    assert kills >= 2
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["proven"] is True
    raw = files(house)
    assert b"begin-" not in raw
    assert b"middle-" not in raw
    assert number(house, "job") == 0


def test_a_reader_that_stays_makes_it_say_that_it_is_not_proven(
    house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    job = prompt(house, alice, "a lighthouse under a reader's eyes")
    reading = database.connect(house.db.path)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM job").fetchone()
    done = CliRunner().invoke(command, ["--job", job, "--reason", "asked", "--yes", "--patience", "0.2"])
    assert done.exit_code == 1
    assert "the write-ahead log holds them still" in done.stderr
    reading.execute("COMMIT")
    reading.close()
    from appliance.commands.retention import retention

    assert CliRunner().invoke(retention, ["run"]).exit_code == 0
    assert b"under a reader's eyes" not in files(house)


def test_what_is_still_in_a_file_is_found(house: House, alice: Person) -> None:
    """The looking itself: a copy in a log of the queue, at any offset, and of the middle of a long text only."""
    long = texts(30, seed=3)[-1] + " " + "a particular lighthouse " * 300
    job = prompt(house, alice, long)
    close(house, job)
    (house.settings.home / "queue.db-wal").write_bytes(b"\0" * 1000 + long.encode()[2000:4100] + b"\0" * 1000)
    report = erase.erase(house, Scope(job_id=job), **WHO)
    assert report.found >= 1
    assert not report.is_proven


def test_the_same_words_of_somebody_else_are_not_called_a_failure(house: House, alice: Person, charlie: Person) -> None:
    words = "a lighthouse that both describe"
    job, other = prompt(house, alice, words), prompt(house, charlie, words)
    close(house, job, other)
    report = erase.erase(house, Scope(job_id=job), **WHO)
    assert (report.is_proven, report.found, report.same_elsewhere) == (True, 0, 1)
    assert rows.input_of(house.db.reader(), other) is not None


def test_an_organisations_address_and_terms_leave_no_copy_in_the_audit_log(
    house: House, alice: Person, charlie: Person
) -> None:
    def say(conn: Connection) -> None:
        endpoints.register(conn, alice.org_id, "http://receiver.example:9000", 1, actor="key:a")
        endpoints.register(conn, alice.org_id, "http://receiver.example:9000/hook?token=lighthouse", 2, actor="key:a")
        for org_id, term in ((alice.org_id, "a particular lighthouse"), (None, "everybody's own lighthouse")):
            made = keywords.add(conn, term, org_id=org_id, actor="key:a")
            keywords.change(conn, made.id, actor="key:a", enabled=False)

    house.db.write(say)
    report = erase.erase(house, Scope(organisation=the_organisation(house, alice)), **WHO)
    assert (report.is_proven, report.found, report.same_elsewhere) == (True, 0, 0)
    told = json.dumps(audit_lines(house))
    assert "receiver.example:9000" in told
    assert "everybody's own" in told
    assert b"token=lighthouse" not in files(house)
    assert b"a particular lighthouse" not in files(house)


def test_what_an_older_audit_log_says_is_said_to_be_kept(house: House, alice: Person) -> None:
    address = "https://receiver.example/hook"

    def say(conn: Connection) -> None:
        endpoints.register(conn, alice.org_id, address, 1, actor="key:a")
        audit.record(conn, "key:a", "webhook.registered", address, org_id=alice.org_id)  # as it was written before

    house.db.write(say)
    report = erase.erase(house, Scope(organisation=the_organisation(house, alice)), **WHO)
    assert (report.is_proven, report.found, report.same_elsewhere) == (True, 0, 1)


def test_a_text_of_a_few_bytes_is_said_not_to_be_looked_for(house: House, alice: Person) -> None:
    job = prompt(house, alice, "short")
    close(house, job)
    report = erase.erase(house, Scope(job_id=job), **WHO)
    assert (report.contents, report.too_short, report.looked_for) == (1, 1, 0)


def test_of_very_many_texts_a_sample_is_looked_for() -> None:
    contents = proof.Contents()
    for n in range(50_000):
        contents.add(f"a lighthouse, number {n}")
    assert contents.seen == 50_000
    assert 10_000 <= contents.looked_for <= 20_000
    assert "lighthouse" not in repr(contents)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    return lambda *words, **how: CliRunner().invoke(command, list(words), **how)


def test_a_dry_run_counts_and_changes_nothing(house: House, alice: Person, run: Callable[..., Any]) -> None:
    job = prompt(house, alice, "a lighthouse")
    before = audit_lines(house)
    done = run("--org", "A", "--dry-run", "--json")
    assert done.exit_code == 0
    planned = json.loads(done.stdout)["would_remove"]
    assert (planned["job"], planned["open"], planned["job_input"], planned["child"]) == (1, 1, 1, 1)
    assert rows.input_of(house.db.reader(), job) is not None
    assert audit_lines(house) == before


def test_it_goes_on_only_when_the_name_is_typed(house: House, alice: Person, run: Callable[..., Any]) -> None:
    prompt(house, alice, "a lighthouse")
    wrong = run("--org", "A", "--reason", "asked", input="yes\n")
    assert wrong.exit_code == 1
    assert number(house, "job") == 1
    right = run("--org", "A", "--reason", "asked", input="A\n")
    assert right.exit_code == 0, right.output
    assert number(house, "job") == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--reason", "x"],
        ["--job", "1", "--org", "A", "--reason", "x"],
        ["--job", "1", "--before", "2026-01-01", "--reason", "x"],
        ["--org", "A"],
        ["--org", "A", "--reason", "  "],
        ["--before", "yesterday", "--reason", "x"],
    ],
)
def test_what_is_not_said_clearly_is_refused(
    house: House, alice: Person, run: Callable[..., Any], words: list[str]
) -> None:
    prompt(house, alice, "a lighthouse")
    assert run(*words).exit_code == 2
    assert number(house, "job") == 1


def test_an_unknown_job_is_said_to_be_none(house: House, run: Callable[..., Any]) -> None:
    done = run("--job", clock.new_id(), "--reason", "asked", "--yes")
    assert done.exit_code == 1
    assert "There is no job" in str(done.exception)


# --- beside running processes ----------------------------------------------------------------------------------------


class Box:
    """The API and the worker as processes of their own, without a model process: what needs one stays open."""

    def __init__(self, house: House, **environ: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._environ = {
            **os.environ,
            "CUSTOMHOUSE_HOME": str(house.settings.home),
            "CUSTOMHOUSE_SERVER_PORT": str(port),
            "CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE": "100000",
            "CUSTOMHOUSE_LOG_LEVEL": "error",
            **environ,
        }
        self._processes = [
            subprocess.Popen([sys.executable, "-m", "appliance", name], cwd=ROOT, env=self._environ)
            for name in ("serve", "work")
        ]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                self.http.get("/health")
                return
            time.sleep(0.1)
        for process in self._processes:
            process.kill()
            process.wait()
        raise AssertionError("not ready")

    def send(self, who: Person, text: str) -> str:
        answer = self.http.post("/api/v1/moderate/prompt", data={"prompt": text}, headers=who.headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "appliance", *words], cwd=ROOT, env=self._environ, capture_output=True, text=True
        )

    def close(self) -> None:
        self.http.close()
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            assert process.wait(40) == 0


@pytest.fixture
def box(house: House) -> Iterator[Box]:
    one = Box(house, CUSTOMHOUSE_RETENTION_EVERY_S="1")
    yield one
    one.close()


def test_beside_a_running_api_and_worker_the_files_hold_nothing_of_what_went(
    house: House, alice: Person, charlie: Person, box: Box
) -> None:
    """Short texts, texts over a page, texts that close at once and texts that the worker is at; erased, and purged."""
    every = texts(240)
    quiet = enrol(house, "Q", "quiet")  # its prompts are not checked, and not kept
    house.db.write(
        lambda conn: conn.execute(
            "UPDATE organisation SET checks_off = ?, retain_prompts_days = 0 WHERE id = ?",
            (json.dumps({"text": False}), quiet.org_id),
        )
    )
    people = [alice, charlie, quiet]
    jobs = [box.send(people[n % 3], text) for n, text in enumerate(every)]
    done = box.run("erase", "--org", "A", "--reason", "contract ended", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["proven"], report["contents"], report["found"]) == (True, 80, 0)
    one = box.run("erase", "--job", jobs[1], "--reason", "asked", "--yes", "--json")
    assert json.loads(one.stdout)["proven"] is True
    until = time.monotonic() + 30
    gone = {0, 2}  # of alice by erase, of quiet by retention
    while time.monotonic() < until and any(
        f"end-{n:06d}".encode() in files(house) for n in range(240) if n % 3 in gone
    ):
        time.sleep(0.2)
    raw = files(house)
    left = {n for n in range(240) for part in ("begin", "middle", "end") if f"{part}-{n:06d}".encode() in raw}
    assert left == {n for n in range(240) if n % 3 == 1} - {1}
    answers = [box.http.get(f"/api/v1/job/{job}", headers=charlie.headers).status_code for job in jobs]
    assert [n for n, status in enumerate(answers) if status == 200] == sorted(left)
    assert box.http.get(f"/api/v1/job/{jobs[2]}", headers=quiet.headers).json()["status"] == "completed"
    assert box.http.get(f"/api/v1/job/{jobs[0]}", headers=alice.headers).status_code == 401
    assert_no_orphans(house)
    assert keys.every(house.db.reader(), alice.org_id) == []
    assert msgspec.json.decode(box.run("retention", "show", "--json").stdout)["kept"][0]["removed_ever"] == 80
