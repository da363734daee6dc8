"""Batches of texts over HTTP: accepted whole or not at all, each text a job, told of once."""

import json
import threading
import uuid
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from appliance import clock
from appliance.accounts import plans
from appliance.accounts.plans import Changes, ChargeMethod
from appliance.database import Connection, Database
from appliance.house import House
from appliance.jobs import advance, batch, rows
from appliance.jobs.job import Finding
from appliance.webhooks import deliveries, endpoints
from tests import recorded
from tests.cast import Person
from tests.recorded import pretty

Client = TestClient[Any]

BATCH = "/api/v1/moderate/text/batch"
PUBLIC = "https://93.184.216.34/hook"


def texts(count: int, text: str = "hello") -> list[dict[str, str]]:
    return [{"key": f"k{number}", "text": text} for number in range(count)]


def submit(client: Client, who: Person, items: Any, **more: Any) -> httpx.Response:
    headers = {**who.headers, **more.pop("headers", {})}
    return client.post(BATCH, headers=headers, json={"items": items, **more})


def accepted(client: Client, who: Person, items: Any, **more: Any) -> dict[str, Any]:
    answer = submit(client, who, items, **more)
    assert answer.status_code == 202, answer.text
    return answer.json()


def close(db: Database, house: House, job_id: str, *, prohibited: bool = False, failed: bool = False) -> Any:
    """Work on one of its jobs until it ends."""

    def change(conn: Connection) -> advance.FollowUp:
        now = clock.now_ms()
        (child,) = rows.claim(conn, job_id, f"w-{job_id}", 1, now, now + 60_000)
        if failed:
            rows.fail(conn, child, "MODEL_UNAVAILABLE", "a model is missing", now)
        else:
            reason = "The text contained a blacklisted keyword." if prohibited else None
            rows.complete(conn, child, Finding({"text": prohibited}, [], prohibited, reason), True, now)
        return advance.close_if_done(conn, house.settings, job_id, now)

    return db.write(change)


def sent(house: House) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in house.db.reader().execute("SELECT body FROM delivery")]


def register(house: House, who: Person) -> None:
    house.db.write(lambda conn: endpoints.register(conn, who.org_id, PUBLIC, clock.now_ms(), actor="operator:test"))


def left(house: House) -> dict[str, int]:
    conn = house.db.reader()
    return {
        table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("batch", "job", "child", "job_input", "ledger", "delivery")
    }


NOTHING = dict.fromkeys(("batch", "job", "child", "job_input", "ledger", "delivery"), 0)


# --- accepted --------------------------------------------------------------------------------------------------------


def test_each_text_is_a_job_under_its_key(client: Client, house: House, alice: Person) -> None:
    body = accepted(client, alice, [{"key": "a", "text": "one"}, {"key": "b.c:d-e_f", "text": "two"}])
    assert list(body) == ["batch_id", "status", "items"]
    assert (body["status"], [item["key"] for item in body["items"]]) == ("processing", ["a", "b.c:d-e_f"])
    assert uuid.UUID(body["batch_id"])
    for item, text in zip(body["items"], ("one", "two"), strict=True):
        job = rows.job(house.db.reader(), item["job_id"])
        given = rows.input_of(house.db.reader(), item["job_id"])
        assert job is not None
        assert given is not None
        assert (job.batch_id, job.batch_key, given.text) == (body["batch_id"], item["key"], text)
        assert (job.key_id, job.kind.wire) == (alice.key_id, "prompt")
    one = client.get(f"/api/v1/job/{body['items'][0]['job_id']}", headers=alice.headers).json()
    assert (one["batch_id"], one["batch_key"]) == (body["batch_id"], "a")


def test_ninety_nine_of_the_longest_texts_are_accepted(client: Client, house: House, alice: Person) -> None:
    body = accepted(client, alice, texts(99, "é" * 20_000))
    assert len(body["items"]) == 99
    assert left(house)["job"] == 99


