"""Requests that no client writes, byte by byte against a real server: none ends in an error of the server's, none hides
another, and nobody's bytes come out in anybody else's request."""
# ruff: noqa: E501  # tables

import contextlib
import random
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.cast import Person, enrol
from tests.test_api_server import Served, wait
from tests.test_hostile import all_of, jobs, post, statuses

PATIENCE_S = 60.0
MARK = b"Thornwicket"
BODY = b'{"prompt":"hi"}'
CHUNKED = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(
        tmp_path_factory.mktemp("wire"),
        CUSTOMHOUSE_SERVER_HEADER_TIMEOUT_S="1",
        CUSTOMHOUSE_SERVER_BODY_TIMEOUT_S="2",
    )
    yield served
    served.close()


@pytest.fixture(scope="module")
def alice(served: Served) -> Person:
    return enrol(served.house, "A", "alice")


@pytest.fixture(autouse=True)
def unhurt(served: Served) -> Iterator[None]:
    """Afterwards the server is there, and has no error to tell of."""
    yield
    assert httpx.get(f"{served.url}/health/live", timeout=PATIENCE_S).status_code == 200
    assert '"level":"error"' not in served.log()


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)


def say(served: Served, data: bytes) -> bytes:
    connection = connect(served)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(data)
    return all_of(connection)


def hidden(alice: Person) -> bytes:
    """A request in what should be a body; were it answered, a job would have these words."""
    body = b'{"prompt":"' + MARK + b'"}'
    return post(alice, f"Content-Length: {len(body)}") + body


def was_hidden_one_taken(served: Served) -> bool:
    found = served.house.db.reader().execute(
        "SELECT count(*) FROM job_content WHERE text LIKE ?", (f"%{MARK.decode()}%",)
    )
    return bool(found.fetchone()[0])


# --- two lengths -----------------------------------------------------------------------------------------------------

TRANSFER = (
    "Transfer-Encoding: chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: chunked\x0c",
    "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked",
    "Transfer-Encoding\n: chunked", "Transfer-Encoding:\n chunked", 'Transfer-Encoding: "chunked"', "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chunked;a=b", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked,", "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: CHUNKED", "Transfer-Encoding: chunke\u0064", "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding: cow", "Transfer-Encoding:", "\0Transfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked",
)  # fmt: skip


@pytest.mark.parametrize("header", TRANSFER, ids=ascii)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_length_and_a_transfer_encoding_hide_nothing(
    served: Served, alice: Person, header: str, is_first: bool
) -> None:
    """Whichever of the two is believed, what follows is not taken for a request of its own."""
    for length, body in ((len(CHUNKED), CHUNKED), (4, CHUNKED), (len(CHUNKED) + len(hidden(alice)), CHUNKED)):
        before = jobs(served)
        headers = [header, f"Content-Length: {length}"]
        said = say(served, post(alice, *(headers if is_first else headers[::-1])) + body + hidden(alice))
        assert len(statuses(said)) <= 1
        assert all(status < 500 or status == 501 for status in statuses(said))
        assert jobs(served) - before == statuses(said).count(202)
        assert not was_hidden_one_taken(served)


LENGTHS = (
    "Content-Length: 1 5", "Content-Length: 15\x0b", "Content-Length:\n15", "Content-Length: 15\0", "Content-Length: 1_5", "Content-Length: 15.0",
    "Content-Length: ١٥", "Content-Length: 15;", "Content-Length:", "Content-Length: 0, 15", "Content-Length: 15\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: 15", "Content-Length: 15\nContent-Length: 0", "Content-Length: 18446744073709551631",
    "Content-Length: 000000000000000000000000000000000000015\r\nContent-Length: 16", "Content-Length: -15", "Content\x00-Length: 15",
)  # fmt: skip


@pytest.mark.parametrize("header", LENGTHS, ids=ascii)
def test_a_length_that_can_be_read_two_ways_hides_nothing(served: Served, alice: Person, header: str) -> None:
    before = jobs(served)
    said = say(served, post(alice, header) + BODY + hidden(alice))
    assert len(statuses(said)) <= 1
    assert all(400 <= status < 500 for status in statuses(said))
    assert jobs(served) == before
    assert not was_hidden_one_taken(served)


