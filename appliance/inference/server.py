"""`customhouse infer`: the process that owns every model, behind a Unix socket. One a state directory.

It never opens the database and never reaches the network: it reads weights and answers questions. It keeps nothing
between two requests, so it may be killed at any moment; callers get a passing error and ask again.
"""

import asyncio
import fcntl
import logging
import os
import signal
from pathlib import Path

import cv2
from granian.constants import HTTPModes, Interfaces, TaskImpl
from granian.log import LogLevels
from granian.server.embed import Server
from litestar import Litestar

from appliance import categories, notify, structs
from appliance.errors import Misconfigured
from appliance.inference import manifest
from appliance.inference.door import create_app
from appliance.inference.registry import Registry
from appliance.inference.wire import ModelState
from appliance.settings import Settings, check_socket

log = logging.getLogger(__name__)

_BEAT_S = 5.0
_LOOK_S = 0.5
_BACKLOG = 1024  # callers at once: each thread of the worker and of the API holds one connection


def main(settings: Settings) -> int:
    """Open the models, serve until SIGTERM or SIGINT, finish what is in hand. Raises Misconfigured when a model that
    is wanted cannot be opened, or when another model process runs for this state directory."""
    check_socket(settings.inference_socket)
    structs.prepare()
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    with open(settings.run_dir / "inference.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misconfigured(f"a model process is already running for {settings.home}; stop it first") from error
        cv2.setNumThreads(1)  # pictures are prepared side by side; threads within one would only get in their way
        registry = Registry(settings, manifest.read_all(settings.models_dir))
        registry.open_wanted(categories.load(settings.categories_file))
        try:
            return asyncio.run(_serve(create_app(registry, settings), settings.inference_socket, registry))
        finally:
            registry.close()


async def _serve(app: Litestar, path: Path, registry: Registry) -> int:
    """Until a signal comes. Returns 1 when the server ended by itself."""
    path.unlink(missing_ok=True)  # a killed process left it; ours is the lock, so nobody listens there
    server = Server(
        app,
        uds=path,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        task_impl=TaskImpl.asyncio,
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        log_level=LogLevels.error,  # it warns at each start that it is embedded
        log_dictconfig=_TO_OURS,
    )
    server.uds_permissions = 0o660
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            log.info("model process stops; it finishes what is in hand")
            notify.stopping("answers what is in hand")
        stopped = True
        server.stop()

    def ready() -> None:
        log.info("model process ready", extra={"socket": str(path), "pid": os.getpid()})
        notify.ready(_told(registry))

    loop = asyncio.get_running_loop()
    alive = loop.create_task(_say_alive(registry))
    leaving = loop.create_task(_leave_when_lost(registry, server))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    server.on_startup(ready)  # after the socket listens
    await server.serve()
    alive.cancel()
    leaving.cancel()
    return 0 if stopped else 1


async def _say_alive(registry: Registry) -> None:
    """As long as this loop turns and no model has had one batch in hand for too long."""
    awaited_s = notify.watchdog_s()
    if awaited_s is None:
        return
    was: list[str] = []
    while True:
        stuck = registry.stuck()
        if not stuck:
            notify.alive(_told(registry))
        elif stuck != was:
            log.error("model stuck; systemd is told no more that this process lives", extra={"models": ",".join(stuck)})
        was = stuck
        await asyncio.sleep(min(_BEAT_S, awaited_s / 4))


async def _leave_when_lost(registry: Registry, server: Server) -> None:
    """A GPU that fell off the bus, or a driver that gave up on this process, comes back to a new process only."""
    while not registry.lost:
        await asyncio.sleep(_LOOK_S)
    log.error("model process leaves, to be started again", extra={"lost": registry.lost})
    server.stop()


def _told(registry: Registry) -> str:
    models = [each for each in registry.statuses() if each.state is ModelState.READY]
    devices = ", ".join(sorted({each.device for each in models}))
    many = "1 model answers" if len(models) == 1 else f"{len(models)} models answer"
    return f"{many} on {devices}" if models else "no model is loaded"


_TO_OURS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"level": "ERROR", "propagate": True}},
}
"""Granian's own lines go where all others go."""
