"""A hub on the loopback: files by path, with ranges, declared digests, cuts and refusals. Real sockets, real HTTP."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """`files` are served by path. `asked` remembers what came: (method, path, range)."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        """Further headers by path."""
        self.moved: dict[str, str] = {}
        self.refused: dict[str, int] = {}
        self.cut_after: list[int] = []
        """The next answers end after so many bytes of their body, one after the other."""
        self.ranges = True
        self.asked: list[tuple[str, str, str]] = []
        self.address = ""

    def keep(
        self, repository: str, name: str, content: bytes, *, commit: str = "c0ffee", revision: str = "main"
    ) -> None:
        """A large file as the hub keeps it: its sha256 stands in a header of the answer."""
        said = {"x-linked-etag": f'"{hashlib.sha256(content).hexdigest()}"', "x-linked-size": str(len(content))}
        for each in (revision, commit):
            path = f"/{repository}/resolve/{each}/{name}"
            self.files[path] = content
            self.headers[path] = {**said, "x-repo-commit": commit}

    def bodies(self) -> list[str]:
        """The ranges asked for by GET, "" for a whole file."""
        return [wanted for method, _, wanted in self.asked if method == "GET"]


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("range", "")
            hub.asked.append((self.command, path, wanted))
            if path in hub.moved:
                return self._send(307, b"", {"location": hub.moved[path]}, body=body)
            if path in hub.refused or path not in hub.files:
                return self._send(hub.refused.get(path, 404), b"", {}, body=body)
            content, extra = hub.files[path], dict(hub.headers.get(path, {}))
            start = int(re.sub(r"\D", "", wanted) or 0) if hub.ranges else 0
            if not (wanted and hub.ranges):
                return self._send(200, content, extra, body=body)
            if start >= len(content):
                return self._send(416, b"", {"content-range": f"bytes */{len(content)}"}, body=body)
            extra["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, content[start:], extra, body=body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            cut = hub.cut_after.pop(0) if hub.cut_after else None
            self.wfile.write(content[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
