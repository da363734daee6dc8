"""`customhouse up`: the three processes in the foreground, for evaluation. systemd does this on a real box, and this
does it as systemd would: it holds the API's socket, hears from each process that it is ready and alive, starts again
what crashed or hangs, and restarts one when it is asked to (appliance/supervised.py)."""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from appliance import handed, installed, supervised
from appliance.house import make_folder
from appliance.settings import Settings, check_socket
from appliance.supervised import Asked, State, Told

log = logging.getLogger(__name__)

PROCESSES = ("infer", "work", "serve")
"""In the order of their start; each one copes with the others not being there yet."""

NAME_OF = {"infer": "inference", "work": "worker", "serve": "api"}
"""Command → what the unit and `customhouse restart` call it."""

WATCHDOG_S = 120.0
"""A process that was ready and says nothing for so long hangs."""

_LONGEST_WAIT_S = 30.0
_HEALTHY_S = 60.0  # a process that ran this long starts again at once
_STOP_S = 35.0
_READY_S = 240.0
_CRASHES = 1  # of what was asked for, until the asker hears that it does not start: as systemctl does
_TICK_S = 0.1
_BACKLOG = 4096
_LINE_BYTES = 4096
_PR_SET_PDEATHSIG = 1


class _Process(msgspec.Struct):
    command: str
    ear: socket.socket
    """Where it says how it is."""
    popen: subprocess.Popen[bytes]
    started: float
    heard: float
    starts: int = 1
    crashes: int = 0
    start_at: float = 0.0
    is_wanted: bool = True
    is_ready: bool = False
    was_ready: bool = False
    """Once, of whatever version: it is no setting that is wrong."""
    stopping_since: float | None = None
    status: str = ""

    @property
    def name(self) -> str:
        return NAME_OF[self.command]


