"""A small model process that answers texts from a table, over a real socket: for tests of who asks it, when, and what
follows when it does not answer."""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import msgspec

from appliance.inference.wire import Answer, Problem, ReadRequest, Reply

HEADS = ("harassment", "hate", "self-harm", "sexual", "violence", "toxicity", "prohibited")


class Reader(ThreadingMixIn, UnixStreamServer):
    """Heads say 0.01 of everything, and of a text with a word of `heads` what stands there; the judge likewise."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Answering)
        self.path = path
        self.asked: list[ReadRequest] = []
        self.heads: dict[str, dict[str, float]] = {}
        self.judge: dict[str, float] = {}
        self.problem: Problem | None = None
        self.wait_s: Callable[[ReadRequest], float] = lambda _: 0.0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def judged(self) -> list[ReadRequest]:
        return [one for one in self.asked if one.judge]

    @property
    def read(self) -> list[ReadRequest]:
        return [one for one in self.asked if one.models]

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.path.unlink(missing_ok=True)

    def answers(self, request: ReadRequest) -> Reply:
        return Reply([self._of(request, text) for text in request.texts])

    def _of(self, request: ReadRequest, text: str) -> dict[str, Answer]:
        if self.problem is not None:
            return {name: Answer(problem=self.problem) for name in [*request.models, *filter(None, [request.judge])]}
        found = {name: Answer(dict.fromkeys(HEADS, 0.01) | self._row(self.heads, text, {})) for name in request.models}
        if request.judge:
            found[request.judge] = Answer({"prohibited": self._row(self.judge, text, 0.02)})
        return found

    @staticmethod
    def _row(table: Mapping[str, Any], text: str, default: Any) -> Any:
        return next((said for word, said in table.items() if word in text), default)


class Hung:
    """A socket that takes connections and never says a word."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(128)

    def close(self) -> None:
        self._socket.close()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Reader

    def do_POST(self) -> None:
        request = msgspec.msgpack.decode(self.rfile.read(int(self.headers["content-length"])), type=ReadRequest)
        self.server.asked.append(request)
        time.sleep(self.server.wait_s(request))
        body = msgspec.msgpack.encode(self.server.answers(request))
        try:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # who asked did not wait

    def address_string(self) -> str:
        return f"pid {os.getpid()}"

    def log_message(self, *_: object) -> None:
        return None
