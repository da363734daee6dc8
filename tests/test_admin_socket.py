"""The operators' socket, as it is run: `customhouse serve` in a process of its own; and bans, seen by its processes."""

import contextlib
import getpass
import http.client
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import audit
from appliance.accounts import organisations
from appliance.api import operators
from tests.cast import Person, enrol
from tests.test_api_server import PATIENCE_S, Served, submit, wait

ADMIN = "/api/v1/admin"


class Line(http.client.HTTPConnection):
    """HTTP over a Unix socket, for as many requests as one likes."""

    def __init__(self, path: Path) -> None:
        super().__init__("customhouse", timeout=PATIENCE_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        sent = {**({} if body is None else {"content-type": "application/json"}), **(headers or {})}
        self.request(method, path, data, sent)
        answer = self.getresponse()
        received = answer.read()
        return answer.status, json.loads(received) if received else None


def path_of(served: Served) -> Path:
    return served.house.settings.admin_socket


def call(served: Served, method: str, path: str, body: Any = None, **how: Any) -> tuple[int, Any]:
    with contextlib.closing(Line(path_of(served))) as line:
        return line.ask(method, f"{ADMIN}{path}", body, **how)


def answers(served: Served) -> bool:
    try:
        return call(served, "GET", "/clients?limit=1")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("operators"))
    wait(lambda: answers(served))
    yield served
    served.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """A server of this test's own, to be stopped or killed."""
    with contextlib.ExitStack() as stack:

        def make(**environ: str) -> Served:
            served = stack.enter_context(contextlib.closing(Served(tmp_path, **environ)))
            wait(lambda: answers(served))
            return served

        yield make


@pytest.fixture
def alice(served: Served) -> Person:
    return enrol(served.house, f"A {time.monotonic_ns()}", "alice")


def test_only_its_user_and_group_may_open_it(served: Served) -> None:
    mode = path_of(served).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    assert stat.S_IMODE(path_of(served).parent.stat().st_mode) & 0o007 == 0


def test_the_user_who_asks_is_the_actor_whatever_the_headers_say(served: Served, alice: Person) -> None:
    headers = {**alice.headers, "customhouse.operator": "mallory", "x-forwarded-user": "mallory"}
    status, body = call(
        served, "PUT", f"/clients/{alice.org_id}", {"burst_per_second": 3, "reason": "x"}, headers=headers
    )
    assert (status, body["burst_per_second"]) == (200, 3)
    (line,) = audit.page(served.house.db.reader(), audit.Filter(org_id=alice.org_id))
    name = f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    assert (line.actor, line.reason) == (name, "x")
    wait(lambda: f'"key":"{name}"' in served.log())


