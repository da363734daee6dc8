"""`customhouse serve`: the application on Granian. The port is ours alone, and systemd hears when it is answered."""

import contextlib
import errno
import http.client
import logging
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops, TaskImpl
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from appliance import notify
from appliance.errors import Misconfigured
from appliance.house import make_folder
from appliance.settings import Settings

log = logging.getLogger(__name__)

_HEADER_BYTES = (
    65_536  # of one request, or a little more; with the server's own 417 KB, 3,000 connections could hold 1.2 GB
)
_BACKLOG = 4096  # connections that wait to be taken; the kernel allows no more by default
_OWN_FILES = 512  # descriptors beside the connections': databases, a thread each, sockets, uploads being written

_FINISH_S = 15  # requests in hand may end; streams are cut
_READY_S = 120.0
_AFTER_FORK_S = 0.2
_PORT_S = 3.0  # a server that was just killed may still be going


def main(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is in hand. Raises Misconfigured when it cannot listen."""
    _check_port(settings.server.host, settings.server.port)
    if settings.server.workers > 1:
        _count_together(settings.run_dir / "metrics")
    server = _Server(
        "appliance.api.app:from_environment",
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
        backlog=_BACKLOG,
        backpressure=_make_room(settings.server.max_connections),
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig=_TO_OURS,
        respawn_failed_workers=True,
        workers_kill_timeout=_FINISH_S,
    )
    # After the first fork: a process forked beside a busy thread may inherit a lock that nobody will release.
    ready = threading.Timer(_AFTER_FORK_S, _say_ready, args=(settings,))
    ready.daemon = True
    ready.start()
    try:
        server.serve()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    return 0


class _Server(MPServer):
    """Tells the workers to end their streams before it stops them."""

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        notify.stopping()
        for worker in multiprocessing.active_children():
            if worker.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGUSR1)
        super().signal_handler_interrupt(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]  # half annotated


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


def _check_port(host: str, port: int) -> None:
    """Granian listens with SO_REUSEPORT, so that two servers would quietly share a port. Raises Misconfigured."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    until = time.monotonic() + _PORT_S
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE and time.monotonic() < until:
                    time.sleep(0.1)
                    continue
                raise Misconfigured(
                    f"{host}:{port} cannot be listened on ({error.strerror}); "
                    "stop the program that has it, or set CUSTOMHOUSE_SERVER_PORT or CUSTOMHOUSE_SERVER_HOST"
                ) from error
            return


def _count_together(folder: Path) -> None:
    """Have the API processes add their metrics up in files. The variable is the metrics library's own; it is read as
    that library is imported, which only the processes started from here do."""
    make_folder(folder.parent)  # this process comes before any house
    make_folder(folder)
    for left in folder.glob("*.db"):
        left.unlink()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _say_ready(settings: Settings) -> None:
    """Tell systemd once a request is truly answered."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.server.host, settings.server.host)  # noqa: S104
    until = time.monotonic() + _READY_S
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(host, settings.server.port, timeout=5)
        try:
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                log.info("api ready", extra={"address": f"{settings.server.host}:{settings.server.port}"})
                notify.ready()
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    log.warning("api not ready", extra={"waited_s": _READY_S})
