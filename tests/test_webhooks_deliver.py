"""Real deliveries over loopback: signed, retried, refused, repeated after a crash. Outbound is the product's own."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from appliance import __version__, clock
from appliance.accounts import organisations
from appliance.database import Connection, Database
from appliance.house import House
from appliance.jobs.job import JobKind, Submission
from appliance.jobs.submit import submit
from appliance.jobs.submit_batch import Item, submit_batch
from appliance.outbound import Outbound
from appliance.settings import Media, Settings, Webhooks
from appliance.webhooks import deliveries, endpoints, secret
from appliance.webhooks.deliver import deliver
from appliance.webhooks.schedule import State

LOOPBACK = ["127.0.0.0/8"]
BEYOND_LEASE_MS = 45_000  # the timeout's 10 s, and 30 s, and some


class Got:
    """One request that a receiver was sent."""

    def __init__(self, path: str, headers: Message, body: bytes) -> None:
        self.path = path
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body


class Receiver(ThreadingHTTPServer):
    """A customer's server: keeps what it gets, answers what the test says (the last answer again and again)."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, dict[str, str]], hang: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers) or [(200, {})]
        self.got: list[Got] = []
        self.arrived = threading.Event()
        self.released = threading.Event()
        if not hang:
            self.released.set()
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def keep(self, got: Got) -> tuple[int, dict[str, str]]:
        with self._lock:
            self.got.append(got)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A sender that hung up or was killed is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride]  # it is always ours

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status, headers = self.server.keep(Got(self.path, self.headers, body))
        self.server.arrived.set()
        self.server.released.wait(30)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        said = b"MARK: what a receiver says is not ours to keep"
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Clock:
    """Real time, which can be turned on."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return clock.now_ms() + self.ahead_ms


class Box:
    """A house with loopback allowed, and two tenants whose prompts close as they are submitted."""

    def __init__(self, home: Path) -> None:
        self.house = House(Settings(home=home, media=Media(allowed_private_cidrs=LOOPBACK)))
        self.outbound = Outbound(LOOPBACK)
        self.clock = Clock()
        self.alice = self._organisation("alice")
        self.bob = self._organisation("bob")
        self.charlie = self._organisation("charlie")

    def _organisation(self, name: str) -> str:
        def change(conn: Connection) -> str:
            made = organisations.create(conn, name)
            conn.execute("UPDATE organisation SET checks_off = '{\"text\": false}' WHERE id = ?", (made.id,))
            return made.id

        return self.house.db.write(change)

    @property
    def webhooks(self) -> Webhooks:
        return self.house.settings.webhooks

    @webhooks.setter
    def webhooks(self, changed: Webhooks) -> None:
        self.house.settings = msgspec.structs.replace(self.house.settings, webhooks=changed)

    def register(self, org_id: str, url: str) -> str | None:
        return self.house.db.write(
            lambda conn: endpoints.register(conn, org_id, url, self.clock(), actor="operator:test")
        ).secret

    def close_job(self, org_id: str, url: str | None = None) -> str:
        submission = Submission(JobKind.PROMPT, text="hello", webhook_url=url)
        follow = self.house.db.write(lambda conn: submit(conn, self.house, org_id, None, submission))
        assert follow.delivery_id is not None
        return follow.delivery_id

    def deliver(self, delivery_id: str) -> int | None:
        return deliver(self.house.db, self.outbound, self.house.settings, delivery_id, now=self.clock)

    def row(self, delivery_id: str) -> deliveries.Delivery:
        return deliveries.find(self.house.db.reader(), delivery_id)

    def log(self, delivery_id: str) -> list[deliveries.Attempt]:
        return deliveries.attempts(self.house.db.reader(), delivery_id)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.house.close()


Receivers = Callable[..., Receiver]


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    made: list[Receiver] = []

    def make(*answers: tuple[int, dict[str, str]], hang: bool = False) -> Receiver:
        made.append(Receiver(*answers, hang=hang))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_delivery_is_verified_by_the_official_standardwebhooks(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    secret_of_alice = box.register(box.alice, receiver.url)
    assert secret_of_alice is not None
    delivery_id = box.close_job(box.alice)
    assert box.deliver(delivery_id) is None
    [got] = receiver.got
    document = Webhook(secret_of_alice).verify(got.body, got.headers)
    assert document["delivery_id"] == delivery_id
    assert document["is_prohibited"] is False
    assert got.headers["webhook-id"] == got.headers["x-omnifence-delivery-id"] == delivery_id
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert got.headers["user-agent"] == f"Customhouse/{__version__}"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_of_alice).verify(got.body.replace(b"false", b"true "), got.headers)
    row = box.row(delivery_id)
    assert (row.status, row.attempts) == (State.DELIVERED, 1)
    [attempt] = box.log(delivery_id)
    assert (attempt.http_status, attempt.error) == (200, None)


def test_the_notice_of_a_batch_is_delivered_signed_like_any_other(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    key = box.register(box.alice, receiver.url)
    assert key is not None
    texts = [Item("a", "one"), Item("b", "two")]
    made = box.house.db.write(lambda conn: submit_batch(conn, box.house, box.alice, None, texts))
    (delivery_id,) = [one.delivery_id for one in made.follow_ups if one.delivery_id is not None]
    assert delivery_id == f"wh_{made.batch_id}"
    box.deliver(delivery_id)
    (got,) = receiver.got
    told = Webhook(key).verify(got.body, got.headers)
    assert (told["type"], told["batch_id"], got.headers["webhook-id"]) == ("text_batch", made.batch_id, delivery_id)
    assert [(item["key"], item["job_id"]) for item in told["items"]] == made.jobs


def test_for_a_day_after_rotation_both_secrets_verify(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    old = box.register(box.alice, receiver.url)
    assert old is not None
    new = box.house.db.write(lambda conn: secret.rotate(conn, box.alice, box.clock(), actor="operator:test")).secret
    box.deliver(box.close_job(box.alice))
    [got] = receiver.got
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    assert Webhook(new).verify(got.body, got.headers) == Webhook(old).verify(got.body, got.headers)
    # a secret that was rotated more than a day ago signs no more
    aged = "UPDATE webhook_secret SET previous_until = ?"
    box.house.db.write(lambda conn: conn.execute(aged, (box.clock() - 1,)))
    box.deliver(box.close_job(box.alice))
    Webhook(new).verify(receiver.got[1].body, receiver.got[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(receiver.got[1].body, receiver.got[1].headers)


def test_each_tenant_is_signed_for_with_its_own_secret(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    alices, charlies = box.register(box.alice, receiver.url), box.register(box.charlie, receiver.url)
    assert alices is not None
    assert charlies is not None
    box.deliver(box.close_job(box.alice))
    [got] = receiver.got
    Webhook(alices).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(charlies).verify(got.body, got.headers)


def test_without_signing_the_request_is_the_seeds_plain_one(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    box.webhooks = Webhooks(sign=False)
    delivery_id = box.close_job(box.alice, receiver.url)
    box.deliver(delivery_id)
    [got] = receiver.got
    assert [name for name in got.headers if name.startswith("webhook-")] == []
    assert got.headers["x-omnifence-delivery-id"] == delivery_id
    assert secret.find(box.house.db.reader(), box.alice, box.clock()) is None


def test_a_failure_is_tried_again_later_with_the_same_id_and_body_and_a_new_signature(
    box: Box, receivers: Receivers
) -> None:
    receiver = receivers((500, {}), (204, {}))
    shared = box.register(box.alice, receiver.url)
    assert shared is not None
    delivery_id = box.close_job(box.alice)
    before = box.clock()
    next_at = box.deliver(delivery_id)
    assert next_at is not None
    assert before + 4_000 <= next_at <= box.clock() + 6_000
    assert box.deliver(delivery_id) is None  # not due yet
    assert len(receiver.got) == 1
    box.clock.ahead_ms = 10_000
    assert deliveries.due(box.house.db.reader(), box.clock(), 10) == [delivery_id]
    assert box.deliver(delivery_id) is None
    first, second = receiver.got
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery_id
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    Webhook(shared).verify(second.body, second.headers)
    assert [one.http_status for one in box.log(delivery_id)] == [500, 204]
    assert box.row(delivery_id).status is State.DELIVERED


def test_after_the_last_attempt_it_is_given_up_and_a_replay_sends_it_again(box: Box, receivers: Receivers) -> None:
    receiver = receivers((500, {}), (500, {}), (200, {}))
    box.webhooks = Webhooks(max_attempts=2)
    delivery_id = box.close_job(box.alice, receiver.url)
    assert box.deliver(delivery_id) is not None
    box.clock.ahead_ms = 60_000
    assert box.deliver(delivery_id) is None
    assert box.row(delivery_id).status is State.FAILED
    assert deliveries.due(box.house.db.reader(), box.clock() + 10**9, 10) == []
    box.house.db.write(lambda conn: deliveries.replay(conn, delivery_id, box.clock(), actor="operator:test"))
    assert box.deliver(delivery_id) is None
    assert box.row(delivery_id).status is State.DELIVERED
    assert {got.headers["x-omnifence-delivery-id"] for got in receiver.got} == {delivery_id}
    assert {got.body for got in receiver.got} == {receiver.got[0].body}
    assert [one.http_status for one in box.log(delivery_id)] == [500, 500, 200]


def test_with_one_attempt_a_failure_is_logged_and_not_retried_as_the_seeds_say(box: Box, receivers: Receivers) -> None:
    receiver = receivers((500, {}))
    box.webhooks = Webhooks(max_attempts=1)
    delivery_id = box.close_job(box.alice, receiver.url)
    assert box.deliver(delivery_id) is None
    assert box.row(delivery_id).status is State.FAILED
    assert len(box.log(delivery_id)) == len(receiver.got) == 1


def test_410_disables_the_endpoint_until_it_is_registered_again(box: Box, receivers: Receivers) -> None:
    receiver = receivers((410, {}), (200, {}))
    box.register(box.alice, receiver.url)
    gone, waiting = box.close_job(box.alice), box.close_job(box.alice)
    assert box.deliver(gone) is None
    assert [box.row(gone).status, box.row(waiting).status] == [State.FAILED, State.FAILED]
    assert len(receiver.got) == 1
    endpoint = endpoints.get(box.house.db.reader(), box.alice)
    assert endpoint is not None
    assert endpoint.is_disabled
    box.register(box.alice, receiver.url)
    box.deliver(box.close_job(box.alice))
    assert len(receiver.got) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(box: Box, receivers: Receivers, status: int) -> None:
    receiver = receivers((status, {"Retry-After": "120"}))
    delivery_id = box.close_job(box.alice, receiver.url)
    before = box.clock()
    next_at = box.deliver(delivery_id)
    assert next_at is not None
    assert before + 120_000 <= next_at <= box.clock() + 120_000
    assert box.row(delivery_id).next_at == next_at


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(box: Box, receivers: Receivers, status: int) -> None:
    elsewhere = receivers()
    receiver = receivers((status, {"Location": elsewhere.url}))
    delivery_id = box.close_job(box.alice, receiver.url)
    assert box.deliver(delivery_id) is not None
    assert (len(receiver.got), len(elsewhere.got)) == (1, 0)
    [attempt] = box.log(delivery_id)
    assert attempt.http_status == status
    assert attempt.error is not None
    assert "redirects are not followed" in attempt.error


def test_a_receiver_that_hangs_is_left_after_the_timeout(box: Box, receivers: Receivers) -> None:
    receiver = receivers(hang=True)
    box.webhooks = Webhooks(timeout_s=0.2)
    delivery_id = box.close_job(box.alice, receiver.url)
    assert box.deliver(delivery_id) is not None
    assert len(receiver.got) == 1
    [attempt] = box.log(delivery_id)
    assert attempt.http_status is None
    assert attempt.error
    assert box.row(delivery_id).status is State.PENDING


def test_a_receiver_that_is_not_there_is_tried_again(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    url = receiver.url
    receiver.close()
    delivery_id = box.close_job(box.alice, url)
    assert box.deliver(delivery_id) is not None
    [attempt] = box.log(delivery_id)
    assert (attempt.http_status, bool(attempt.error)) == (None, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_refused_at_the_moment_of_delivery(box: Box, receivers: Receivers, host: str) -> None:
    receiver = receivers()
    box.outbound = Outbound([])
    delivery_id = box.close_job(box.alice, receiver.url.replace("127.0.0.1", host))
    assert box.deliver(delivery_id) is not None  # the operator may allow the network within the five hours
    assert receiver.got == []
    [attempt] = box.log(delivery_id)
    assert attempt.http_status is None
    assert attempt.error is not None
    assert "media.allowed_private_cidrs" in attempt.error


def test_what_the_receiver_answers_is_kept_nowhere(box: Box, receivers: Receivers) -> None:
    receiver = receivers((500, {"X-Mark": "MARK"}))
    box.deliver(box.close_job(box.alice, receiver.url))
    assert len(receiver.got) == 1
    files = [path for path in box.house.settings.home.glob("customhouse.db*") if path.is_file()]
    assert files
    assert not any(b"MARK" in path.read_bytes() for path in files)


def test_one_turn_sends_all_that_its_tenant_has_due_and_nothing_of_others(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    mine = [box.close_job(box.alice, receiver.url) for _ in range(6)]
    others = box.close_job(box.charlie, receiver.url)
    box.deliver(mine[3])
    sent = [got.headers["webhook-id"] for got in receiver.got]
    assert sent[0] == mine[3]
    assert sorted(sent) == sorted(mine)
    assert box.row(others).status is State.PENDING


def test_a_tenants_hung_receiver_holds_some_threads_and_not_the_lane(box: Box, receivers: Receivers) -> None:
    hung, quick = receivers(hang=True), receivers()
    waiting = [box.close_job(box.alice, hung.url) for _ in range(6)]
    threads = [threading.Thread(target=box.deliver, args=(delivery_id,)) for delivery_id in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.5)  # two of the six find no room and end; the others wait for their answer
    assert sum(thread.is_alive() for thread in threads) == deliveries.ABREAST
    others = box.close_job(box.charlie, quick.url)
    box.deliver(others)
    assert box.row(others).status is State.DELIVERED
    assert len(hung.got) <= deliveries.ABREAST
    hung.released.set()
    for thread in threads:
        thread.join()


def test_two_tenants_whose_receivers_hang_leave_threads_for_a_third(box: Box, receivers: Receivers) -> None:
    hung, quick = receivers(hang=True), receivers()
    waiting = [box.close_job(org, hung.url) for _ in range(6) for org in (box.alice, box.bob)]
    threads = [threading.Thread(target=box.deliver, args=(delivery_id,)) for delivery_id in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.3)  # those that find no room end; the others wait for their answer
    assert sum(thread.is_alive() for thread in threads) == deliveries.THREADS - 2
    others = box.close_job(box.charlie, quick.url)
    box.deliver(others)
    assert box.row(others).status is State.DELIVERED
    hung.released.set()
    for thread in threads:
        thread.join()


class CrashesAfterSending(Outbound):
    """The request goes out; before it can be recorded, the process is gone."""

    def post(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float):
        super().post(url, body, headers, timeout_s)
        raise SystemExit("the worker died here")


def test_a_crash_between_sending_and_recording_sends_the_same_id_again(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    shared = box.register(box.alice, receiver.url)
    assert shared is not None
    delivery_id = box.close_job(box.alice)
    whole = box.outbound
    box.outbound = CrashesAfterSending(LOOPBACK)
    with pytest.raises(SystemExit):
        box.deliver(delivery_id)
    assert box.row(delivery_id).status is State.SENDING
    box.outbound = whole
    assert box.deliver(delivery_id) is None  # another's lease still runs
    assert len(receiver.got) == 1
    box.clock.ahead_ms = BEYOND_LEASE_MS
    assert deliveries.due(box.house.db.reader(), box.clock(), 10) == [delivery_id]
    box.deliver(delivery_id)
    box.deliver(delivery_id)
    first, second = receiver.got  # twice, and never a third time
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery_id
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    Webhook(shared).verify(second.body, second.headers)
    assert [(one.http_status, one.error) for one in box.log(delivery_id)] == [
        (None, "outcome unknown: its worker fell silent"),
        (200, None),
    ]
    assert box.row(delivery_id).attempts == 2


def _deliver_alone(home: Path, delivery_id: str) -> None:
    """What a worker process does."""
    settings = Settings(home=home)
    deliver(Database(settings.database), Outbound(LOOPBACK), settings, delivery_id)


def test_kill_9_of_the_sender_in_mid_request_loses_nothing(box: Box, receivers: Receivers) -> None:
    receiver = receivers(hang=True)
    delivery_id = box.close_job(box.alice, receiver.url)
    worker = multiprocessing.get_context("spawn").Process(
        target=_deliver_alone, args=(box.house.settings.home, delivery_id)
    )
    worker.start()
    assert receiver.arrived.wait(30)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    receiver.released.set()
    assert box.row(delivery_id).status is State.SENDING
    assert box.deliver(delivery_id) is None
    box.clock.ahead_ms = BEYOND_LEASE_MS
    box.deliver(delivery_id)
    assert [got.headers["webhook-id"] for got in receiver.got] == [delivery_id] * 2
    assert box.row(delivery_id).status is State.DELIVERED


def test_threads_that_deliver_together_send_it_once(box: Box, receivers: Receivers) -> None:
    receiver = receivers()
    delivery_id = box.close_job(box.alice, receiver.url)
    together = threading.Barrier(8)

    def run() -> None:
        together.wait()
        box.deliver(delivery_id)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.got) == 1
    assert box.row(delivery_id).attempts == 1


class Broken(Outbound):
    """An error that nobody foresaw."""

    def post(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float):
        raise RuntimeError(body.decode())


def test_an_unforeseen_error_is_an_attempt_like_any_other(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.outbound = Broken(LOOPBACK)
    delivery_id = box.close_job(box.alice, "http://127.0.0.1:9/")
    assert box.deliver(delivery_id) is not None
    [attempt] = box.log(delivery_id)
    assert attempt.error == "internal error: RuntimeError; see the log"
    assert "webhook not sent" in caplog.text


def test_what_is_sent_is_what_was_true_when_the_job_closed(box: Box, receivers: Receivers) -> None:
    receiver = receivers((500, {}), (200, {}))
    delivery_id = box.close_job(box.alice, receiver.url)
    box.deliver(delivery_id)
    box.house.db.write(lambda conn: conn.execute("UPDATE job SET is_prohibited = 1"))
    box.clock.ahead_ms = 10_000
    box.deliver(delivery_id)
    assert receiver.got[0].body == receiver.got[1].body
    assert json.loads(receiver.got[1].body)["is_prohibited"] is False
