"""Connections that mean no good, against a real server: refused without harm, and others are served meanwhile."""

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import made
from tests.cast import Person, enrol
from tests.test_api_server import Served, wait

HEADER_S, BODY_S = 1, 2
SLACK_S = 10.0  # this machine may be busy
_WARM = 60  # files that the server's own threads open for themselves as they are first used
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"prompt":"hi"}'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(
        tmp_path_factory.mktemp("hostile"),
        CUSTOMHOUSE_SERVER_HEADER_TIMEOUT_S=str(HEADER_S),
        CUSTOMHOUSE_SERVER_BODY_TIMEOUT_S=str(BODY_S),
        CUSTOMHOUSE_SERVER_UNREAD_TIMEOUT_S="1",
    )
    yield served
    served.close()


@pytest.fixture(scope="module")
def alice(served: Served) -> Person:
    return enrol(served.house, "A", "alice")


@pytest.fixture(autouse=True)
def honest(served: Served, alice: Person) -> Iterator[None]:
    """Somebody who asks all the while, and is answered each time; afterwards nothing is left behind."""
    files = descriptors(served)
    is_over = threading.Event()
    failed: list[object] = []

    def ask() -> None:
        with httpx.Client(base_url=served.url, headers=alice.headers, timeout=SLACK_S) as client:
            while not is_over.wait(0.02):
                try:
                    answer = client.get("/api/v1/me/moderation-config", headers={"Connection": "close"})
                except httpx.HTTPError as error:
                    failed.append(error)
                else:
                    if answer.status_code != 200:
                        failed.append(answer.text)

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    is_over.set()
    thread.join()
    assert not failed
    wait(lambda: descriptors(served) <= files + _WARM)
    wait(lambda: not list(served.house.settings.media_dir.iterdir()))  # of who hung up, once that is noticed
    assert '"level":"error"' not in served.log()


def descriptors(served: Served) -> int:
    return len(os.listdir(f"/proc/{served.worker}/fd"))


def resident_mb(served: Served) -> float:
    lines = Path(f"/proc/{served.worker}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000


def connect(served: Served) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=SLACK_S)
    connection.settimeout(SLACK_S)
    return connection


