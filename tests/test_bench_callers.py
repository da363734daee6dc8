"""The callers that the bench of decisions asks with."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from appliance.bench import callers
from appliance.bench.callers import Load
from appliance.errors import CustomhouseError


@contextmanager
def served(status: int) -> Generator[tuple[int, list[str]]]:
    """A port that answers so, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_two_requests_are_alike_and_each_answer_is_counted_once() -> None:
    with served(200) as (port, asked):
        rate = callers.rate(Load(port, b"GET /" + callers.NUMBER + b" HTTP/1.1\r\nHost: x\r\n\r\n", 3, 0.3, 70))
    assert rate > 0
    assert len(set(asked)) == len(asked) >= 3
    assert min(asked) == "/00000071"
    assert rate * 0.3 <= len(asked)


def test_an_answer_that_was_not_wanted_ends_the_bench_in_words() -> None:
    with served(503) as (port, _), pytest.raises(CustomhouseError, match="503"):
        callers.rate(Load(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1, 5.0))
