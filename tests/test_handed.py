"""The API restarted under load: the socket outlives the process, what is in hand is answered, nobody is cut off. And a
process that hangs is begun anew, because what does its work no longer says so."""

import asyncio
import contextlib
import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from appliance import handed, supervised
from appliance.api.life import QUIET_S, Life
from appliance.errors import InvalidRequest, Misconfigured
from appliance.house import House
from appliance.inference.batching import Lane
from appliance.jobs import submit
from appliance.jobs.job import JobKind, Submission
from appliance.settings import Settings
from appliance.supervisor import Supervisor
from tests.cast import UNHURRIED, Person, enrol
from tests.test_api_server import free_port
from tests.test_units import make_certificate

PATIENCE_S = 90.0
CALLERS = 6
RESTARTS = 3


class Attended:
    """Processes under `customhouse up`'s supervisor, in this process, and a house over the same files."""

    def __init__(self, home: Path, commands: tuple[str, ...], watchdog_s: float = 600.0, **environ: str) -> None:
        settings = Settings(home=home)
        self.settings = msgspec.structs.replace(
            settings, server=msgspec.structs.replace(settings.server, port=free_port())
        )
        self.house = House(self.settings)
        self.log = home / "log"
        self.supervisor = Supervisor(
            self.settings,
            {
                "CUSTOMHOUSE_SERVER_PORT": str(self.settings.server.port),
                "CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE": str(UNHURRIED.requests_per_minute),
                **environ,
            },
            watchdog_s=watchdog_s,
            commands=commands,
        )
        self.supervisor.start()
        self._watcher = threading.Thread(target=self.supervisor.watch, daemon=True)
        self._watcher.start()
        self.wait(lambda: all(one.is_ready for one in self.supervisor.states()))

    def wait(self, is_so: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < until, self.said()[-4000:]
            time.sleep(0.05)

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.log.glob("*.log")))

    def close(self) -> None:
        self.supervisor.stop()
        self._watcher.join(PATIENCE_S)
        self.house.close()


@pytest.fixture
def attended(tmp_path: Path) -> Iterator[Callable[..., Attended]]:
    with contextlib.ExitStack() as stack:

        def make(*commands: str, **options: object) -> Attended:
            one = Attended(tmp_path / "home", commands, **options)  # type: ignore[arg-type]
            return stack.enter_context(contextlib.closing(one))

        yield make


