"""`customhouse serve`: the application on Granian. The port is ours alone, or was handed to us, and whoever started us
hears that we are ready, and that we live."""

import _thread
import logging
import os
import resource
import select
import socket
import ssl
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols, TaskImpl
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer
from granian.server.mp import WorkerProcess

from appliance import handed, notify
from appliance.api import life
from appliance.errors import Misconfigured
from appliance.house import make_folder
from appliance.settings import Settings

if TYPE_CHECKING:
    from litestar import Litestar

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# Granian's servers are half annotated.

log = logging.getLogger(__name__)

_HEADER_BYTES = (
    65_536  # of one request, or a little more; with the server's own 417 KB, 3,000 connections could hold 1.2 GB
)
_BACKLOG = 4096  # connections that wait to be taken; the kernel allows no more by default
_OWN_FILES = 512  # descriptors beside the connections': databases, a thread each, sockets, uploads being written

_FINISH_S = 15  # requests in hand may end; streams are cut
_BEAT_S = 5.0
_SHARE = 4  # beats in the time that systemd waits for one of ours: one may be late


def main(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is in hand. Raises Misconfigured when it cannot listen."""
    listener = _handed() or handed.bound(settings.server.host, settings.server.port)
    if settings.server.workers > 1:
        _count_together(settings.run_dir / "metrics")
    ear, mouth = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(mouth, False)
    awaited_s = notify.watchdog_s()
    lived = life.Life(listener.fileno(), mouth, min(_BEAT_S, (awaited_s or _BEAT_S) / _SHARE))
    certificate, key = _certificate(settings.server.tls_certificate, settings.server.tls_key)
    server = _Server(
        listener,
        _Minder(ear, awaited_s, _told(listener)),
        target="appliance.api.app:from_environment",
        factory=True,
        address=settings.server.host,
        port=settings.server.port,
        interface=Interfaces.ASGI,
        workers=settings.server.workers,
        loop=Loops.asyncio,
        task_impl=TaskImpl.asyncio,  # the rust one had the worst tail
        http=HTTPModes.http1,  # HTTP/2 without TLS has no timeouts of its own here, and no client of ours speaks it
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.server.header_timeout_s * 1000), max_buffer_size=_HEADER_BYTES
        ),
        ssl_cert=certificate,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
        backlog=_BACKLOG,
        backpressure=_make_room(settings.server.max_connections),
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig=_TO_OURS,
        respawn_failed_workers=True,
        workers_kill_timeout=int(life.LONGEST_S) + _FINISH_S,
    )
    try:
        server.serve(target_loader=partial(_application, lived), wrap_loader=False)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    return 0


def _application(lived: life.Life) -> "Litestar":
    """In the process that answers. Imported there: this one has no use for it."""
    from appliance.api import app

    return app.from_environment(lived)


class _Server(MPServer):
    """Serves on a socket that is there already, and sends its workers off in order (appliance/api/life.py)."""

    def __init__(self, listener: socket.socket, minder: "_Minder", **options: Any) -> None:
        super().__init__(**options)
        self.main_loop_interrupt = _Interrupt()
        self._listener = listener
        self._minder = minder

    def _init_shared_socket(self) -> None:
        # Of its own it has each worker bind one with SO_REUSEPORT: what waits in a worker's queue dies with it.
        self._ssp = self._sso = None
        self._sfd = self._listener.fileno()
        self._shd = SocketHolder(self._sfd, False, _BACKLOG)  # pyright: ignore[reportCallIssue]  # its stub forgets it

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> WorkerProcess:
        worker = super()._spawn_worker(idx, target, callback_loader)
        worker.terminate = partial(_send_off, worker)
        return worker

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        super()._spawn_workers(spawn_target, target_loader)
        # After the first fork: a process forked beside a busy thread may inherit a lock that nobody will release.
        threading.Thread(target=self._minder.mind, args=(self.wrks,), name="minder", daemon=True).start()

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        _thread.start_new_thread(self._interrupt, ())

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        _thread.start_new_thread(super().signal_handler_reload, ())

    def _interrupt(self) -> None:
        notify.stopping("answers what is in hand")
        super().signal_handler_interrupt()


class _Interrupt(threading.Event):
    """What Granian's main thread waits for. Its handlers set it, and a second signal (Ctrl+C reaches the whole group,
    and SIGTERM follows) found that thread inside the lock of this: it waited for itself for ever. So they set it from
    a thread; and the wait is broken off now and then, because a signal that another thread was given wakes nobody."""

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            return super().wait(timeout)
        while not super().wait(_BEAT_S):
            pass
        return True


def _send_off(worker: WorkerProcess) -> None:
    worker.interrupt_by_parent = True
    if worker.inner.pid is not None and worker.inner.is_alive():
        os.kill(worker.inner.pid, life.LEAVE)


class _Minder:
    """Listens to the beats of the processes that answer. Ready is when each has beaten; alive, while each goes on."""

    def __init__(self, ear: int, awaited_s: float | None, where: str) -> None:
        self._ear = ear
        self._awaited_s = awaited_s
        self._where = where
        self._beaten: dict[int, float] = {}
        self._is_ready = False
        self._told_at = 0.0

    def mind(self, workers: list[WorkerProcess]) -> None:
        while True:
            if select.select([self._ear], [], [], _BEAT_S)[0]:
                self._beaten.update(dict.fromkeys(life.beats(self._ear), time.monotonic()))
            self._tell({worker.inner.pid for worker in workers if worker.inner.pid is not None})

    def _tell(self, here: set[int]) -> None:
        now = time.monotonic()
        if not self._is_ready and here and here <= self._beaten.keys():
            self._is_ready = True
            log.info("api ready", extra={"address": self._where})
            notify.ready(f"answers at {self._where}")
        if self._awaited_s is None or not self._is_ready or now - self._told_at < self._awaited_s / _SHARE:
            return
        since = min((self._beaten.setdefault(pid, now) for pid in here), default=now)  # a new one has just begun
        if now - since < self._awaited_s / 2:
            self._told_at = now
            notify.alive()


_TO_OURS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"level": "WARNING", "propagate": True}},
}
"""Granian's own lines go where all others go."""


