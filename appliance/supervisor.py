"""`customhouse up`: the three processes in the foreground, for evaluation. systemd does this on a real box."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import msgspec

from appliance.settings import Settings

log = logging.getLogger(__name__)

PROCESSES = ("infer", "work", "serve")
"""In the order of their start; each one copes with the others not being there yet."""

_LONGEST_WAIT_S = 30.0
_HEALTHY_S = 60.0  # a process that ran this long starts again at once
_STOP_S = 35.0
_PR_SET_PDEATHSIG = 1


class _Process(msgspec.Struct):
    name: str
    popen: subprocess.Popen[bytes]
    started: float
    crashes: int = 0
    start_at: float = 0.0


class Supervisor:
    """Starts the processes, starts a crashed one again with a growing wait, stops them all together."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
        self._environ = {**os.environ, **(environ or {}), "CUSTOMHOUSE_HOME": str(settings.home)}
        if with_files(settings).log.files == "on":
            self._environ["CUSTOMHOUSE_LOG_FILES"] = "on"
        self._processes: list[_Process] = []
        self._stop = threading.Event()
        self._libc = ctypes.CDLL(None)

    @property
    def pids(self) -> dict[str, int]:
        return {one.name: one.popen.pid for one in self._processes}

    def start(self) -> None:
        for name in PROCESSES:
            self._processes.append(_Process(name, self._spawn(name), time.monotonic()))

    def watch(self) -> int:
        """Until stop() is called. Returns 1 when a process refused to start (bad settings), else 0."""
        while not self._stop.wait(0.2):
            for one in self._processes:
                if self._tend(one):
                    self.stop()
                    return 1
        return 0

    def stop(self) -> None:
        """Let each finish what it has in hand, then end it."""
        self._stop.set()
        for one in self._processes:
            if one.popen.poll() is None:
                one.popen.send_signal(signal.SIGTERM)
        until = time.monotonic() + _STOP_S
        for one in self._processes:
            try:
                one.popen.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process did not stop in time and was killed", extra={"program": one.name})
                one.popen.kill()
                one.popen.wait()

    def _tend(self, one: _Process) -> bool:
        """Start a crashed process again when its wait is over; True when it refused at once, twice running."""
        code = one.popen.poll()
        if code is None:
            return False
        now = time.monotonic()
        if not one.start_at:
            if code == 1 and now - one.started < _HEALTHY_S and one.crashes >= 1:
                log.error("process does not start; see its message above", extra={"program": one.name})
                return True
            one.crashes = 0 if now - one.started > _HEALTHY_S else one.crashes + 1
            wait_s = 0.0 if one.crashes == 0 else min(_LONGEST_WAIT_S, 0.5 * 2 ** (one.crashes - 1))
            one.start_at = now + wait_s
            log.warning(
                "process ended; it is started again", extra={"program": one.name, "code": code, "wait_s": wait_s}
            )
        if now >= one.start_at:
            one.popen, one.started, one.start_at = self._spawn(one.name), now, 0.0
        return False

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "appliance", name],
            env=self._environ,
            preexec_fn=self._die_with_parent,
            process_group=0,  # Ctrl-C reaches only us; we pass it on in order
        )

    def _die_with_parent(self) -> None:
        # should we be killed outright, the three do not stay behind
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def with_files(settings: Settings) -> Settings:
    """With log files unless they are off: started from a terminal, nobody else keeps what the processes say."""
    if settings.log.files != "auto":
        return settings
    return msgspec.structs.replace(settings, log=msgspec.structs.replace(settings.log, files="on"))


def main(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM."""
    supervisor = Supervisor(settings)

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    supervisor.start()
    try:
        return supervisor.watch()
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.stop()
