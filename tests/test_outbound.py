"""The one door to the network: what it opens, what it refuses, and that nothing outlives its time."""

import contextlib
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import outbound
from appliance.errors import AddressRefused, MediaTooLarge, MediaUnreachable
from appliance.outbound import Outbound

LOOPBACK = ["127.0.0.0/8"]

Script = Callable[[socket.socket], None]


class Server:
    """Answers each connection with the next script; counts connections."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.scripts: list[Script] = []
        self.requests: list[bytes] = []
        self._open: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def url(self, path: str = "/a.jpg") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self._open.append(conn)
            script = self.scripts.pop(0)
            threading.Thread(target=self._answer, args=(conn, script), daemon=True).start()

    def _answer(self, conn: socket.socket, script: Script) -> None:
        try:
            self.requests.append(conn.recv(65536))
            script(conn)
        except OSError:
            pass
        finally:
            conn.close()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for conn in self._open:
            conn.close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def say(text: bytes) -> Script:
    return lambda conn: conn.sendall(text)


def ok(body: bytes, extra: bytes = b"") -> Script:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n%s\r\n" % (len(body), extra)
    return say(head + body)


def drip(conn: socket.socket) -> None:
    conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(1000):
        conn.sendall(b"x")
        time.sleep(0.02)


def test_a_file_is_streamed_to_disk(server: Server, tmp_path: Path) -> None:
    server.scripts = [ok(b"x" * 100_000)]
    fetched = Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 200_000, 5)
    assert (fetched.size_bytes, fetched.content_type) == (100_000, "image/jpeg")
    assert (tmp_path / "f").read_bytes() == b"x" * 100_000
    assert b"accept-encoding: identity" in server.requests[0].lower()


def test_a_redirect_is_followed_and_its_target_checked(server: Server, tmp_path: Path) -> None:
    server.scripts = [say(b"HTTP/1.1 302 Found\r\nLocation: /b.jpg\r\nContent-Length: 0\r\n\r\n"), ok(b"there")]
    assert Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 100, 5).url == server.url("/b.jpg")
    server.scripts = [say(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n")]
    with pytest.raises(AddressRefused, match="private"):
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 100, 5)


def test_redirects_without_end_end(server: Server, tmp_path: Path) -> None:
    server.scripts = [say(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")] * 6
    with pytest.raises(MediaUnreachable, match="more than 5 redirects"):
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 100, 5)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x" * 101),
        lambda conn: conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101),  # no length announced
    ],
)
def test_a_file_over_the_limit_leaves_nothing(server: Server, tmp_path: Path, answer: Script) -> None:
    server.scripts = [answer]
    with pytest.raises(MediaTooLarge):
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 100, 5)
    assert not (tmp_path / "f").exists()


def test_an_endless_body_is_cut_at_the_limit(server: Server, tmp_path: Path) -> None:
    def endless(conn: socket.socket) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            conn.sendall(b"x" * 65536)

    server.scripts = [endless]
    with pytest.raises(MediaTooLarge):
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 1_000_000, 20)


@pytest.mark.parametrize("script", [drip, lambda conn: time.sleep(3), lambda conn: conn.sendall(b"HTTP/1.1 2")])
def test_a_slow_host_is_left_when_the_time_is_over_and_may_be_asked_again(
    server: Server, tmp_path: Path, script: Script
) -> None:
    server.scripts = [script]
    with pytest.raises(MediaUnreachable) as caught:
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 1000, 0.3)
    assert not caught.value.permanent
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(("status", "permanent"), [(404, True), (410, True), (403, True), (500, False), (503, False)])
def test_an_answer_that_is_no_file_says_whether_to_ask_again(
    server: Server, tmp_path: Path, status: int, permanent: bool
) -> None:
    server.scripts = [say(b"HTTP/1.1 %d Nope\r\nContent-Length: 0\r\n\r\n" % status)]
    with pytest.raises(MediaUnreachable, match=str(status)) as caught:
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 1000, 5)
    assert caught.value.permanent is permanent


def test_a_body_shorter_than_announced_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.scripts = [say(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort")]
    with pytest.raises(MediaUnreachable):
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 1000, 5)
    assert not (tmp_path / "f").exists()


def test_a_compressed_body_that_nobody_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    server.scripts = [ok(b"x", b"Content-Encoding: gzip\r\n")]
    with pytest.raises(MediaUnreachable, match="compressed"):
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 1000, 5)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://localhost./",
        "http://2130706433/",  # 127.0.0.1 as one number
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",  # CGNAT
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://240.0.0.1/",
        "http://192.0.2.1/",  # documentation
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a00:1]/",
        "http://[::7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
        "http://[2001:db8::1]/",
        "http://[2001:20::1]/",  # ORCHID
        "http://[3fff::1]/",  # documentation, since 2024
        "http://[100::1]/",  # discard
        "http://[4000::1]/",  # not given out
        "http://192.88.99.1/",  # 6to4 relays
        "http://192.0.0.9/",
        "http://198.18.0.1/",
        "http://255.255.255.255/",
    ],
)
def test_an_address_that_is_not_public_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused, match="private"):
        Outbound().check(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a",
        "file:///etc/passwd",
        "//example.com/a",
        "http:///a",
        "http://user:secret@example.com/",
        "http://example.com:99999/",
        "http://exa mple.com/",
        "http://example.com\\@10.0.0.1/",
        "http://example.com/\r\nHost: other",
        "http://[::1/",
        "http://" + "a" * 2048,
        "javascript:alert(1)",
        "",
    ],
)
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        Outbound(LOOPBACK).check(url)
    assert "secret" not in caught.value.message


def test_public_addresses_are_allowed_in_any_clothes() -> None:
    for text in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert outbound.is_allowed(ipaddress.ip_address(text)), text


def test_the_operator_can_allow_a_private_network_and_only_that() -> None:
    out = Outbound(["10.2.0.0/16"])
    out.check("http://10.2.3.4/")
    with pytest.raises(AddressRefused):
        out.check("http://10.3.3.4/")


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, [["8.8.8.8", "10.0.0.1"]])
    with pytest.raises(AddressRefused):
        Outbound().check("http://mixed.example/")


def test_a_name_that_changes_its_answer_after_the_check_is_caught_as_the_socket_opens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _answers(monkeypatch, [["8.8.8.8"], ["127.0.0.1"]])
    out = Outbound()
    out.check("http://rebinding.example/")
    with pytest.raises(AddressRefused):
        out.fetch("http://rebinding.example/", tmp_path / "f", 100, 2)


def test_the_socket_is_opened_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path
) -> None:
    asked = _answers(monkeypatch, [["127.0.0.1"]])
    server.scripts = [ok(b"here")]
    Outbound(LOOPBACK).fetch(f"http://name.example:{server.port}/", tmp_path / "f", 100, 5)
    assert asked == ["name.example"]  # resolved once: nothing resolves it again between check and connect
    assert f"host: name.example:{server.port}".encode() in server.requests[0].lower()


def test_a_name_that_nobody_knows_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, [])
    with pytest.raises(MediaUnreachable, match="cannot be resolved") as caught:
        Outbound().check("http://nobody.example/")
    assert not caught.value.permanent


def test_a_resolver_that_hangs_does_not_outlive_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hung = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: hung.wait(30) and [])
    with pytest.raises(MediaUnreachable) as caught:
        Outbound().fetch("http://slow.example/", tmp_path / "f", 100, 0.2)
    hung.set()
    assert not caught.value.permanent


def test_what_is_not_http_is_not_quoted(server: Server, tmp_path: Path) -> None:
    server.scripts = [say(b"secret words of the other side\r\n\r\n")]
    with pytest.raises(MediaUnreachable) as caught:
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 100, 5)
    assert "secret" not in caught.value.message


def test_a_redirect_to_nowhere_is_a_failure_like_any_other(server: Server, tmp_path: Path) -> None:
    server.scripts = [say(b"HTTP/1.1 302 Go\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n")]
    with pytest.raises(MediaUnreachable, match="nowhere"):
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 100, 5)


def test_a_download_that_cannot_be_stored_may_be_tried_again(server: Server, tmp_path: Path) -> None:
    server.scripts = [ok(b"here")]
    with pytest.raises(MediaUnreachable, match="stored") as caught:
        Outbound(LOOPBACK).fetch(server.url(), tmp_path / "no" / "such" / "f", 100, 5)
    assert not caught.value.permanent


def test_tls_speaks_the_name_of_the_url_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("making a certificate needs the openssl command")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=name.example"
    made += f" -addext subjectAltName=DNS:name.example -keyout {key} -out {certificate}"
    subprocess.run(made.split(), check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(3):
            conn, _ = listener.accept()
            with conn, contextlib.suppress(OSError), tls.wrap_socket(conn, server_side=True) as wrapped:
                wrapped.recv(65536)
                ok(b"here")(wrapped)

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    _answers(monkeypatch, [["127.0.0.1"]] * 3)
    with pytest.raises(MediaUnreachable, match="certificate"):  # nobody vouches for it
        Outbound(LOOPBACK).fetch(f"https://name.example:{port}/", tmp_path / "f", 100, 5)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Outbound(LOOPBACK).fetch(f"https://name.example:{port}/", tmp_path / "f", 100, 5).size_bytes == 4
    with pytest.raises(MediaUnreachable, match="certificate"):  # of another name
        Outbound(LOOPBACK).fetch(f"https://other.example:{port}/", tmp_path / "f", 100, 5)
    thread.join()
    listener.close()
    assert names == ["name.example", "name.example", "other.example"]


def test_a_post_gives_the_answer_and_follows_no_redirect(server: Server) -> None:
    server.scripts = [
        say(b"HTTP/1.1 307 Go\r\nLocation: http://10.0.0.1/\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    ]
    answer = Outbound(LOOPBACK).post(server.url(), b"{}", {"Content-Type": "application/json"}, 5)
    assert (answer.status, answer.headers["retry-after"]) == (307, "7")
    assert server.requests[0].startswith(b"POST /a.jpg HTTP/1.1")


def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.scripts = [ok(b"direct")]
    assert Outbound(LOOPBACK).fetch(server.url(), tmp_path / "f", 100, 5).size_bytes == 6


def _answers(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> list[str]:
    """Let names resolve to each list in turn; returns the names asked."""
    asked: list[str] = []
    left = list(answers)
    really = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host[0].isdigit():  # a literal: what connecting to a checked address asks
            return list(really(host, port, *args, **kwargs))
        asked.append(host)
        if not left:
            raise socket.gaierror("unknown")
        found = left.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(outbound.socket, "getaddrinfo", resolve)
    return asked
