"""The door to the network against addresses and servers that mean no good: names that change their answer, in a real
resolver's eyes; addresses in every dress; servers that lie about what they send or never end."""

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance.errors import AddressRefused, MediaTooLarge, MediaUnreachable
from appliance.outbound import Outbound
from tests.cast import Person
from tests.hostile import rebinding
from tests.test_outbound import LOOPBACK, Server, ok, say

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


# --- names, in a network of their own --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "tests.hostile.rebinding"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == rebinding.NO_NETWORK:
        pytest.skip("this kernel gives no network of one's own")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_private_server_is_ever_asked(seen: dict[str, Any]) -> None:
    """But for the one that an operator allowed, once."""
    assert seen["connections"].pop(rebinding.PUBLIC) > 10
    assert seen["connections"] == {rebinding.INNER: 1}
    assert seen["found"]["fetch inside.example, allowed"] == "done: 5"


def test_a_public_name_is_fetched_and_posted_to(seen: dict[str, Any]) -> None:
    assert seen["found"]["fetch public.example"] == "done: 5"
    assert seen["found"]["post public.example"] == "done: 200"


@pytest.mark.parametrize("name", [name for name in rebinding.NAMES if name != "public.example"])
@pytest.mark.parametrize("how", ["fetch", "post"])
def test_a_name_that_leads_inside_is_refused_whatever_it_answered_before(
    seen: dict[str, Any], name: str, how: str
) -> None:
    if (how, name) == ("fetch", "rebinds-later.example"):  # asked once when it was checked, and once more: still public
        assert seen["found"][f"{how} {name}"] == "done: 5"
        return
    assert seen["found"][f"{how} {name}"].startswith("AddressRefused: leads to a private")


def test_a_check_of_a_name_that_rebinds_passed_so_that_what_follows_was_needed(seen: dict[str, Any]) -> None:
    assert seen["found"]["check rebinds.example"] == "done: None"
    assert seen["questions"]["rebinds.example"] >= 3


@pytest.mark.parametrize("target", rebinding.REDIRECTS)
def test_a_redirect_is_followed_nowhere_inside(seen: dict[str, Any], target: str) -> None:
    said = seen["found"][f"fetch, redirected to {target}"]
    assert said.startswith("AddressRefused") or (target == "http:/127.0.0.1/" and said == "done: 5")  # a path, there
    assert seen["found"][f"post, redirected to {target}"] == "done: 302"


# ruff: noqa: E501  # tables
# --- addresses in every dress ----------------------------------------------------------------------------------------

INSIDE = (
    "http://0x7f.0x0.0x0.0x1/", "http://0x7F000001/", "http://017700000001/", "http://127.0x1/", "http://0/", "http://127.000.000.001/",
    "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://１２７.０.０.１/", "http://127.0.0.1。/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "http://LOCALHOST/",
    "http://[0:0:0:0:0:0:0:1]/", "http://[::127.0.0.1]/", "http://[::ffff:0:127.0.0.1]/", "http://[0:0:0:0:0:ffff:7f00:0001]/",
    "http://[fe80::1%25lo]/", "http://[fe80::1%lo]/", "http://[::1%251]/", "http://[2002:a00:1::]/", "http://[64:ff9b::a00:1]/",
    "http://[64:ff9b:1:a00:1::]/", "http://[2001:0:53aa:64c:0:0:80ff:fffe]/", "http://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/",
    "http://169.254.169.254:80/", "http://169.254.43518/", "http://0251.0376.0251.0376/", "http://10.0.0.1:443/", "http://10.65793/",
    "https://192.168.1.1/", "https://[fc00::1]:8443/", "http://100.127.255.254/", "http://198.19.255.255/", "http://239.255.255.250:1900/",
)  # fmt: skip
CROOKED = (
    "http://127.0.0.1\t/", "http://127.0.0.1%00.example.com/", "http://exa%6dple.com@127.0.0.1/", "http://a:b@[::1]/", "http://[::1",
    "http://[::1]x/", "http://[127.0.0.1]/", "http://example.com:0x50/", "http://example.com:-1/", "http://example.com:65536/",
    "http://example.com:80:80/", "http://example.com\\.127.0.0.1/", "http:\\\\127.0.0.1/", "http://\u202e1.0.0.721/", "http://.../",
    "http://\u200b/", "http://xn--/", "http://" + "a" * 64 + ".com/", "http://" + "a." * 200, "http://a..b/", "gopher://127.0.0.1:25/",
    "dict://127.0.0.1:11211/", "file://127.0.0.1/etc/passwd", "ldap://127.0.0.1/", "data:image/png;base64,AA==", "unix:///run/x.sock",
    "http+unix://%2Frun%2Fx.sock/", "jar:http://127.0.0.1!/", "HTTP://", "http:example.com", "http://?", "http://#", "http://@/",
)  # fmt: skip


@pytest.mark.parametrize("url", [*INSIDE, *CROOKED], ids=ascii)
def test_no_dress_leads_inside(url: str) -> None:
    """Most are refused by the address itself; where one is only a name, nobody knows it here."""
    with pytest.raises((AddressRefused, MediaUnreachable)) as caught:
        Outbound().check(url)
    if url in INSIDE and not isinstance(caught.value, AddressRefused):
        assert "cannot be resolved" in caught.value.message


