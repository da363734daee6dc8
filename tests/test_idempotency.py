"""Idempotency-Key: what is sent twice is done once, and answered alike."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Request, Response, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.testing import TestClient

from appliance import clock
from appliance.accounts import idempotency as rows
from appliance.accounts.idempotency import Ask, Kept
from appliance.accounts.keys import Caller
from appliance.api import app, form, idempotency
from appliance.api.admin import Operator
from appliance.api.auth import recognised
from appliance.database import Connection
from appliance.errors import Conflict, IdempotencyKeyReused, InvalidRequest, Unavailable
from appliance.house import House
from tests.cast import Person

Client = TestClient[Any]

PROMPT = "/api/v1/moderate/prompt"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


def send(client: Client, person: Person, key: str, path: str = PROMPT, **how: Any) -> Any:
    return client.post(path, headers={**person.headers, "Idempotency-Key": key}, **(how or {"data": {"prompt": "hi"}}))


def jobs(house: House) -> int:
    return int(house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0])


# --- what is sent again ----------------------------------------------------------------------------------------------


def test_the_same_request_again_is_answered_alike_and_done_once(client: Client, house: House, alice: Person) -> None:
    first, second = (send(client, alice, "order-1") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"] == "application/json"
    assert jobs(house) == 1


def test_without_a_key_each_request_is_a_job(client: Client, house: House, alice: Person) -> None:
    for _ in range(2):
        assert client.post(PROMPT, headers=alice.headers, data={"prompt": "hi"}).status_code == 202
    assert jobs(house) == 2
    assert house.db.reader().execute("SELECT count(*) FROM idempotency").fetchone()[0] == 0


def test_another_payload_under_the_same_key_is_422(client: Client, house: House, alice: Person) -> None:
    send(client, alice, "k")
    for other in ({"prompt": "ho"}, {"prompt": "hi", "webhook_url": "http://93.184.216.34/"}):
        answer = send(client, alice, "k", data=other)
        assert (answer.status_code, answer.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert jobs(house) == 1


def test_the_way_that_fields_are_written_does_not_matter(client: Client, house: House, alice: Person) -> None:
    send(client, alice, "k", data={"prompt": "hi", "webhook_url": "http://93.184.216.34/"})
    ways: list[dict[str, Any]] = [
        {"json": {"webhook_url": "http://93.184.216.34/", "prompt": "hi"}},
        {"files": {"prompt": (None, "hi"), "webhook_url": (None, "http://93.184.216.34/")}},
    ]
    for how in ways:
        assert send(client, alice, "k", **how).headers["idempotent-replayed"] == "true"
    assert jobs(house) == 1


def test_a_file_is_told_by_its_bytes(client: Client, house: House, alice: Person) -> None:
    path = "/api/v1/moderate/image"
    for name in ("a.png", "b.png"):
        answer = send(client, alice, "k", path, files={"image_file": (name, PNG, "image/png")})
        assert answer.status_code == 202
    assert answer.headers["idempotent-replayed"] == "true"
    other = send(client, alice, "k", path, files={"image_file": ("a.png", PNG + b"\1", "image/png")})
    assert (other.status_code, other.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert jobs(house) == 1
    assert len(list(house.settings.media_dir.iterdir())) == 1


def test_a_key_is_one_organisations_on_one_route(
    client: Client, house: House, alice: Person, bob: Person, charlie: Person
) -> None:
    first = send(client, alice, "k")
    assert send(client, bob, "k").content == first.content
    assert "idempotent-replayed" not in send(client, charlie, "k").headers
    assert "idempotent-replayed" not in send(client, alice, "k", "/api/v1/moderate/text", data={"text": "hi"}).headers
    assert jobs(house) == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "naïve".encode(), "tab\there", b"\x7f"])
def test_what_is_no_key_is_refused(client: Client, house: House, alice: Person, key: Any) -> None:
    answer = send(client, alice, key)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")
    assert jobs(house) == 0


@pytest.mark.parametrize("key", ["x", "x" * 255, ' !"#~ a b'.strip(), "8e03978e-40d5-43dd-bc93-6894a57f9324"])
def test_any_printable_key_is_taken(client: Client, alice: Person, key: str) -> None:
    assert send(client, alice, key).status_code == 202
    assert send(client, alice, key).headers["idempotent-replayed"] == "true"


def test_a_refusal_is_not_kept(client: Client, house: House, alice: Person) -> None:
    assert send(client, alice, "k", data={"prompt": " "}).status_code == 400
    assert send(client, alice, "k").status_code == 202
    assert jobs(house) == 1


def test_a_refusal_within_the_transaction_is_not_kept_either(client: Client, house: House, alice: Person) -> None:
    house.db.write(lambda conn: conn.execute("UPDATE backlog SET open_jobs = 1000000"))
    assert send(client, alice, "k").status_code == 503
    house.db.write(lambda conn: conn.execute("UPDATE backlog SET open_jobs = 0"))
    assert "idempotent-replayed" not in send(client, alice, "k").headers


def test_after_a_day_a_key_may_be_used_for_something_else(client: Client, house: House, alice: Person) -> None:
    send(client, alice, "k")
    aged = {"at": clock.now_ms() - 24 * 3_600_000 - 1}
    house.db.write(lambda conn: conn.execute("UPDATE idempotency SET created_at = :at", aged))
    answer = send(client, alice, "k", data={"prompt": "ho"})
    assert (answer.status_code, "idempotent-replayed" in answer.headers) == (202, False)
    assert send(client, alice, "k", data={"prompt": "ho"}).headers["idempotent-replayed"] == "true"


def test_the_table_says_nothing_of_the_text(client: Client, house: House, alice: Person, charlie: Person) -> None:
    for person in (alice, charlie):
        send(client, person, "k", data={"prompt": "a lighthouse at dawn"})
    kept = house.db.reader().execute("SELECT * FROM idempotency").fetchall()
    assert kept[0]["fingerprint"] != kept[1]["fingerprint"]
    assert not any("lighthouse" in str(value) for row in kept for value in tuple(row))


def test_what_comes_while_the_first_is_at_it_is_409(client: Client, house: House, alice: Person) -> None:
    go_on, is_held = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        is_held.set()
        go_on.wait(10)

    holder = threading.Thread(target=house.db.write, args=(hold,))
    holder.start()
    is_held.wait(10)
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(send(client, alice, "k")))
    first.start()
    there = client.app.state["door"]
    while not there.asked:
        threading.Event().wait(0.001)
    same, other = send(client, alice, "k"), send(client, alice, "k", data={"prompt": "ho"})
    go_on.set()
    first.join()
    holder.join()
    assert (same.status_code, same.json()["error"]) == (409, "CONFLICT")
    assert (other.status_code, other.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert answers[0].status_code == 202
    assert send(client, alice, "k").content == answers[0].content
    assert not there.asked


def test_of_two_processes_the_first_to_commit_is_right(client: Client, house: House, alice: Person) -> None:
    """The other one's row lands between our look and our transaction."""
    there = client.app.state["door"]
    write_async = there.house.db.write_async
    theirs = json.dumps({"job_id": "theirs", "status": "queued"}).encode()

    async def beaten(change: Any) -> Any:
        there.house.db.write_async = write_async
        fingerprint = next(iter(there.asked.values()))
        ask = Ask(alice.org_id, PROMPT, "k", fingerprint)
        await write_async(lambda conn: rows.keep(conn, ask, "w", Kept(202, theirs)))
        return await write_async(change)

    there.house.db.write_async = beaten
    answer = send(client, alice, "k")
    assert (answer.content, answer.headers["idempotent-replayed"]) == (theirs, "true")
    assert jobs(house) == 0