def test_it_counts_as_one_request(client: Client, alice: Person) -> None:
    first = submit(client, alice, texts(5))
    second = submit(client, alice, texts(5))
    remaining = [int(answer.headers["x-ratelimit-remaining"]) for answer in (first, second)]
    assert remaining[0] - remaining[1] == 1


def test_the_same_key_and_body_again_is_the_same_batch(client: Client, house: House, alice: Person) -> None:
    again = {"Idempotency-Key": "one"}
    first = submit(client, alice, texts(2), headers=again)
    second = submit(client, alice, texts(2), headers=again)
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert left(house)["job"] == 2
    other = submit(client, alice, texts(3), headers=again)
    assert (other.status_code, other.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_every_text_is_charged_for_and_a_batch_that_has_begun_is_taken_whole(
    client: Client, house: House, alice: Person
) -> None:
    def charge(conn: Connection) -> None:
        values = Changes(charge_method=ChargeMethod.PER_JOB, prompt_micros=800)
        plans.create(conn, "paid", "Paid", values, actor="operator:test", reason="a test")
        conn.execute("UPDATE organisation SET plan = 'paid' WHERE id = ?", (alice.org_id,))

    house.db.write(charge)
    refused = submit(client, alice, texts(2))
    assert (refused.status_code, refused.json()["error"]) == (402, "PAYMENT_REQUIRED")
    assert left(house) == NOTHING
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO ledger VALUES (NULL, 'c', ?, 'credit', 1000, 1000, 'manual', 'c', NULL, NULL, '', 0)",
            (alice.org_id,),
        )
    )
    accepted(client, alice, texts(3))
    charged = [row[0] for row in house.db.reader().execute("SELECT amount_micros FROM ledger WHERE type = 'charge'")]
    assert charged == [-800] * 3


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "code", "message"),
    [
        (None, "INVALID_REQUEST", "items is required"),
        ("hello", "INVALID_REQUEST", "items must be a list"),
        ({}, "INVALID_REQUEST", "items must be a list"),
        ([], "BATCH_EMPTY", "1 to 99"),
        (texts(100), "BATCH_TOO_LARGE", "1 to 99"),
        (["x"], "INVALID_REQUEST", r"items[0] must be an object"),
        ([{"text": "x"}], "INVALID_REQUEST", "items[0].key"),
        ([{"key": "", "text": "x"}], "INVALID_REQUEST", "items[0].key"),
        ([{"key": "a b", "text": "x"}], "INVALID_REQUEST", "items[0].key"),
        ([{"key": "a\n", "text": "x"}], "INVALID_REQUEST", "items[0].key"),
        ([{"key": "x" * 65, "text": "x"}], "INVALID_REQUEST", "items[0].key"),
        ([{"key": 5, "text": "x"}], "INVALID_REQUEST", "items[0].key"),
        ([*texts(1), {"key": "b"}], "INVALID_REQUEST", "items[1].text is required"),
        ([{"key": "a", "text": 5}], "INVALID_REQUEST", "items[0].text must be a string"),
        ([{"key": "a", "text": " \n"}], "INVALID_REQUEST", "items[0].text must not be empty"),
        ([{"key": "a", "text": "x" * 20_001}], "TEXT_TOO_LONG", "items[0].text is over 20,000"),
        ([*texts(2), {"key": "k0", "text": "y"}], "DUPLICATE_ITEM_KEY", "items[2].key is the same as items[0].key"),
    ],
)
def test_a_batch_that_is_none_is_refused_by_name_and_nothing_of_it_is_kept(
    client: Client, house: House, alice: Person, items: Any, code: str, message: str
) -> None:
    refused = submit(client, alice, items)
    assert (refused.status_code, refused.json()["error"]) == (400, code)
    assert message in refused.json()["message"]
    assert left(house) == NOTHING


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1/x", "webhook_url leads to a private"),
        ("http://10.1.2.3/x", "webhook_url leads to a private"),
        ("ftp://93.184.216.34/x", "webhook_url must be an absolute"),
        (7, "webhook_url must be a string"),
    ],
)
def test_a_webhook_to_a_private_or_unusable_address_is_refused(
    client: Client, house: House, alice: Person, url: Any, message: str
) -> None:
    refused = submit(client, alice, texts(1), webhook_url=url)
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_REQUEST")
    assert message in refused.json()["message"]
    assert left(house) == NOTHING


