"""Pleroma's NsfwApiPolicy: it asks for BASE/?url=ADDRESS with the address as it is, and reads the score. So the request
is written here byte by byte. Over loopback against the running server."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.accounts import toggles
from appliance.demo import MEDIA
from tests.cast import Person, enrol
from tests.surfaces import WithModels
from tests.test_api_server import Served

PHOTOGRAPH = sorted(MEDIA.glob("*.jpg"))[0].read_bytes()


class Media(http.server.ThreadingHTTPServer):
    """Another instance's pictures; it keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Give)
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def at(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Give(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        self.send_response(404 if "missing" in self.path else 200)
        content = b"" if "missing" in self.path else b"just words" if "words" in self.path else PHOTOGRAPH
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def media() -> Iterator[Media]:
    server = Media()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def alice(models_served: WithModels) -> Person:
    return enrol(models_served.house, "pleroma's", "alice", granted=("moderate:image",))


def ask(served: Served, target: str) -> tuple[int, dict[str, Any]]:
    """GET this target, byte for byte."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as conn:
        conn.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: conn.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.weights
def test_an_address_is_taken_as_it_is_with_its_own_query(
    models_served: WithModels, alice: Person, media: Media
) -> None:
    for path in ("/media/a.jpg", "/media/a.jpg?name=a&width=100&url=b", "/media/a%20b.jpg?x=%26"):
        for slash in ("/", ""):
            url = media.at(path)
            status, told = ask(models_served, f"/compat/pleroma/{alice.key}{slash}?url={url}")
            assert status == 200, told
            assert told["url"] == url
            assert 0 <= told["score"] < 0.5
            assert media.asked[-1] == path


@pytest.mark.weights
def test_an_encoded_address_is_understood_too(models_served: WithModels, alice: Person, media: Media) -> None:
    encoded = media.at("/media/b.jpg").replace(":", "%3A").replace("/", "%2F")
    assert ask(models_served, f"/compat/pleroma/{alice.key}/?url={encoded}")[0] == 200
    assert media.asked[-1] == "/media/b.jpg"


@pytest.mark.weights
def test_what_has_no_score_is_an_error_and_never_a_zero(models_served: WithModels, alice: Person, media: Media) -> None:
    base = f"/compat/pleroma/{alice.key}/"
    assert ask(models_served, f"{base}?url={media.at('/missing.jpg')}")[0] == 400
    assert ask(models_served, f"{base}?url={media.at('/words.jpg')}")[0] == 400
    for bad in ("", "?url=", "?other=1", "?url=ftp://a.example/a.png", "?url=/etc/passwd", "?curl=http://a.example/a"):
        assert ask(models_served, base + bad)[0] == 400
    assert ask(models_served, f"{base}?url=http://10.0.0.1/a.png")[0] == 400
    assert ask(models_served, f"{base}?url=http://169.254.169.254/latest")[0] == 400
    assert ask(models_served, f"/compat/pleroma/nobody/?url={media.at('/a.jpg')}")[0] == 401


@pytest.mark.weights
def test_with_its_check_switched_off_there_is_no_score(models_served: WithModels, media: Media) -> None:
    dora = enrol(models_served.house, "pleroma's dora", "dora")
    models_served.house.db.write(lambda conn: toggles.replace(conn, dora.org_id, {"nsfw": False}, actor="a test"))
    assert ask(models_served, f"/compat/pleroma/{dora.key}/?url={media.at('/a.jpg')}")[0] == 503