CHUNKS = (
    b"0xf\r\n%s\r\n0\r\n\r\n", b"+f\r\n%s\r\n0\r\n\r\n", b"f \x0b\r\n%s\r\n0\r\n\r\n", b"f\n%s\n0\n\n", b"f\r%s\r0\r\r", b"\r\nf\r\n%s\r\n0\r\n\r\n",
    b"f\r\n%sXX0\r\n\r\n", b"f\r\n%s0\r\n\r\n", b"e\r\n%s\r\n0\r\n\r\n", b"10\r\n%s\r\n0\r\n\r\n", b"1000000000000000f\r\n%s\r\n0\r\n\r\n", b"\xef\xbc\xa6\r\n%s\r\n0\r\n\r\n",
    b"f;a\rb\r\n%s\r\n0\r\n\r\n", b"f;a\nb\r\n%s\r\n0\r\n\r\n", b"f\0\r\n%s\r\n0\r\n\r\n", b"-f\r\n%s\r\n0\r\n\r\n", b"\r\n%s\r\n0\r\n\r\n", b"f_\r\n%s\r\n0\r\n\r\n",
)  # fmt: skip


@pytest.mark.parametrize("body", CHUNKS, ids=ascii)
def test_a_chunk_that_can_be_read_two_ways_hides_nothing(served: Served, alice: Person, body: bytes) -> None:
    before = jobs(served)
    said = say(served, post(alice, "Transfer-Encoding: chunked") + body % BODY + hidden(alice))
    assert len(statuses(said)) <= 1
    assert all(status < 500 for status in statuses(said))
    assert jobs(served) - before == statuses(said).count(202)
    assert not was_hidden_one_taken(served)


TRAILERS = (
    b"Content-Length: 999",
    b"Transfer-Encoding: chunked",
    b"Authorization: Bearer x",
    b"Host: evil",
    b"Idempotency-Key: k",
)


@pytest.mark.parametrize("trailer", TRAILERS)
def test_a_trailer_is_no_header(served: Served, alice: Person, trailer: bytes) -> None:
    body = b"f\r\n" + BODY + b"\r\n0\r\n" + trailer + b"\r\n\r\n"
    said = say(served, post(alice, "Transfer-Encoding: chunked", "Connection: close") + body)
    assert statuses(said) in ([202], [400])


# --- lines and targets -----------------------------------------------------------------------------------------------