def _make_room(connections: int) -> int:
    """Raise our limit of file descriptors for so many connections, as far as we may; how many there is room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    room = max(16, soft - _OWN_FILES)
    log.warning("fewer connections than set", extra={"wanted": connections, "possible": room, "descriptors": soft})
    return room


def _handed() -> socket.socket | None:
    """The socket named `api` that whoever started us holds open; None when there is none, and we open our own."""
    descriptor = handed.sockets().get("api")
    if descriptor is None:
        return None
    listener = socket.socket(fileno=descriptor)
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type != socket.SOCK_STREAM:
        raise Misconfigured("the socket handed over as api is none of TCP; see ListenStream= in customhouse-api.socket")
    return listener


def _certificate(certificate: str, key: str) -> tuple[Path | None, Path | None]:
    """Both files, which fit together; neither for plain HTTP. Raises Misconfigured."""
    if not certificate:
        return None, None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, "")  # never ask for a password
    except (OSError, ssl.SSLError, ValueError) as error:
        why = error.strerror or error.reason if isinstance(error, ssl.SSLError) else str(error)
        raise Misconfigured(
            f"server.tls_certificate {certificate} and server.tls_key {key} cannot be used ({why}); they have to be "
            "PEM files, readable by the service, the key without a password"
        ) from error
    return Path(certificate), Path(key)


def _told(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _count_together(folder: Path) -> None:
    """Have the API processes add their metrics up in files. The variable is the metrics library's own; it is read as
    that library is imported, which only the processes started from here do."""
    make_folder(folder.parent)  # this process comes before any house
    make_folder(folder)
    for left in folder.glob("*.db"):
        left.unlink()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