class Supervisor:
    """Starts the processes, starts a crashed one again with a growing wait, stops them all together."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str] | None = None,
        watchdog_s: float = WATCHDOG_S,
        commands: Sequence[str] = PROCESSES,
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._watchdog_s = watchdog_s
        self._environ = {**os.environ, **(environ or {}), "CUSTOMHOUSE_HOME": str(settings.home)}
        if with_files(settings).log.files == "on":
            self._environ["CUSTOMHOUSE_LOG_FILES"] = "on"
        self._processes: list[_Process] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._api: socket.socket | None = None
        self._desk: socket.socket | None = None
        self._libc = ctypes.CDLL(None)

    @property
    def pids(self) -> dict[str, int]:
        return {one.command: one.popen.pid for one in self._processes}

    def start(self) -> None:
        """Raises Misconfigured when the port is somebody else's, or the runtime folder's path too long for sockets."""
        for command in self._commands:
            check_socket(self._ear_path(command))
        make_folder(self._settings.home)
        make_folder(self._settings.run_dir)
        self._api = handed.bound(self._settings.server.host, self._settings.server.port)
        self._api.listen(_BACKLOG)  # from here on who connects is answered, as soon as there is somebody to answer
        for command in self._commands:
            ear = self._ear(command)
            now = time.monotonic()
            self._processes.append(_Process(command, ear, self._spawn(command), now, now))
        self._desk = self._open_desk()
        threading.Thread(target=self._serve_desk, args=(self._desk,), name="desk", daemon=True).start()

    def watch(self) -> int:
        """Until stop() is called. Returns 1 when a process refused to start (bad settings), else 0."""
        while not self._stop.wait(_TICK_S):
            with self._lock:
                has_refused = any([self._tend(one) for one in self._processes])
            if has_refused:
                self.stop()
                return 1
        return 0

    def stop(self) -> None:
        """Let each finish what it has in hand, then end it."""
        self._stop.set()
        with self._lock:
            for one in self._processes:
                one.is_wanted = False
                if one.popen.poll() is None:
                    one.popen.send_signal(signal.SIGTERM)
            until = time.monotonic() + _STOP_S
            for one in self._processes:
                try:
                    one.popen.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.warning("process did not stop in time and was killed", extra={"program": one.command})
                    one.popen.kill()
                    one.popen.wait()
                one.ear.close()
                self._ear_path(one.command).unlink(missing_ok=True)
            for held in (self._api, self._desk):
                if held is not None:
                    held.close()
        supervised.path_in(self._settings.run_dir).unlink(missing_ok=True)

    def states(self) -> list[State]:
        with self._lock:
            return [self._state(one) for one in self._processes]

    def restart(self, *names: str, within_s: float = _READY_S) -> list[State]:
        """One after the other: it finishes what it has in hand, another begins; returns when that is ready. The API's
        socket stays open meanwhile. Needs watch() to run. Raises TimeoutError."""
        for one in self._named(names):
            with self._lock:
                before = one.starts
                one.is_wanted = True
                self._ask_to_stop(one)
                self._forgive(one)
            self._await(lambda one=one, before=before: one.starts > before and one.is_ready, one, within_s)
        return self.states()

    def halt(self, *names: str, within_s: float = _READY_S) -> list[State]:
        """Stop them, all at once, and leave them stopped. Raises TimeoutError."""
        for one in self._named(names):
            with self._lock:
                one.is_wanted = False
                self._ask_to_stop(one)
        for one in self._named(names):
            self._await(lambda one=one: one.popen.poll() is not None, one, within_s, is_starting=False)
        return self.states()

    def go_on(self, *names: str, within_s: float = _READY_S) -> list[State]:
        """Start what was stopped, all at once; returns when it is ready. Raises TimeoutError."""
        for one in self._named(names):
            with self._lock:
                one.is_wanted = True
                self._forgive(one)
        for one in self._named(names):
            self._await(lambda one=one: one.popen.poll() is None and one.is_ready, one, within_s)
        return self.states()

    def _named(self, names: tuple[str, ...]) -> list[_Process]:
        return [one for one in self._processes if not names or one.name in names]

    def _ask_to_stop(self, one: _Process) -> None:
        if one.popen.poll() is None and one.stopping_since is None:
            one.stopping_since = time.monotonic()
            one.popen.send_signal(signal.SIGTERM)

    def _forgive(self, one: _Process) -> None:
        """What ended is started at once, however often it had crashed."""
        if one.popen.poll() is not None:
            one.crashes, one.start_at = 0, time.monotonic()

    def _await(self, is_so: Callable[[], bool], one: _Process, within_s: float, *, is_starting: bool = True) -> None:
        until = time.monotonic() + within_s
        while not is_so():
            if self._stop.wait(_TICK_S / 2):
                raise TimeoutError("customhouse up is stopping")
            if is_starting and one.crashes >= _CRASHES:
                raise TimeoutError(f"{one.name} does not start; see: customhouse logs")
            if time.monotonic() > until:
                raise TimeoutError(f"{one.name} is not as asked after {within_s:.0f} s; see: customhouse logs")

    def _state(self, one: _Process) -> State:
        is_running = one.popen.poll() is None
        return State(
            one.name,
            one.popen.pid,
            is_running,
            is_running and one.is_ready,
            one.is_wanted,
            one.starts,
            one.status if is_running else "",
        )

    def _tend(self, one: _Process) -> bool:
        """Hear it; start it again when it ended or hangs. True when it refused at once, twice running."""
        self._hear(one)
        now = time.monotonic()
        code = one.popen.poll()
        if code is None:
            if one.stopping_since is not None:
                if now - one.stopping_since > _STOP_S:
                    log.warning("process did not stop in time and was killed", extra={"program": one.command})
                    one.popen.kill()
            elif one.is_ready and now - one.heard > self._watchdog_s:
                log.error("process hangs and was killed", extra={"program": one.command, "silent_s": self._watchdog_s})
                one.popen.kill()
                one.is_ready = False
            return False
        if not one.is_wanted:
            one.stopping_since = None
            return False
        if one.stopping_since is not None:  # it was asked to: no crash
            one.stopping_since, one.crashes, one.start_at = None, 0, now
        if not one.start_at:
            if code == 1 and now - one.started < _HEALTHY_S and one.crashes >= 1 and not one.was_ready:
                log.error("process does not start; see its message above", extra={"program": one.command})
                return True
            one.crashes = 0 if now - one.started > _HEALTHY_S else one.crashes + 1
            wait_s = 0.0 if one.crashes == 0 else min(_LONGEST_WAIT_S, 0.5 * 2 ** (one.crashes - 1))
            one.start_at = now + wait_s
            log.warning(
                "process ended; it is started again", extra={"program": one.command, "code": code, "wait_s": wait_s}
            )
        if now >= one.start_at:
            one.ear.close()
            one.ear, one.is_ready, one.status = self._ear(one.command), False, ""
            one.popen, one.started, one.heard, one.start_at = self._spawn(one.command), now, now, 0.0
            one.starts += 1
        return False

    def _hear(self, one: _Process) -> None:
        """What it said since the last look."""
        with contextlib.suppress(BlockingIOError):
            while said := one.ear.recv(_LINE_BYTES).decode(errors="replace"):
                one.heard = time.monotonic()
                for line in said.split("\n"):
                    key, _, value = line.partition("=")
                    if key == "READY":
                        one.is_ready = one.was_ready = True
                    elif key == "STATUS":
                        one.status = value

    def _ear(self, command: str) -> socket.socket:
        """A new one for each start: what a former process said does not count."""
        path = self._ear_path(command)
        path.unlink(missing_ok=True)
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        ear.bind(str(path))
        path.chmod(0o600)
        return ear

    def _ear_path(self, command: str) -> Path:
        return self._settings.run_dir / f"up-{NAME_OF[command]}.sock"

    def _spawn(self, command: str) -> subprocess.Popen[bytes]:
        given = {"api": self._api.fileno()} if command == "serve" and self._api is not None else {}
        return subprocess.Popen(
            handed.command(given, [*installed.command(), command]),  # of the version that is current now
            env={
                **self._environ,
                "NOTIFY_SOCKET": str(self._ear_path(command)),
                "WATCHDOG_USEC": str(int(self._watchdog_s * 1_000_000)),
            },
            pass_fds=tuple(given.values()),
            preexec_fn=self._die_with_parent,
            process_group=0,  # Ctrl-C reaches only us; we pass it on in order
        )

    def _die_with_parent(self) -> None:
        # should we be killed outright, the three do not stay behind
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def _open_desk(self) -> socket.socket:
        path = supervised.path_in(self._settings.run_dir)
        path.unlink(missing_ok=True)  # ours is the port, so nobody listens there
        desk = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        desk.bind(str(path))
        path.chmod(0o660)
        desk.listen(8)
        return desk

    def _serve_desk(self, desk: socket.socket) -> None:
        """Who may open the file may ask. One at a time: two restarts side by side would help nobody."""
        while not self._stop.is_set():
            try:
                line, _ = desk.accept()
            except OSError:
                return  # closed: we stop
            with line, contextlib.suppress(OSError):
                line.settimeout(10)
                with line.makefile("rb") as asked:
                    told = self._answer(asked.readline(_LINE_BYTES))
                line.sendall(msgspec.json.encode(told) + b"\n")

    def _answer(self, line: bytes) -> Told:
        verbs = {"restart": self.restart, "stop": self.halt, "start": self.go_on}
        try:
            asked = msgspec.json.decode(line, type=Asked)
            if unknown := [name for name in asked.names if name not in supervised.NAMES]:
                return Told(error=f"{unknown[0]} is none of: {', '.join(supervised.NAMES)}")
            if asked.verb == "status":
                return Told(self.states())
            if asked.verb not in verbs:
                return Told(error=f"{asked.verb} is none of: status, {', '.join(verbs)}")
            log.info("asked at the desk", extra={"verb": asked.verb, "names": ",".join(asked.names) or "all"})
            return Told(verbs[asked.verb](*asked.names, within_s=asked.within_s or _READY_S))
        except (msgspec.MsgspecError, TimeoutError) as error:
            return Told(error=str(error))


def with_files(settings: Settings) -> Settings:
    """With log files unless they are off: started from a terminal, nobody else keeps what the processes say."""
    if settings.log.files != "auto":
        return settings
    return msgspec.structs.replace(settings, log=msgspec.structs.replace(settings.log, files="on"))


def main(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM. Raises Misconfigured when the port is somebody else's."""
    supervisor = Supervisor(settings)

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        supervisor.start()
        return supervisor.watch()
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.stop()
