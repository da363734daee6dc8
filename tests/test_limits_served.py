"""Limits, revocations and idempotency keys over several API processes, and over the death of one."""

import contextlib
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.accounts import keys
from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.test_api_server import PATIENCE_S, Served, wait

CONFIG = "/api/v1/me/moderation-config"
PROMPT = "/api/v1/moderate/prompt"

Serve = Callable[..., Served]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Serve]:
    """A server of this test's own."""
    with contextlib.ExitStack() as stack:

        def make(**environ: str) -> Served:
            return stack.enter_context(contextlib.closing(Served(tmp_path, **environ)))

        yield make


def ask_all(served: Served, person: Person, count: int) -> list[int]:
    """So many at once, each on a connection of its own, so that every process gets some."""

    def ask(_: int) -> int:
        return httpx.get(f"{served.url}{CONFIG}", headers=person.headers, timeout=30).status_code

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(ask, range(count)))


def submit(served: Served, person: Person, key: str, text: str = "hi") -> httpx.Response:
    headers = {**person.headers, "Idempotency-Key": key}
    return httpx.post(f"{served.url}{PROMPT}", headers=headers, data={"prompt": text}, timeout=30)


def decide(served: Served, person: Person, text: str) -> int:
    body = {"modality": "text", "input": text}
    return httpx.post(f"{served.url}/v1/moderations", headers=person.headers, json=body, timeout=30).status_code


def jobs(served: Served) -> int:
    return int(served.house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0])


def processes(served: Served) -> list[str]:
    return Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()


def die_and_come_back(served: Served) -> None:
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    served.start()


def test_two_processes_let_in_exactly_the_limit_also_after_both_died(own: Serve) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2", CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE="60")
    alice, bob = enrol(served.house, "A", "alice"), enrol(served.house, "A", "bob")
    wait(lambda: len(processes(served)) >= 2)
    assert ask_all(served, alice, 40) == [200] * 40
    die_and_come_back(served)
    answers = [*ask_all(served, alice, 30), *ask_all(served, bob, 30)]
    assert (answers.count(200), answers.count(429)) == (20, 40)


def test_two_processes_start_in_a_home_where_nothing_is_yet(own: Serve) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2")
    served.stop()
    shutil.rmtree(served.house.settings.run_dir)
    served.start()


def test_two_processes_let_in_exactly_the_quota(own: Serve) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2")
    alice = enrol(served.house, "A", "alice", surface="omnimod")
    on_plan(served.house, alice, "free", 25)
    wait(lambda: len(processes(served)) >= 2)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: decide(served, alice, f"a lighthouse {number}"), range(60)))
    assert (answers.count(200), answers.count(429)) == (25, 35)
    events = served.house.db.reader().execute("SELECT count(*) FROM moderation_event").fetchone()[0]
    used = served.house.db.reader().execute("SELECT sum(requests) FROM moderation_use").fetchone()[0]
    assert (events, used) == (25, 25)


def test_two_processes_hear_wrong_keys_of_an_address_together(own: Serve) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2", CUSTOMHOUSE_LIMITS_FAILED_AUTH_PER_MINUTE="30")
    wait(lambda: len(processes(served)) >= 2)
    wrong = Person("", "", f"stars_{'a' * 40}")
    answers = ask_all(served, wrong, 50)
    assert (answers.count(401), answers.count(429)) == (30, 20)


def test_a_revocation_is_seen_at_once_by_every_process(own: Serve) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2")
    alice = enrol(served.house, "A", "alice")
    wait(lambda: len(processes(served)) >= 2)
    assert set(ask_all(served, alice, 40)) == {200}
    served.house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test"))
    assert set(ask_all(served, alice, 40)) <= {401, 429}


def test_two_processes_do_the_same_request_once(own: Serve) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2")
    alice = enrol(served.house, "A", "alice")
    wait(lambda: len(processes(served)) >= 2)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: submit(served, alice, "k"), range(40)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
    assert jobs(served) == 1


def test_a_kill_between_the_commit_and_the_answer_leads_to_the_same_answer(own: Serve) -> None:
    served = own()
    alice = enrol(served.house, "A", "alice")
    body = b"prompt=hi"
    request = (
        f"POST {PROMPT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.key}\r\nIdempotency-Key: k\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(request.encode() + body)
        wait(lambda: jobs(served) == 1)  # it is on disk; what was answered is never read
        die_and_come_back(served)
    again = submit(served, alice, "k")
    (row,) = served.house.db.reader().execute("SELECT id FROM job").fetchall()
    assert again.json() == {"job_id": row["id"], "status": "queued"}
    assert again.headers["idempotent-replayed"] == "true"


def test_whatever_moment_it_dies_at_each_key_is_one_job(own: Serve) -> None:
    served = own(CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE="6000")  # a try that died with the process counts, too
    alice = enrol(served.house, "A", "alice")

    def until_answered(number: int) -> Any:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                answer = submit(served, alice, f"k{number}", f"text {number}")
                if answer.status_code == 202:
                    return answer.json()["job_id"]
            time.sleep(0.1)
        raise TimeoutError(number)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(until_answered, number) for number in range(60)]
        for count in (10, 35):
            wait(lambda count=count: jobs(served) >= count)
            die_and_come_back(served)
        ids = [future.result() for future in waiting]
    assert len(set(ids)) == 60
    assert jobs(served) == 60