def post(alice: Person, *headers: str, path: str = "/api/v1/moderate/prompt", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Authorization: Bearer {alice.key}"]
    return "\r\n".join([*lines, "Content-Type: application/json", *headers, "", ""]).encode()


def all_of(connection: socket.socket) -> bytes:
    """What the server says until it closes; it must do so."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            said += piece
    connection.close()
    return said


def say(served: Served, data: bytes) -> bytes:
    connection = connect(served)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(data)
    return all_of(connection)


def statuses(said: bytes) -> list[int]:
    return [int(part[1:4]) for part in said.split(b"HTTP/1.1")[1:]]


def jobs(served: Served) -> int:
    return int(served.house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0])


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [512_001, 400_000_000, 10**15])
def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(
    served: Served, alice: Person, size: int
) -> None:
    said = say(served, post(alice, f"Content-Length: {size}"))
    assert statuses(said) == [413]
    assert b'"PAYLOAD_TOO_LARGE"' in said


def test_a_body_that_grows_too_large_is_cut_off_on_the_way(served: Served, alice: Person) -> None:
    connection = connect(served)
    connection.sendall(post(alice, "Transfer-Encoding: chunked"))
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    sent = 0
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for _ in range(2000):
            connection.sendall(piece)
            sent += len(piece)
    assert sent < 20_000_000  # not the 131 MB that we would have sent: what the sockets hold, at most
    said = all_of(connection)
    assert statuses(said) in ([413], [])  # the answer may be lost when it crosses what is still being sent


def test_an_upload_that_grows_too_large_leaves_no_file(served: Served, alice: Person) -> None:
    head = post(alice, "Transfer-Encoding: chunked", path="/api/v1/moderate/image")
    head = head.replace(b"application/json", b"multipart/form-data; boundary=b")
    connection = connect(served)
    part = b'--b\r\nContent-Disposition: form-data; name="image_file"; filename="a.png"\r\n\r\n'
    connection.sendall(head + b"%x\r\n%s\r\n" % (len(part), part))
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for _ in range(400):
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert statuses(all_of(connection)) in ([413], [])


@pytest.mark.parametrize("path", ["/api/v1/moderate/prompt", "/api/v1/webhook/register"])
@pytest.mark.parametrize("dribble", [b"", b" "])
def test_a_body_that_does_not_come_is_given_up(served: Served, alice: Person, path: str, dribble: bytes) -> None:
    connection = connect(served)
    connection.sendall(post(alice, "Content-Length: 1000", path=path))
    began = time.monotonic()
    connection.settimeout(0.1)
    said = b""
    while time.monotonic() < began + SLACK_S:
        try:
            connection.sendall(dribble)
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            break
        if not piece:
            break
        said += piece
    else:
        raise AssertionError("it is still waited for")
    connection.close()
    assert time.monotonic() - began >= BODY_S * 0.9
    assert statuses(said) == [400]
    assert b"came too slowly" in said


def test_an_upload_that_stops_in_the_middle_leaves_no_file(served: Served, alice: Person) -> None:
    head = post(alice, "Content-Length: 5000000", path="/api/v1/moderate/image")
    head = head.replace(b"application/json", b"multipart/form-data; boundary=b")
    part = b'--b\r\nContent-Disposition: form-data; name="image_file"; filename="a.png"\r\n\r\n'
    said = say(served, head + part + b"x" * 2_000_000)
    assert statuses(said) == [400]


def test_a_slow_body_that_keeps_the_pace_is_taken(served: Served, alice: Person) -> None:
    """Longer than the time-out in all, but never later than 4 KB a second allow."""
    body = BODY + b" " * 20_000
    connection = connect(served)
    connection.sendall(post(alice, f"Content-Length: {len(body)}", "Connection: close"))
    for start in range(0, len(body), 2000):
        time.sleep(0.3)
        connection.sendall(body[start : start + 2000])
    assert statuses(all_of(connection)) == [202]


# --- headers and silence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun", [b"", b"GET /health", b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ", HEALTH], ids=repr
)
@pytest.mark.parametrize("dribble", [b"", b"a"])
def test_who_does_not_go_on_is_closed(served: Served, begun: bytes, dribble: bytes) -> None:
    connection = connect(served)
    connection.sendall(begun)
    connection.settimeout(0.1)
    until = time.monotonic() + SLACK_S
    while time.monotonic() < until:
        try:
            connection.sendall(dribble)
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            break
    else:
        raise AssertionError("it is still open")
    connection.close()


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        (b"GET /health/live HTTP/1.1", b"X-Big: " + b"a" * 1_000_000 + b"\r\n"),
        (b"GET /health/live HTTP/1.1", b"".join(b"X-%d: a\r\n" % number for number in range(500))),
        (b"GET /health/live HTTP/1.1", b"X-Big: a\r\n" * 100_000),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b""),
        (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1", b""),
    ],
    ids=["one huge", "many", "very many", "long address", "huge address"],
)
def test_huge_headers_are_refused(served: Served, request_line: bytes, headers: bytes) -> None:
    said = say(served, request_line + b"\r\nHost: x\r\n" + headers + b"Connection: close\r\n\r\n")
    assert statuses(said) in ([431], [414], [])  # nothing when the answer crosses what is still being sent


def test_three_thousand_idle_connections_are_in_nobodys_way(served: Served, alice: Person) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    if min(hard, max(soft, 4096)) < 4096:
        pytest.skip("this machine allows fewer than 4,096 descriptors")
    before, memory_mb = descriptors(served), resident_mb(served)
    idle = [connect(served) for _ in range(3000)]
    for number, connection in enumerate(idle):
        connection.sendall([b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 8000][number % 3])
    answers = [httpx.get(f"{served.url}/health/live", timeout=SLACK_S).status_code for _ in range(20)]
    assert answers == [200] * 20
    wait(lambda: descriptors(served) <= before + _WARM)  # they were closed, not by us
    for connection in idle:
        connection.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resident_mb(served) < memory_mb + 60


def test_the_server_takes_more_connections_than_descriptors_are_allowed_at_first(served: Served) -> None:
    limits = Path(f"/proc/{served.process.pid}/limits").read_text().splitlines()
    soft, hard = next(line for line in limits if line.startswith("Max open files")).split()[3:5]
    assert int(soft) >= min(int(hard), 10_000)


# --- smuggling -------------------------------------------------------------------------------------------------------

HIDDEN = b"DELETE /api/v1/webhook/register HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body", "allowed"),
    [
        (["Content-Length: 15", "Transfer-Encoding: chunked"], b"0\r\n\r\n" + HIDDEN, {400}),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], b"f\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN, {202, 400}),
        (["Content-Length: 15", "Content-Length: 200"], BODY + HIDDEN, {400}),
        (["Content-Length: 15, 200"], BODY + HIDDEN, {400}),
        (["Content-Length: 15, 15"], BODY + HIDDEN, {400}),
        (["Content-Length: +15"], BODY + HIDDEN, {400}),
        (["Content-Length: -1"], BODY + HIDDEN, {400}),
        (["Content-Length: 0x0f"], BODY + HIDDEN, {400}),
        (["Content-Length: 99999999999999999999999999"], BODY + HIDDEN, {400}),
        (["Content-Length : 15"], BODY + HIDDEN, {400}),
        (["Transfer-Encoding : chunked"], b"f\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN, {400}),
        (["Transfer-Encoding: xchunked"], b"f\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN, {400}),
        (["Transfer-Encoding: chunked, identity"], b"f\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN, {400}),
        (["Transfer-Encoding: identity", "Content-Length: 15"], BODY + HIDDEN, {400}),
        (["Transfer-Encoding: chunked"], b"zz\r\nnonsense\r\n0\r\n\r\n" + HIDDEN, {400}),
        (["Transfer-Encoding: chunked"], b"-1\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN, {400}),
        (["Transfer-Encoding: chunked"], b"fffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN, {400}),
        (["Transfer-Encoding: chunked"], b"f;" + b"a" * 200_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", {400}),
        (["Transfer-Encoding: chunked"], b"f\r\n" + BODY + b"\r\n0\r\n" + b"X-T: y\r\n" * 5000 + b"\r\n", {400}),
        (["X-Null: a\0b", "Content-Length: 15"], BODY + HIDDEN, {400}),
        (["X-Folded: a", " Content-Length: 200", "Content-Length: 15"], BODY + HIDDEN, {400}),
    ],
)
def test_a_request_hidden_in_anothers_body_is_never_answered(
    served: Served, alice: Person, headers: list[str], body: bytes, allowed: set[int]
) -> None:
    before = jobs(served)
    said = say(served, post(alice, *headers) + body.replace(b"{key}", alice.key.encode()))
    assert len(statuses(said)) <= 1
    assert set(statuses(said)) <= allowed
    assert b"204" not in said
    assert jobs(served) - before == statuses(said).count(202)


def test_what_is_no_http_is_refused(served: Served) -> None:
    assert statuses(say(served, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)))) == [400]


def test_http_2_is_not_spoken_without_tls(served: Served) -> None:
    said = say(served, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    assert said == b"" or statuses(said) == [400]


def test_two_idempotency_keys_are_none(served: Served, alice: Person) -> None:
    said = say(served, post(alice, "Idempotency-Key: a", "Idempotency-Key: b", "Content-Length: 15") + BODY)
    assert statuses(said) == [400]
    assert b"Idempotency-Key must be one key" in said


# --- hanging up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.2, 0.7, 1.0])
def test_who_hangs_up_early_leaves_nothing(served: Served, alice: Person, keep: float) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="image_file"; filename="a.png"\r\n\r\n' + b"x" * 3_000_000
    head = post(alice, f"Content-Length: {len(part)}", path="/api/v1/moderate/image")
    whole = head.replace(b"application/json", b"multipart/form-data; boundary=b") + part
    before = jobs(served)
    for _ in range(20):
        connection = connect(served)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(whole[: int(len(whole) * keep)])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a goodbye
        connection.close()
    wait(lambda: not list(served.house.settings.media_dir.iterdir()))
    assert jobs(served) == before


def test_streams_that_are_dropped_are_let_go(served: Served, alice: Person) -> None:
    submitted = httpx.post(f"{served.url}/api/v1/moderate/prompt", headers=alice.headers, json={"prompt": "hi"})
    path = f"/api/v1/job/{submitted.json()['job_id']}/progress"
    before = descriptors(served)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stream = stack.enter_context(connect(served))
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.key}\r\n\r\n".encode())
            said = b""
            while b"event: connected" not in said:
                said += stream.recv(4096)
    wait(lambda: descriptors(served) <= before + _WARM)


def test_a_stream_whose_request_never_ends_goes_on(served: Served, alice: Person) -> None:
    submitted = httpx.post(f"{served.url}/api/v1/moderate/prompt", headers=alice.headers, json={"prompt": "hi"})
    path = f"/api/v1/job/{submitted.json()['job_id']}/progress"
    with connect(served) as stream:
        ask = f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer {alice.key}\r\n\r\n"
        stream.sendall(ask.encode())
        said = b""
        while b"event: connected" not in said:
            said += stream.recv(4096)
        stream.settimeout(2.0 * BODY_S)
        with pytest.raises(TimeoutError):
            stream.recv(4096)


def test_an_export_that_nobody_reads_is_given_up(served: Served, alice: Person) -> None:
    """It would hold a reading transaction, behind which the database cannot clear away."""
    noon = 1_779_192_000_000
    long = "A long prompt, of which many fill more than sockets hold. " * 80
    made.insert(served.house, [made.job(alice.org_id, noon + n, text=long) for n in range(10_000)])
    query = "from=2026-05-19T00:00:00Z&to=2026-05-20T00:00:00Z"
    ask = f"GET /api/v1/jobs/export?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.key}\r\n\r\n"
    with connect(served) as connection:
        connection.sendall(ask.encode())
        wait(lambda: '"answer given up"' in served.log())
        said = all_of(connection)
    assert statuses(said[:20]) == [200]
    assert not said.endswith(b"0\r\n\r\n")  # a reader sees that it is not whole