LINES = (
    b"GET /health/live HTTP/1.1", b"GET  /health/live  HTTP/1.1", b"GET /health/live HTTP/1.2", b"GET /health/live HTTP/2.0", b"GET /health/live HTTP/9",
    b"GET /health/live", b"GET", b"", b"\0", b"get /health/live HTTP/1.1", b"G\0T /health/live HTTP/1.1", b"GET /health/live\0 HTTP/1.1", b"GET /health/live HTTP/1.1 x",
    b"GET\t/health/live\tHTTP/1.1", b"GET\x0b/health/live\x0bHTTP/1.1", b"\r\n\r\nGET /health/live HTTP/1.1", b" GET /health/live HTTP/1.1", b"GET health/live HTTP/1.1",
    b"GET http://evil.example/health/live HTTP/1.1", b"GET http://x:99999/health/live HTTP/1.1", b"GET https:/// HTTP/1.1", b"GET file:///etc/passwd HTTP/1.1",
    b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT 127.0.0.1:22 HTTP/1.1", b"CONNECT / HTTP/1.1", b"TRACE / HTTP/1.1", b"TRACE /api/v1/jobs HTTP/1.1", b"TRACK / HTTP/1.1",
    b"PROPFIND / HTTP/1.1", b"DEBUG / HTTP/1.1", b"A" * 5_000 + b" / HTTP/1.1", b"GET /" + b"a" * 20_000 + b" HTTP/1.1", b"GET /?" + b"a=b&" * 4_000 + b" HTTP/1.1",
    b"GET /\xff\xfe\xc0\xae HTTP/1.1", "GET /灯台 HTTP/1.1".encode(), b"GET /%00 HTTP/1.1", b"GET /%zz HTTP/1.1", b"GET /%c0%ae%c0%ae/ HTTP/1.1", b"GET /%ff HTTP/1.1",
    b"GET /../../etc/passwd HTTP/1.1", b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1", b"GET /docs/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1", b"GET /docs/....//....//etc/passwd HTTP/1.1",
    b"GET //etc/passwd HTTP/1.1", b"GET ///health/live HTTP/1.1", b"GET /health/live/ HTTP/1.1", b"GET /health/./live HTTP/1.1", b"GET /health%2flive HTTP/1.1", b"GET /\\..\\..\\etc HTTP/1.1",
    b"GET /health/live;a=b HTTP/1.1", b"GET /health/live#x HTTP/1.1", b"GET /v1/events/%0d%0aX-Injected:%20y HTTP/1.1", b"GET /docs%23 HTTP/1.1", b"GET /schema/%2e%2e/openapi.json HTTP/1.1",
    b"POST /health/live HTTP/1.1\r\nContent-Length: 0", b"HEAD /health/live HTTP/1.1", b"GET /health/live HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade", b"GET /metrics HTTP/1.1\r\nRange: bytes=0-99999999999999999999",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13", b"GET /health/live HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0",
    b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b", b"GET /health/live HTTP/1.1\r\nHost: a b\0c", b"GET /health/live HTTP/1.1\r\nX: " + b"\xff" * 99, b"GET /health/live HTTP/1.1\r\n: empty",
    b"GET /health/live HTTP/1.1\r\nCookie: " + b"a=b; " * 1_000, b"GET /health/live HTTP/1.1\rX: y", b"GET /health/live HTTP/1.1\r\nX\x01: y", b"GET /health/live HTTP/1.1\r\nX y", b"GET /v1/usage HTTP/1.1\r\nAuthorization: Bearer \xff\xfe",
    b"GET /v1/usage HTTP/1.1\r\nAuthorization: Bearer", b"GET /v1/usage HTTP/1.1\r\nAuthorization: Basic !!!!", b"GET /v1/usage HTTP/1.1\r\nAuthorization: Bearer " + b"a" * 9_000, b"GET /v1/usage?key=%00%ff HTTP/1.1",
)  # fmt: skip