def test_on_the_port_nothing_is_found(served: Served) -> None:
    staff = enrol(served.house, "Staff", "sam", granted=("admin:config",))
    headers = {**staff.headers, "customhouse.operator": "root"}
    answer = httpx.get(f"{served.url}{ADMIN}/clients", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")


def test_the_other_routes_want_a_key_there_too(served: Served, alice: Person) -> None:
    with contextlib.closing(Line(path_of(served))) as line:
        assert line.ask("GET", "/api/v1/me/moderation-config")[0] == 401
        assert line.ask("GET", "/api/v1/me/moderation-config", headers=alice.headers)[0] == 200
        assert line.ask("GET", "/health/live")[0] == 200
        assert line.ask("GET", "/nothing")[0] == 404


def test_one_connection_takes_one_request_after_the_other(served: Served) -> None:
    with contextlib.closing(Line(path_of(served))) as line:
        for number in range(20):
            body = {"keyword": f"term {number}"} if number % 2 else None
            status, _ = line.ask("POST" if body else "GET", f"{ADMIN}/keywords", body)
            assert status == (201 if body else 200)
        assert line.ask("GET", f"{ADMIN}/keywords")[1]["total"] == 10


def test_a_chunked_body_is_read(served: Served) -> None:
    with contextlib.closing(Line(path_of(served))) as line:
        line.request(
            "POST",
            f"{ADMIN}/keywords",
            iter([b'{"keyword": ', b'"in pieces"}']),
            {"content-type": "application/json"},
            encode_chunked=True,
        )
        assert line.getresponse().status == 201


def test_curl_speaks_to_it(served: Served) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", str(path_of(served)), f"http://localhost{ADMIN}/clients?limit=1"],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert json.loads(done.stdout)["limit"] == 1


def test_a_body_that_nobody_reads_does_not_hold_the_connection(served: Served) -> None:
    with contextlib.closing(Line(path_of(served))) as line:
        assert line.ask("POST", f"{ADMIN}/clients", {"name": "x" * 2_000_000})[0] == 413
    assert answers(served)


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"",
    ],
)
def test_what_is_no_http_is_refused_and_others_are_answered(served: Served, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        raw.settimeout(PATIENCE_S)
        raw.connect(str(path_of(served)))
        with contextlib.suppress(OSError):
            raw.sendall(said)
            raw.shutdown(socket.SHUT_WR)
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := raw.recv(65_536):
                heard += piece
        assert heard == b"" or heard.split()[1] in (b"400", b"431")
    assert answers(served)


def test_who_hangs_up_in_mid_request_harms_nobody(served: Served) -> None:
    for said in (b"POST /api/v1/admin/clients HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{", b"GET /api"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
            raw.connect(str(path_of(served)))
            raw.sendall(said)
    assert answers(served)


def test_a_user_that_has_no_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with ours, theirs:
        assert operators.name_of(ours) == str(os.getuid())


# --- bans, in every process ------------------------------------------------------------------------------------------


def test_a_ban_holds_at_once_and_ends_open_streams(served: Served, alice: Person) -> None:
    job_id = submit(served, alice)
    with httpx.stream("GET", f"{served.url}/api/v1/job/{job_id}/progress", headers=alice.headers, timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 3000"
        assert call(served, "POST", f"/clients/{alice.org_id}/ban", {"reason": "abuse"})[0] == 200
        answer = httpx.get(f"{served.url}/api/v1/job/{job_id}", headers=alice.headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "ACCOUNT_TERMINATED")
        assert [line for line in lines if line.startswith("event:")] == ["event: connected"]
    assert call(served, "POST", f"/clients/{alice.org_id}/unban", {"reason": "appeal"})[0] == 200
    assert httpx.get(f"{served.url}/api/v1/job/{job_id}", headers=alice.headers).status_code == 200


def test_a_ban_by_command_is_seen_by_the_server_at_once(served: Served, alice: Person) -> None:
    served.house.db.write(
        lambda conn: organisations.ban(conn, alice.org_id, actor=f"operator:{getpass.getuser()}", reason="abuse")
    )
    answer = httpx.get(f"{served.url}/api/v1/me/moderation-config", headers=alice.headers)
    assert answer.status_code == 403


# --- living and dying ------------------------------------------------------------------------------------------------


def test_a_file_that_a_killed_server_left_is_replaced(own: Callable[..., Served]) -> None:
    served = own()
    served.process.kill()
    served.process.wait()
    wait(lambda: not answers(served))
    assert path_of(served).exists()
    served.start()
    wait(lambda: answers(served))


def test_the_file_goes_with_the_server_which_an_idle_connection_does_not_hold(own: Callable[..., Served]) -> None:
    served = own()
    with contextlib.closing(Line(path_of(served))) as line:
        assert line.ask("GET", f"{ADMIN}/clients")[0] == 200
        assert served.stop() == 0
    assert not path_of(served).exists()


def test_another_process_answers_when_the_one_that_did_is_killed(own: Callable[..., Served]) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2")
    children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    inode = path_of(served).with_suffix(".lock").stat().st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    (holder,) = [lock[4] for lock in locks if lock[4] in children and lock[5].endswith(f":{inode}")]
    os.kill(int(holder), signal.SIGKILL)
    wait(lambda: answers(served))
    assert served.process.poll() is None


def test_a_socket_that_cannot_be_opened_stops_nothing(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 25)
    home.mkdir()
    with contextlib.closing(Served(home)) as served:
        wait(lambda: "operators' socket not open" in served.log())
        assert served.answers()