def test_no_route_takes_an_address_that_leads_inside(client: TestClient[Any], alice: Person) -> None:
    """Media, and webhooks of a job and of an organisation: refused as it is submitted, or as the socket opens."""
    for url in (*INSIDE, *CROOKED):
        for path, body in (
            ("/api/v1/moderate/image", {"image_url": url}),
            ("/api/v1/webhook/register", {"url": url}),
            ("/api/v1/moderate/prompt", {"prompt": "hi", "webhook_url": url}),
        ):
            answer = client.post(path, headers=alice.headers, json=body)
            if answer.status_code >= 300:
                assert answer.status_code in (400, 415, 422), (url, answer.text)
            else:  # a name that is not known now, and may be later: looked at again as the socket opens
                with pytest.raises((AddressRefused, MediaUnreachable)):
                    Outbound().post(url, b"", {}, 5)


# --- servers that lie ------------------------------------------------------------------------------------------------


def refused(
    server: Server, tmp_path: Path, most: int = 100_000, timeout_s: float = 20
) -> MediaUnreachable | MediaTooLarge:
    with pytest.raises((MediaUnreachable, MediaTooLarge)) as caught:
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", most, timeout_s)
    assert not (tmp_path / "f").exists()
    return caught.value


HEAD = b"HTTP/1.1 200 OK\r\n"
LIES = {
    "a header of a megabyte": HEAD + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "a hundred thousand headers": HEAD + b"X-A: a\r\n" * 100_000 + b"Content-Length: 1\r\n\r\nx",
    "headers folded": HEAD + b"X-A: a\r\n b\r\n\tc\r\nContent-Length: x\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 500000\r\n\r\nhello",
    "a length that is none": HEAD + b"Content-Length: 0x10\r\n\r\n0123456789abcdef",
    "a length below nought": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "a length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "a chunk without end": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\nhello",
    "a chunk of nonsense": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a chunk's extension without end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1_000_000,
    "an encoding unasked": HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10_000_000)),
    "an encoding in two words": HEAD + b"Content-Encoding: gzip, identity\r\n\r\n" + gzip.compress(bytes(9_999)),
    "a transfer in gzip": HEAD + b"Transfer-Encoding: gzip\r\nContent-Length: 5000000\r\n\r\n" + gzip.compress(b"x"),
    "informed for ever": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50_000,
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + b"x" * 99,
    "a status of its own": b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "HTTP/2 by surprise": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
    "nothing at all": b"",
    "a partial answer": b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nhello",
    "too much announced": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "a header of NULs": HEAD + b"X-\0: \0\r\n\r\n",
    "a redirect of a megabyte": b"HTTP/1.1 302 Go\r\nLocation: http://" + b"a" * 60_000 + b"/\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_a_clear_failure_and_leaves_no_file(server: Server, tmp_path: Path, lie: str) -> None:
    server.scripts = [say(LIES[lie])]
    try:
        message = refused(server, tmp_path).message
    except AddressRefused as failure:
        message = failure.message
    assert len(message) < 300
    assert "hello" not in message


@pytest.mark.parametrize("lie", LIES)
def test_a_webhooks_receiver_that_lies_is_an_answer_or_a_failure(server: Server, lie: str) -> None:
    server.scripts = [say(LIES[lie])]
    said: str | int
    try:
        said = Outbound(LOOPBACK).post(server.url(), b"{}", {}, 20).status
    except MediaUnreachable as failure:
        said = failure.message
    assert 100 <= said <= 999 if isinstance(said, int) else len(said) < 300


def test_a_body_in_many_small_chunks_counts_as_what_it_is(server: Server, tmp_path: Path) -> None:
    chunk = b"1\r\nx\r\n"
    server.scripts = [say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 101_000 + b"0\r\n\r\n")]
    assert isinstance(refused(server, tmp_path), MediaTooLarge)


@pytest.mark.parametrize("part", [HEAD[:9], HEAD + b"X-A: ", HEAD + b"Content-Length: 99999\r\n\r\n"])
def test_who_dribbles_is_left_when_the_time_is_over(server: Server, tmp_path: Path, part: bytes) -> None:
    def dribble(conn: socket.socket) -> None:
        conn.sendall(part)
        for _ in range(2_000):
            conn.sendall(b"x")
            time.sleep(0.01)

    server.scripts = [dribble, dribble]
    assert not refused(server, tmp_path, timeout_s=0.5).permanent
    if b"\r\n\r\n" not in part:  # a receiver's status is known by then, and its body of no interest
        with pytest.raises(MediaUnreachable):
            Outbound(LOOPBACK).post(server.url(), b"{}", {}, 0.5)


def test_a_receiver_whose_answer_never_ends_is_left_with_what_it_said(server: Server) -> None:
    def endless(conn: socket.socket) -> None:
        conn.sendall(HEAD + b"\r\n")
        while True:
            conn.sendall(b"x" * 65_536)

    server.scripts = [endless]
    assert Outbound(LOOPBACK).post(server.url(), b"{}", {}, 20).status == 200


def test_what_is_posted_cannot_carry_another_request(server: Server) -> None:
    """Neither an address nor a header of ours breaks out of its line."""
    with pytest.raises(AddressRefused):
        Outbound(LOOPBACK).post(server.url("/a HTTP/1.1\r\nX: y\r\n\r\n"), b"", {}, 5)
    server.scripts = [ok(b"")]
    Outbound(LOOPBACK).post(server.url("/%0d%0aX:%20y"), b"", {}, 5)
    assert server.requests[0].split(b"\r\n")[0] == b"POST /%0d%0aX:%20y HTTP/1.1"
