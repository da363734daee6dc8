"""The processes of the house as far as their sockets go: small servers that answer what they are told to."""

import contextlib
import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from appliance.heartbeat import Heart
from appliance.inference.wire import ModelState, ModelStatus, Status
from appliance.settings import Settings
from appliance.tasks import LANES


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        conn, _ = super().get_request()
        return conn, ("", 0)  # what a handler takes for the client's address


@contextmanager
def served(path: Path, answers: dict[str, bytes]) -> Iterator[None]:
    """Somebody at this socket who answers these paths with 200, and any other with 404."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = answers.get(self.path, b"")
            self.send_response(200 if self.path in answers else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return None

    path.parent.mkdir(parents=True, exist_ok=True)
    with _Unix(str(path), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            path.unlink(missing_ok=True)


def api(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """The API's operators' socket; it is live."""
    return served(settings.admin_socket, {"/health/live": b'{"status":"ok"}'})


def models(settings: Settings, status: Status) -> contextlib.AbstractContextManager[None]:
    """A model process that says this of itself."""
    return served(settings.inference_socket, {"/status": msgspec.msgpack.encode(status)})


@contextmanager
def worker(settings: Settings) -> Iterator[None]:
    """Somebody at every lane's doorbell."""
    with contextlib.ExitStack() as stack:
        for lane in LANES:
            ear = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            ear.bind(str(settings.run_dir / f"{lane}.sock"))
        yield


@contextmanager
def everybody(settings: Settings, said: Status | None = None) -> Iterator[None]:
    """All three, and the worker's heart has just beaten."""
    Heart(settings.run_dir, 16).beat()
    with api(settings), worker(settings), models(settings, said or status()):
        yield


def status(*, device: str = "cpu", wanted: str | None = None, failed: str = "") -> Status:
    """Of the starter models, on `device` where `wanted` was asked for; `failed` is a model that does not open."""
    names = {
        "opennsfw": ("image-classification", 73, 4.1, 9.0),
        "nsfwjs": ("image-classification", 40, 6.2, 14.0),
        "image-safety-s": ("image-classification", 23, 3.3, 8.1),
        "faces-age": ("face-age", 24, 5.0, 12.4),
        "text-heads": ("text-heads", 127, 2.1, 6.5),
    }
    found = [
        ModelStatus(
            name=name,
            task=task,
            state=ModelState.FAILED if name == failed else ModelState.READY,
            device="" if name == failed else device,
            wanted_device="" if name == failed else wanted or device,
            digest="864bb37bf886",
            memory_bytes=0 if name == failed else megabytes * 1_000_000,
            answered=0 if name == failed else 1200,
            p50_ms=p50,
            p99_ms=p99,
            last_error="its sha256 differs" if name == failed else None,
        )
        for name, (task, megabytes, p50, p99) in names.items()
    ]
    why = "onnxruntime's CUDA part cannot be loaded (libcudnn.so.9: cannot open shared object file)"
    lame = [f"{one.name}: cuda asked for, not used, because {why}" for one in found if one.device != one.wanted_device]
    broken = [f"{failed}: its sha256 differs"] if failed else []
    return Status(models=found, device=device, degraded=[*lame, *broken], rss_bytes=1, pid=1, uptime_s=7260.0)