# --- work that calls out ---------------------------------------------------------------------------------------------


class Outside:
    """A foreign service that a route calls, and what it was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: Exception | None = None

    async def call(self, work_id: str) -> None:
        self.calls.append(work_id)
        if self.fails is not None:
            raise self.fails


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def calling(house: House, outside: Outside) -> Iterator[Client]:
    @post("/calls", status_code=200, guards=[recognised])
    async def calls(request: Request[Caller, Any, Any]) -> Response[dict[str, str]]:
        given = await form.json_object(request)
        async with idempotency.asked(request, given, calls_out=True) as asked:
            if asked.answer is not None:
                return asked.answer
            await outside.call(asked.work_id)
            return await asked.done(lambda conn: {"made": asked.work_id})

    made = app.create_app(house)
    made.register(calls)
    with TestClient(made, raise_server_exceptions=False) as client:
        yield client


def test_work_that_calls_out_is_done_once(calling: Client, outside: Outside, alice: Person) -> None:
    answers = [send(calling, alice, "k", "/calls", json={"a": 1}) for _ in range(2)]
    assert answers[0].json() == answers[1].json() == {"made": outside.calls[0]}
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert len(outside.calls) == 1


def test_a_refusal_frees_the_key_for_anything(calling: Client, outside: Outside, alice: Person) -> None:
    outside.fails = InvalidRequest("no")
    assert send(calling, alice, "k", "/calls", json={"a": 1}).status_code == 400
    outside.fails = None
    assert send(calling, alice, "k", "/calls", json={"a": 2}).status_code == 200
    assert outside.calls[0] != outside.calls[1]


def test_after_a_fault_the_work_keeps_its_id(calling: Client, outside: Outside, alice: Person) -> None:
    for fault in (Unavailable("later"), RuntimeError("broken")):
        outside.fails = fault
        assert send(calling, alice, "k", "/calls", json={"a": 1}).status_code in (500, 503)
    outside.fails = None
    assert send(calling, alice, "k", "/calls", json={"a": 1}).status_code == 200
    assert len(set(outside.calls)) == 1


def test_a_claim_of_another_process_is_409_until_its_lease_is_over(
    calling: Client, house: House, outside: Outside, alice: Person
) -> None:
    outside.fails = Unavailable("later")
    send(calling, alice, "k", "/calls", json={"a": 1})
    outside.fails = None
    soon = {"until": clock.now_ms() + 60_000}
    house.db.write(lambda conn: conn.execute("UPDATE idempotency SET lease_until = :until", soon))
    held = send(calling, alice, "k", "/calls", json={"a": 1})
    assert (held.status_code, held.json()["error"]) == (409, "CONFLICT")
    house.db.write(lambda conn: conn.execute("UPDATE idempotency SET lease_until = 1"))
    assert send(calling, alice, "k", "/calls", json={"a": 1}).json() == {"made": outside.calls[0]}


def test_a_claim_made_by_a_clock_that_was_set_back_since_holds_nobody_up(
    calling: Client, house: House, outside: Outside, alice: Person
) -> None:
    outside.fails = Unavailable("later")
    send(calling, alice, "k", "/calls", json={"a": 1})
    outside.fails = None
    later = {"until": clock.now_ms() + 3_600_000}
    house.db.write(lambda conn: conn.execute("UPDATE idempotency SET lease_until = :until", later))
    assert send(calling, alice, "k", "/calls", json={"a": 1}).json() == {"made": outside.calls[0]}


def test_operators_have_keys_of_their_own(house: House, alice: Person) -> None:
    async def operators(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        connection.scope["user"] = Operator("root")

    @post("/makes", status_code=201, guards=[operators])
    async def makes(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
        async with idempotency.asked(request, await form.json_object(request)) as asked:
            return asked.answer or await asked.done(lambda conn: {"made": asked.work_id})

    made = app.create_app(house)
    made.register(makes)
    with TestClient(made) as client:
        first, second = (client.post("/makes", headers={"Idempotency-Key": "k"}, json={}) for _ in range(2))
    assert (first.status_code, second.content) == (201, first.content)
    assert second.headers["idempotent-replayed"] == "true"


# --- the rows --------------------------------------------------------------------------------------------------------


def test_purge_goes_in_steps_from_the_oldest(house: House, alice: Person) -> None:
    def fill(conn: Connection) -> None:
        for number in range(5):
            rows.keep(conn, Ask(alice.org_id, "r", str(number), b""), str(number), Kept(200, b"{}"))
            conn.execute("UPDATE idempotency SET created_at = :at WHERE key = :key", {"at": number, "key": str(number)})

    house.db.write(fill)
    assert [house.db.write(lambda conn: rows.purge(conn, 4, 3)) for _ in range(3)] == [3, 1, 0]
    assert [row["key"] for row in house.db.reader().execute("SELECT key FROM idempotency")] == ["4"]


def test_one_of_many_threads_gets_the_work(house: House, alice: Person) -> None:
    ask = Ask(alice.org_id, "r", "k", b"f")
    found: list[Any] = []

    def take() -> None:
        try:
            found.append(house.db.write(lambda conn: rows.claim(conn, ask, 0)))
        except Conflict as error:
            found.append(error)

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, str) for one in found) == 1
    assert sum(isinstance(one, Conflict) for one in found) == 15


def test_a_claimed_key_is_no_other_requests(house: House, alice: Person) -> None:
    house.db.write(lambda conn: rows.claim(conn, Ask(alice.org_id, "r", "k", b"f"), 0))
    with pytest.raises(IdempotencyKeyReused):
        house.db.write(lambda conn: rows.claim(conn, Ask(alice.org_id, "r", "k", b"g"), 0))