def test_a_body_that_is_too_large_or_of_another_type_is_refused(client: Client, alice: Person) -> None:
    large = client.post(BATCH, headers=alice.headers, json={"items": [{"key": "a", "text": "x" * 10_100_000}]})
    assert (large.status_code, large.json()["error"]) == (413, "PAYLOAD_TOO_LARGE")
    form = client.post(BATCH, headers=alice.headers, data={"items": "x"})
    assert (form.status_code, form.json()["error"]) == (415, "UNSUPPORTED_MEDIA")
    text = client.post(BATCH, headers={**alice.headers, "content-type": "application/json"}, content=b"[")
    assert (text.status_code, text.json()["error"]) == (400, "INVALID_REQUEST")


def test_when_too_many_jobs_wait_none_of_the_batch_is_accepted(client: Client, house: House, alice: Person) -> None:
    house.db.write(
        lambda conn: conn.execute("UPDATE backlog SET open_jobs = ?", (house.settings.server.max_pending_jobs - 1,))
    )
    refused = submit(client, alice, texts(2))
    assert (refused.status_code, refused.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
    assert left(house) == NOTHING


# --- read ------------------------------------------------------------------------------------------------------------


def test_its_state_is_that_of_its_jobs(client: Client, house: House, alice: Person) -> None:
    made = accepted(client, alice, texts(3))
    path = f"{BATCH}/{made['batch_id']}"
    before = client.get(path, headers=alice.headers).json()
    assert (before["status"], before["completed_at"]) == ("processing", None)
    assert before["counts"] == {
        "total": 3, "queued": 3, "processing": 0, "completed": 0, "failed": 0, "prohibited": 0,
    }  # fmt: skip
    first, second, third = (item["job_id"] for item in made["items"])
    close(house.db, house, second, prohibited=True)
    close(house.db, house, first)
    assert client.get(path, headers=alice.headers).json()["status"] == "processing"
    close(house.db, house, third, failed=True)
    after = client.get(path, headers=alice.headers).json()
    assert (after["status"], after["completed_at"] is None) == ("completed", False)
    assert after["counts"] == {
        "total": 3, "queued": 0, "processing": 0, "completed": 2, "failed": 1, "prohibited": 1,
    }  # fmt: skip
    shown = [(item["key"], item["status"], item["is_prohibited"]) for item in after["items"]]
    assert shown == [("k0", "completed", False), ("k1", "completed", True), ("k2", "failed", None)]
    assert after["items"][1]["reason"] == "The text contained a blacklisted keyword."
    assert after["items"][2]["error_code"] == "MODEL_UNAVAILABLE"


@pytest.mark.parametrize("batch_id", ["nothing", "edf5587f-c7ed-4848-b280-484deb4d9e9e", "'; --"])
def test_a_batch_that_is_not_there_is_not_found(client: Client, alice: Person, batch_id: str) -> None:
    missing = client.get(f"{BATCH}/{batch_id}", headers=alice.headers)
    assert (missing.status_code, missing.json()["error"]) == (404, "BATCH_NOT_FOUND")


def test_another_organisation_finds_none(client: Client, alice: Person, bob: Person, charlie: Person) -> None:
    path = f"{BATCH}/{accepted(client, alice, texts(1))['batch_id']}"
    assert client.get(path, headers=bob.headers).status_code == 200
    assert client.get(path, headers=charlie.headers).json()["error"] == "BATCH_NOT_FOUND"


# --- told ------------------------------------------------------------------------------------------------------------


def test_one_notice_tells_of_all_when_the_last_has_ended(client: Client, house: House, alice: Person) -> None:
    register(house, alice)
    made = accepted(client, alice, texts(3))
    jobs = [item["job_id"] for item in made["items"]]
    assert close(house.db, house, jobs[2]).delivery_id is None
    assert close(house.db, house, jobs[0], prohibited=True).delivery_id is None
    assert sent(house) == []
    last = close(house.db, house, jobs[1], failed=True)
    assert last.delivery_id == f"wh_{made['batch_id']}"
    (told,) = sent(house)
    assert told["type"] == "text_batch"
    fixed = json.loads(json.dumps(told).replace(made["batch_id"], "c7a1f0de-2b7d-4f57-9d0b-5d6c0c1f2a33"))
    for item, number in zip(fixed["items"], range(3), strict=True):
        assert item.pop("job_id") == jobs[number]
        item["completed_at"] = "2026-05-19T12:00:01.500Z"
    fixed["completed_at"] = "2026-05-19T12:00:01.500Z"
    recorded.check("webhook_text_batch.json", pretty(fixed))
    found = deliveries.find(house.db.reader(), made["batch_id"])
    assert (found.job_id, found.batch_id, found.url) == (None, made["batch_id"], PUBLIC)


def test_its_own_address_goes_before_the_registered_one(client: Client, house: House, alice: Person) -> None:
    register(house, alice)
    made = accepted(client, alice, texts(1), webhook_url=PUBLIC + "/own")
    close(house.db, house, made["items"][0]["job_id"])
    assert deliveries.find(house.db.reader(), made["batch_id"]).url == PUBLIC + "/own"


def test_without_an_address_nothing_is_sent(client: Client, house: House, alice: Person) -> None:
    made = accepted(client, alice, texts(1))
    assert close(house.db, house, made["items"][0]["job_id"]).delivery_id is None
    assert client.get(f"{BATCH}/{made['batch_id']}", headers=alice.headers).json()["status"] == "completed"


def test_with_every_check_off_it_is_told_as_it_is_accepted(client: Client, house: House, alice: Person) -> None:
    register(house, alice)
    client.put("/api/v1/me/moderation-config", headers=alice.headers, json={"text": False})
    made = accepted(client, alice, texts(3))
    (told,) = sent(house)
    assert [item["is_prohibited"] for item in told["items"]] == [False] * 3
    assert client.get(f"{BATCH}/{made['batch_id']}", headers=alice.headers).json()["status"] == "completed"


def test_jobs_that_end_together_in_several_processes_make_one_notice(
    client: Client, house: House, alice: Person
) -> None:
    register(house, alice)
    made = accepted(client, alice, texts(16))
    others = [Database(house.settings.database) for _ in range(4)]
    told: list[str | None] = []
    gate = threading.Barrier(16)

    def work(place: int) -> None:
        gate.wait()
        told.append(close(others[place % 4], house, made["items"][place]["job_id"]).delivery_id)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert [one for one in told if one] == [f"wh_{made['batch_id']}"]
    assert len(sent(house)) == 1


def test_closing_it_again_tells_nothing_more(client: Client, house: House, alice: Person) -> None:
    register(house, alice)
    made = accepted(client, alice, texts(1))
    close(house.db, house, made["items"][0]["job_id"])
    again = house.db.write(lambda conn: batch.close_if_done(conn, house.settings, made["batch_id"], clock.now_ms()))
    assert again is None
    assert len(sent(house)) == 1


# --- erased ----------------------------------------------------------------------------------------------------------


def test_an_erased_job_takes_the_notice_along_and_the_last_one_the_batch(
    client: Client, house: House, alice: Person
) -> None:
    register(house, alice)
    made = accepted(client, alice, texts(2))
    for item in made["items"]:
        close(house.db, house, item["job_id"])
    path = f"{BATCH}/{made['batch_id']}"
    house.db.write(lambda conn: conn.execute("DELETE FROM job WHERE id = ?", (made["items"][0]["job_id"],)))
    assert sent(house) == []
    shown = client.get(path, headers=alice.headers).json()
    assert (shown["counts"]["total"], [item["key"] for item in shown["items"]]) == (2, ["k1"])
    house.db.write(lambda conn: conn.execute("DELETE FROM job WHERE id = ?", (made["items"][1]["job_id"],)))
    assert client.get(path, headers=alice.headers).json()["error"] == "BATCH_NOT_FOUND"
    assert left(house)["batch"] == 0