def test_a_line_that_no_client_writes_is_answered_or_closed_and_never_an_error_of_ours(served: Served) -> None:
    for line in LINES:
        said = say(served, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = statuses(said)
        assert len(found) <= 2, (line, said[:300])  # 100 before 200
        assert all(status < 500 or status in (501, 505) for status in found), (line, said[:300])
        assert b"root:" not in said
        assert b"x-injected" not in said.lower().partition(b"\r\n\r\n")[0]
        assert b"traceback" not in said.lower()


def test_what_is_asked_of_the_administrator_is_not_there_in_any_spelling(served: Served, alice: Person) -> None:
    whole = set()
    for path in (
        "/api/v1/admin/clients", "//api/v1/admin/clients", "/api/v1//admin/clients", "/api/v1/%61dmin/clients", "/api/v1/admin%2fclients", "/api/v1/./admin/clients",
        "/api/v1/jobs/../admin/clients", "/api/v1/jobs/%2e%2e/admin/clients", "/API/V1/ADMIN/clients", "/api/v1/admin/clients/", "/api/v1/admin/clients%00", "/admin/v1/orgs", "/admin/v1/orgs;x",
        "http://127.0.0.1/api/v1/admin/clients", "/api/v1/admin/clients?x", "/api/v1/admin/clients%20", "/v1/../admin/v1/orgs",
    ):  # fmt: skip
        for extra in (
            "",
            "X-Original-URL: /api/v1/admin/clients",
            "X-HTTP-Method-Override: GET",
            "X-Forwarded-For: 127.0.0.1",
        ):
            lines = [
                f"GET {path} HTTP/1.1",
                "Host: x",
                f"Authorization: Bearer {alice.key}",
                "Connection: close",
                extra,
            ]
            said = say(served, ("\r\n".join(filter(None, lines)) + "\r\n\r\n").encode())
            whole |= set(statuses(said))
            assert alice.org_id.encode() not in said
    assert whole <= {400, 404}


def test_after_an_error_nothing_more_is_taken_from_the_connection(served: Served, alice: Person) -> None:
    for wrong in (
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nX y\r\n\r\n",
        post(alice, "Content-Length: x"),
        post(alice, "Content-Length: 9" * 2),
    ):
        said = say(served, wrong + hidden(alice))
        assert len(statuses(said)) <= 1
        assert not was_hidden_one_taken(served)


def test_a_header_of_ours_cannot_be_written_by_a_client(served: Served, alice: Person) -> None:
    for name, value in (
        ("X-Request-Id", "a%0d%0aX-Injected: y"), ("X-Request-Id", "é" * 9), ("X-Request-Id", "a" * 5_000), ("X-Request-Id", "<script>"), ("Idempotency-Key", "k%0d%0aX-Injected: y"),
        ("Origin", "http://evil.example"), ("Accept", "text/html\tX"), ("X-Request-Id", "\x7f\x1b[31m"), ("traceparent", "00-" + "0" * 5_000), ("traceparent", "00-zz-zz-zz"),
    ):  # fmt: skip
        said = say(served, (f"GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {alice.key}\r\n{name}: {value}\r\n\r\n").encode())  # fmt: skip
        head = said.partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nx-injected" not in head
        assert b"access-control-allow-origin" not in head
        assert b"\x1b" not in head
        assert all(status < 500 for status in statuses(said))


# --- whose bytes are whose -------------------------------------------------------------------------------------------


def test_requests_in_pieces_and_in_one_piece_stay_with_who_sent_them(served: Served) -> None:
    """Eight clients, each of an organisation and with words of its own, cut where chance wills, some of them broken."""
    people = [enrol(served.house, f"org-{number}", "k") for number in range(8)]
    taken = [0] * len(people)

    def talk(number: int) -> None:
        dice = random.Random(number)
        for turn in range(12):
            text = f"words of {number}, {turn}: " + f"{number}-{number}-" * dice.choice((1, 50, 3_000))
            body = b'{"prompt":"' + text.encode() + b'"}'
            whole = post(people[number], f"Content-Length: {len(body)}", "Connection: close") + body
            if turn % 4 == 3:
                whole = whole[: dice.randrange(len(whole))]  # and hung up
            with connect(served) as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
                at = 0
                while at < len(whole):
                    size = dice.choice((1, 7, 100, 5_000, 70_000))
                    connection.sendall(whole[at : at + size])
                    at += size
                if turn % 4 == 3:
                    continue
                taken[number] += statuses(all_of(connection)) == [202]

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(len(people))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = served.house.db.reader().execute(
        "SELECT job.org_id, job_content.text FROM job JOIN job_content ON job_content.job_id = job.id"
        " WHERE job_content.text LIKE 'words of %'"
    )
    found = [(row[0], str(row[1])) for row in rows]
    for number, person in enumerate(people):
        own = [text for org_id, text in found if org_id == person.org_id]
        assert all(text.startswith(f"words of {number}, ") for text in own)
        assert all(set(text.partition(": ")[2]) <= {str(number), "-"} for text in own)
        assert len(own) == taken[number]
    assert sum(taken) >= 8


def test_slow_bodies_on_many_connections_leave_room_for_others(served: Served, alice: Person) -> None:
    begun = [connect(served) for _ in range(200)]
    for number, connection in enumerate(begun):
        path = ("/api/v1/moderate/prompt", "/api/v1/moderate/image", "/v1/moderations", "/api/v1/webhook/register")[
            number % 4
        ]
        connection.sendall(post(alice, "Content-Length: 400", path=path) + b" " * (number % 50))
    answers = [
        httpx.get(f"{served.url}/api/v1/jobs", headers=alice.headers, timeout=PATIENCE_S).status_code for _ in range(20)
    ]
    assert answers == [200] * 20
    ended = [statuses(all_of(connection)) for connection in begun]
    assert all(one in ([400], [408], [415], []) for one in ended), ended
    wait(lambda: not list(served.house.settings.media_dir.iterdir()))
