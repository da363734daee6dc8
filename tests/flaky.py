"""A server that answers by a script: each request takes the next line of it, and is written down."""

import http.server
import socket
import struct
import threading
from typing import Any, Literal, Self

import msgspec


class Reply(msgspec.Struct, frozen=True):
    status: int = 200
    body: Any = None
    headers: dict[str, str] = {}
    events: tuple[str, ...] = ()
    """Of a stream, as they stand on the wire; then the connection breaks."""


Line = Reply | Literal["reset", "hang up"]
"""A reply; or the connection is reset before anything is read, or closed without a word once all is read."""


class Asked(msgspec.Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Flaky(http.server.ThreadingHTTPServer):
    def __init__(self, *script: Line) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.script = list(script)
        self.asked: list[Asked] = []
        self._serving = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        return None  # connections break here on purpose

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._serving.join()
        self.server_close()


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server: Any = self.server
        body = self._body()
        asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        server.asked.append(asked)
        line: Line = server.script.pop(0)
        self.close_connection = True
        if line == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif isinstance(line, Reply):
            self._reply(line)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _reply(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("connection", "close")
        if reply.events:
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write("".join(reply.events).encode())
            return
        said = b"" if reply.body is None else msgspec.json.encode(reply.body)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        return None