def child_of(pid: int) -> int:
    """The process that answers."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def listens(pid: int, port: int) -> bool:
    """Whether it holds the socket that listens at the port."""
    listening = {
        fields[9]
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A"
    }
    held = set[str]()
    with contextlib.suppress(FileNotFoundError):  # it has gone
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(os.readlink(descriptor))
    return any(f"socket:[{inode}]" in held for inode in listening)


class Cut(AssertionError):
    """A connection ended before its answer did."""


class Caller:
    """One client on one connection, with nothing between the test and the wire."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._line: socket.socket | None = None
        self._last = 0.0
        self.opened = 0
        self.reopened_idle = 0

    def submit(self, prompt: str, *, keep: bool) -> tuple[int, bytes]:
        """Status and body. A kept connection that the server closed while nothing was going on is opened anew; every
        other end of it, before the whole answer is here, is raised as Cut."""
        body = f"prompt={prompt}".encode()
        head = (
            f"POST /api/v1/moderate/prompt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        ).encode()
        idle_s = time.monotonic() - self._last
        is_kept = self._line is not None and not select.select([self._line], [], [], 0)[0]
        try:
            return self._ask(head + body)
        except Cut:
            if not is_kept or idle_s < QUIET_S:  # the server promises to leave it alone for so long
                raise
            self.reopened_idle += 1
            return self._ask(head + body)

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        if self._line is not None and select.select([self._line], [], [], 0)[0]:
            self.close()  # it said good-bye since
        if self._line is None:
            self._line = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
            self.opened += 1
        try:
            self._line.sendall(request)
            return self._answer()
        except OSError as error:
            self.close()
            raise Cut(f"{type(error).__name__}: {error}") from error

    def _answer(self) -> tuple[int, bytes]:
        assert self._line is not None
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += self._more(raw)
        head, _, body = raw.partition(b"\r\n\r\n")
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        while len(body) < int(fields[b"content-length"]):
            body += self._more(raw)
        self._last = time.monotonic()
        if fields.get(b"connection", b"").lower() == b"close":
            self.close()
        return int(head.split()[1]), body

    def _more(self, so_far: bytes) -> bytes:
        assert self._line is not None
        more = self._line.recv(65_536)
        if not more:
            self.close()
            raise Cut(f"ended after {len(so_far)} bytes of an answer")
        return more

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None


class Hammer(threading.Thread):
    """Submits one prompt after the other until told to stop; what each got is kept."""

    def __init__(self, number: int, port: int, person: Person, stop: threading.Event, *, keep: bool) -> None:
        super().__init__(daemon=True)
        self._number, self._stop_asked, self._keep = number, stop, keep
        self.caller = Caller(port, person.key)
        self.jobs: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._stop_asked.is_set() and not self.failed:
            try:
                status, body = self.caller.submit(f"p{self._number}x{len(self.jobs)}", keep=self._keep)
            except (Cut, OSError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                return
            if status == 202:
                self.jobs.append(str(msgspec.json.decode(body)["job_id"]))
            else:
                self.failed.append(f"{status}: {body[:200]!r}")
        self.caller.close()


def test_the_api_is_restarted_under_load_and_nobody_notices(attended: Callable[..., Attended]) -> None:
    box = attended("serve")
    alice = enrol(box.house, "A", "alice")
    stop = threading.Event()
    hammers = [Hammer(number, box.settings.server.port, alice, stop, keep=number % 3 != 0) for number in range(CALLERS)]
    for hammer in hammers:
        hammer.start()
    pids = {box.supervisor.pids["serve"]}
    for _ in range(RESTARTS):
        counted = [len(hammer.jobs) for hammer in hammers]
        box.wait(
            lambda counted=counted: all(len(h.jobs) > n + 5 or h.failed for h, n in zip(hammers, counted, strict=True))
        )
        (state,) = supervised.ask(box.settings.run_dir, "restart", "api")
        assert state.is_ready
        pids.add(state.pid)
    counted = [len(hammer.jobs) for hammer in hammers]
    box.wait(lambda: all(len(h.jobs) > n + 5 or h.failed for h, n in zip(hammers, counted, strict=True)))
    stop.set()
    for hammer in hammers:
        hammer.join(PATIENCE_S)
        assert not hammer.is_alive()
    assert [hammer.failed for hammer in hammers] == [[]] * CALLERS  # none refused, none cut off, no 5xx
    assert len(pids) == RESTARTS + 1
    answered = [job for hammer in hammers for job in hammer.jobs]
    rows = [str(row["id"]) for row in box.house.db.reader().execute("SELECT id FROM job")]
    assert len(rows) == len(set(rows))
    # what was answered is there; what is there beyond it was asked twice on a connection that lay idle
    assert set(answered) <= set(rows)
    assert len(rows) - len(answered) <= sum(hammer.caller.reopened_idle for hammer in hammers)
    assert "Killing" not in box.said()


def test_what_has_begun_is_answered_and_what_begins_meanwhile_waits(attended: Callable[..., Attended]) -> None:
    """Three connections at the moment of the restart: one amid its request, one that has said nothing yet, and one
    that comes while nobody is there."""
    box = attended("serve")
    alice = enrol(box.house, "A", "alice")
    address = ("127.0.0.1", box.settings.server.port)
    request = (
        f"POST /api/v1/moderate/prompt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.key}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nprompt=hi"
    ).encode()
    former = box.supervisor.pids["serve"]
    worker = child_of(former)
    assert listens(worker, box.settings.server.port)
    with (
        socket.create_connection(address, timeout=PATIENCE_S) as amid,
        socket.create_connection(address, timeout=PATIENCE_S) as silent,
    ):
        amid.sendall(request[:-2])
        restart = threading.Thread(target=supervised.ask, args=(box.settings.run_dir, "restart", "api"), daemon=True)
        restart.start()
        box.wait(lambda: not listens(worker, box.settings.server.port))
        with socket.create_connection(address, timeout=PATIENCE_S) as late:
            late.sendall(request)
            silent.sendall(request)
            amid.sendall(request[-2:])
            for line, is_last in ((amid, True), (silent, True), (late, False)):
                head, _, _ = line.recv(65_536).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 202 "), head
                assert (b"\r\nconnection: close" in head.lower()) is is_last
        restart.join(PATIENCE_S)
        assert not restart.is_alive()
    assert box.supervisor.pids["serve"] != former
    assert len(box.house.db.reader().execute("SELECT id FROM job").fetchall()) == 3


def test_a_process_is_stopped_and_started_and_told_of_over_the_control_socket(
    attended: Callable[..., Attended],
) -> None:
    box = attended("serve")
    run_dir = box.settings.run_dir
    assert (supervised.path_in(run_dir).stat().st_mode & 0o777) == 0o660
    (state,) = supervised.ask(run_dir, "stop", "api")
    assert (state.is_running, state.is_wanted) == (False, False)
    with socket.create_connection(("127.0.0.1", box.settings.server.port), timeout=PATIENCE_S) as waiting:
        waiting.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        (state,) = supervised.ask(run_dir, "start", "api")
        assert (state.is_ready, state.starts) == (True, 2)
        assert waiting.recv(65_536).startswith(b"HTTP/1.1 200 ")  # it came while nobody was there
    with pytest.raises(InvalidRequest, match="nobody is none of: inference, worker, api"):
        supervised.ask(run_dir, "restart", "nobody")
    with pytest.raises(InvalidRequest, match="dance is none of"):
        supervised.ask(run_dir, "dance")


def test_restart_is_a_command_and_stands_in_the_audit_log(attended: Callable[..., Attended]) -> None:
    box = attended("serve")
    environ = {**os.environ, "CUSTOMHOUSE_HOME": str(box.settings.home)}
    command = [sys.executable, "-m", "appliance", "restart", "api", "--json", "--reason", "a new certificate"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = msgspec.json.decode(done.stdout)
    assert told["by"] == "customhouse up"
    assert told["restarted"] == [{"name": "api", "pid": box.supervisor.pids["serve"], "is_ready": True}]
    line = box.house.db.reader().execute("SELECT * FROM audit WHERE action = 'processes.restart'").fetchone()
    assert (line["subject"], line["reason"]) == ("api", "a new certificate")


def test_without_anybody_who_runs_them_restart_says_so(tmp_path: Path) -> None:
    environ = {**os.environ, "CUSTOMHOUSE_HOME": str(tmp_path), "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "appliance", "restart", "api"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing to restart" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_renewed_certificate_is_shown_after_a_restart(attended: Callable[..., Attended], tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    box = attended("serve", CUSTOMHOUSE_SERVER_TLS_CERTIFICATE=str(certificate), CUSTOMHOUSE_SERVER_TLS_KEY=str(key))

    def shown() -> bytes:
        trusting = ssl.create_default_context(cafile=str(certificate))
        asked = http.client.HTTPSConnection("localhost", box.settings.server.port, timeout=PATIENCE_S, context=trusting)
        with contextlib.closing(asked):
            asked.connect()
            assert isinstance(asked.sock, ssl.SSLSocket)
            theirs = asked.sock.getpeercert(binary_form=True)
            asked.request("GET", "/health/live")
            answer = asked.getresponse()
            assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
        assert theirs is not None
        return theirs

    former = shown()
    assert former == ssl.PEM_cert_to_DER_cert(certificate.read_text())
    make_certificate(tmp_path)
    supervised.ask(box.settings.run_dir, "restart", "api")
    assert shown() == ssl.PEM_cert_to_DER_cert(certificate.read_text()) != former


# --- who hangs --------------------------------------------------------------------------------------------------------


def test_an_api_process_goes_though_the_server_has_closed_the_door_already() -> None:
    """2026-11-22: SIGTERM to the group had reached Granian's child first; ours failed, and was killed."""

    async def told() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        listener = socket.create_server(("127.0.0.1", 0))
        life = Life(listener.fileno(), -1, 60)
        listener.close()
        life.leave()
        await asyncio.wait_for(ended.wait(), 10)

    asyncio.run(told())


def test_an_api_whose_event_loop_stands_still_is_begun_anew(attended: Callable[..., Attended]) -> None:
    box = attended("serve", watchdog_s=8.0)
    former = box.supervisor.pids["serve"]
    os.kill(child_of(former), signal.SIGSTOP)  # its parent goes on, and must not speak for it
    box.wait(lambda: box.supervisor.pids["serve"] != former and box.supervisor.states()[0].is_ready)


def test_a_worker_whose_lane_is_stuck_is_begun_anew(attended: Callable[..., Attended], tmp_path: Path) -> None:
    """The process is well, its rounds go on; only nobody in the lane moves, because a model process that answers
    nothing holds them all."""
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(home / "run" / "inference.sock"))
        mute.listen(64)
        box = attended(
            "work",
            watchdog_s=8.0,
            CUSTOMHOUSE_WORKER_THREADS="2",
            CUSTOMHOUSE_WORKER_STUCK_S="2",
            CUSTOMHOUSE_WORKER_SWEEP_S="0.5",
            CUSTOMHOUSE_WORKER_LEASE_S="3",
            CUSTOMHOUSE_INFERENCE_DEADLINE_S="3600",
        )
        former = box.supervisor.pids["work"]
        alice = enrol(box.house, "A", "alice")
        for number in range(6):
            asked = Submission(JobKind.PROMPT, text=f"is anybody there, {number}?")
            box.house.db.write(lambda conn, asked=asked: submit.submit(conn, box.house, alice.org_id, None, asked))
        box.wait(lambda: "worker stuck" in box.said())
        box.wait(lambda: box.supervisor.pids["work"] != former)
        assert '"lanes":"prompts"' in box.said()


def test_a_model_that_never_answers_is_stuck_and_one_that_is_asked_nothing_is_not() -> None:
    let_go = threading.Event()

    def ask(items: object) -> list[int]:
        assert let_go.wait(PATIENCE_S)
        return [1]

    lane: Lane[int, int] = Lane("slow", ask, max_batch=1, wait_s=0.0, queue_limit=4)
    try:
        assert not lane.is_stuck(0.0)
        future = lane.submit([1], time.monotonic() + PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while not lane.is_stuck(0.05):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert not lane.is_stuck(PATIENCE_S)
        let_go.set()
        assert future.result(PATIENCE_S) == [1]
    finally:
        let_go.set()
        lane.stop()
    assert not lane.is_stuck(0.0)


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_sockets_are_ours_only_when_they_were_meant_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "api", "HOME": "/x"}
    assert handed.sockets(environ) == {}
    assert environ == {"HOME": "/x"}  # what we start must not take them for its own
    assert handed.sockets({}) == {}
    assert handed.sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == {}


def test_two_sockets_are_handed_over_under_their_names() -> None:
    """As systemd would: descriptors 3 and 4, the receiver's own number, and its children get neither."""
    program = (
        "import os, socket\n"
        "from appliance import handed\n"
        "for name, fd in handed.sockets().items():\n"
        "    one = socket.socket(fileno=fd)\n"
        "    print(name, fd, one.getsockname()[1], os.get_inheritable(fd))\n"
        "print(sorted(n for n in os.environ if n.startswith('LISTEN_')))\n"
    )
    with handed.bound("127.0.0.1", 0) as one, handed.bound("127.0.0.1", 0) as two:
        given = {"api": one.fileno(), "metrics": two.fileno()}
        done = subprocess.run(
            handed.command(given, [sys.executable, "-c", program]),
            pass_fds=tuple(given.values()),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        ports = [held.getsockname()[1] for held in (one, two)]
    assert done.stdout.splitlines() == [f"api 3 {ports[0]} False", f"metrics 4 {ports[1]} False", "[]"]
    assert handed.command({}, ["true"]) == ["true"]


def test_a_port_that_somebody_has_is_refused_even_by_reuse() -> None:
    with handed.bound("127.0.0.1", 0) as held:
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(Misconfigured, match=f"127.0.0.1:{port} cannot be listened on"):
            handed.bound("127.0.0.1", port)
