"""Customhouse as it runs, its disk and clock in the campaign's hands: API and worker forked from tests/zygote.py, the
model process for itself, each started again as systemd would; clients that never stop asking; a receiver of webhooks
that can be made to hang, to reset, to refuse."""

import contextlib
import http.server
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from appliance import settings as settings_file
from appliance.house import House
from tests import tinyonnx
from tests.fakestripe.server import Served
from tests.faults import house
from tests.faults.house import Want
from tests.faults.shim import Shim
from tests.paying import KEY
from tests.zygote import Zygote

PATIENCE_S = 180.0
_CLIENTS = 2
_PACE_S = 0.15


class Receiver(http.server.ThreadingHTTPServer):
    """Takes deliveries: id → how often each body came. `moods` says how the next ones are treated."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.got: dict[str, Counter[bytes]] = {}
        self.lock = threading.Lock()
        self.moods: list[str] = []
        """hang, reset, 500, half: taken from the front, one a request."""
        self.met: Counter[str] = Counter()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Whoever is killed in mid-delivery leaves half a request."""


class _Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return
        server: Any = self.server
        with server.lock:
            mood = server.moods.pop(0) if server.moods else ""
            server.met[mood] += 1
            server.got.setdefault(self.headers["webhook-id"], Counter())[body] += 1
        match mood:
            case "hang":
                time.sleep(6.0)  # three times the sender's patience
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            case "half":
                self.wfile.write(b"HTTP/1.1 20")
                return
            case _:
                pass
        with contextlib.suppress(OSError):
            self.send_response(int(mood) if mood.isdigit() else 204)
            self.end_headers()

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        return None


class Box:
    """All of it. Faults go in by its methods and its shim; `well` says what is still wrong."""

    def __init__(
        self, folder: Path, library: Path | None, weights: Path | None = None, stripe: Served | None = None
    ) -> None:
        self.home = folder / "home"
        self.key = house.found(self.home)
        self.receiver = Receiver()
        more = _small(folder, self.home) if weights is None else _real(weights, self.home)
        self.shim = Shim(folder / "control")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.environ = {
            **house.environ(self.home),
            "CUSTOMHOUSE_SERVER_PORT": str(self.port),
            "CUSTOMHOUSE_MEDIA_DECODER_TIMEOUT_S": "3",
            "CUSTOMHOUSE_WORKER_THREADS": "4",
            "FAULTS_GPU": str(folder / "gpu"),
            **(self.shim.environ(library, self.home) if library is not None else {}),
            **_stripe(folder, stripe),
            **more,
        }
        self.gpu = folder / "gpu"
        self.stripe = stripe
        self.log = folder / "processes.log"
        self.house = House(settings_file.load(environ=self.environ))
        self.zygote = Zygote(self.environ, self.log)
        self._held: set[str] = set()
        self._starting = threading.Lock()
        self.restarts: Counter[str] = Counter()
        self.infer = self._infer()
        self.forks = {what: self.zygote.start(what) for what in ("work", "serve")}
        self.accepted: dict[int, tuple[str, list[str]]] = {}
        self.answers: Counter[str] = Counter()
        self.odd: list[str] = []
        self.kinds = ["blocked", "batch", "image", "refused", "torn"] + ([] if weights is None else ["prompt"])
        self._lock = threading.Lock()
        self._number = 0
        self._stop = threading.Event()
        self.paused = threading.Event()
        self._threads = [threading.Thread(target=self._tend, daemon=True)]
        self._threads += [threading.Thread(target=self._ask, daemon=True) for _ in range(_CLIENTS)]
        for thread in self._threads:
            thread.start()
        self.until("it is up", lambda: self.health()[0] == 200)

    # --- processes

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pid(self, what: str) -> int:
        return self.infer.pid if what == "infer" else self.forks[what].pid

    def is_alive(self, what: str) -> bool:
        return self.infer.poll() is None if what == "infer" else self.forks[what].is_alive

    def send(self, what: str, number: int = signal.SIGKILL) -> None:
        """A signal, and wait until a deadly one has done its work."""
        if what == "infer":
            self.infer.send_signal(number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                self.infer.wait(PATIENCE_S)
            return
        fork = self.forks[what]
        fork.signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.until(f"{what} is gone", lambda: not fork.is_alive or self.forks[what] is not fork)

    @contextlib.contextmanager
    def away(self, what: str) -> Iterator[None]:
        """It is killed, and not started again within; nor by `_tend` that had seen it dead before."""
        with self._starting:
            self._held.add(what)
        try:
            if self.is_alive(what):
                self.send(what)
            yield
        finally:
            self._held.discard(what)

    def children(self, what: str) -> list[int]:
        found: list[int] = []
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{self.pid(what)}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self.zygote.close()
        self.infer.kill()
        self.infer.wait()
        self.house.close()
        self.receiver.shutdown()
        self.receiver.server_close()

    def _infer(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.adapter"],
                env={**os.environ, **self.environ},
                stdout=file,
                stderr=file,
            )

    def _tend(self) -> None:
        """Start again what ended, after a moment, as systemd does."""
        while not self._stop.wait(0.1):
            if self.infer.poll() is not None:
                time.sleep(0.3)
                with self._starting:
                    if "infer" not in self._held:
                        self.restarts["infer"] += 1
                        self.infer = self._infer()
            for what, fork in list(self.forks.items()):
                if not fork.is_alive:
                    time.sleep(0.1)
                    with self._starting:
                        if what not in self._held:
                            self.restarts[what] += 1
                            self.forks[what] = self.zygote.start(what)
                            fork.close()

    # --- clients

    def _ask(self) -> None:
        with httpx.Client(base_url=self.address, timeout=40) as http:
            while not self._stop.wait(_PACE_S):
                if self.paused.is_set():
                    continue
                with self._lock:
                    number = self._number
                    self._number += 1
                self.submit(http, Want(number, self.kinds[number % len(self.kinds)]))

    def submit(self, http: httpx.Client, want: Want) -> None:
        """Again and again, until it is accepted or all ends."""
        asked = house.request(want, self.key, self.receiver.address)
        while not self._stop.is_set():
            try:
                answer = http.post(**asked)
            except httpx.TransportError as error:
                self.answers[type(error).__name__] += 1
                self._stop.wait(0.1)
                continue
            self.answers[str(answer.status_code)] += 1
            if answer.status_code == 202:
                promised = house.accepted(answer.json())
                with self._lock:
                    if self.accepted.setdefault(want.number, promised) != promised:
                        self.odd.append(f"{want.number} was promised {self.accepted[want.number]} and {promised}")
                return
            if answer.status_code not in (409, 503) or (
                answer.status_code == 503 and "retry-after" not in answer.headers
            ):
                self.odd.append(f"{want.kind} {want.number} was answered {answer.status_code}: {answer.text[:300]}")
            self._stop.wait(0.1)

    # --- how it is

    def health(self) -> tuple[int, list[str]]:
        """What /health answers: 0 = nothing."""
        try:
            answer = httpx.get(f"{self.address}/health", timeout=20)
            return answer.status_code, list(answer.json()["degraded"])
        except (httpx.HTTPError, ValueError):
            return 0, []

    def says(self, part: str) -> None:
        """Wait until health says so. Raises TimeoutError."""
        self.until(f"health says {part!r}", lambda: any(part in sentence for sentence in self.health()[1]))

    def until(self, what: str, is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Raises TimeoutError with what was waited for, and what health says."""
        until = time.monotonic() + patience_s
        while not is_so():
            if time.monotonic() > until:
                raise TimeoutError(f"{what}: waited in vain for {patience_s:.0f} s; health: {self.health()}")
            time.sleep(0.05)

    def open(self) -> int:
        query = """
            SELECT (SELECT count(*) FROM job WHERE status IN ('queued', 'processing'))
                + (SELECT count(*) FROM delivery WHERE status IN ('pending', 'sending'))
        """
        return int(self.house.db.reader().execute(query).fetchone()[0])

    def settle(self) -> dict[str, list[str]]:
        """Ask nothing more, let all that was accepted come to its end, and look; then ask on."""
        self.paused.set()
        wrong: dict[str, list[str]] = {}
        try:
            self.until("everything comes to its end", lambda: self.open() == 0)
            self.until("it is well again", lambda: self.health()[0] == 200)
        except TimeoutError as error:
            wrong["not finished"] = [str(error)]
        time.sleep(0.3)  # a request in hand may still be answered
        with self._lock:
            accepted = list(self.accepted.values())
            if self.odd:
                wrong["answers"], self.odd = self.odd, []
        if "not finished" not in wrong:
            self.until("the last one's end", lambda: self.open() == 0)
            wrong |= house.faults_in(self.house.db.reader())
        stood = {row[0] for row in self.house.db.reader().execute("SELECT id FROM job")}
        promised = {job_id for _, jobs in accepted for job_id in jobs}
        if lost := sorted(promised - stood):
            wrong["lost"] = lost
        untold = sorted({f"wh_{subject}" for subject, _ in accepted} - set(self.receiver.got))
        if untold and "not finished" not in wrong:
            wrong["webhooks never told"] = untold
        if two := house.told_two_ways(self.receiver.got):
            wrong["webhooks told two ways"] = two
        self.paused.clear()
        return wrong

    def unknown_jobs(self) -> list[str]:
        """Jobs that no client was told of. To be asked when every client has its answer."""
        promised = {job_id for _, jobs in self.accepted.values() for job_id in jobs}
        return sorted({row[0] for row in self.house.db.reader().execute("SELECT id FROM job")} - promised)


def _real(weights: Path, home: Path) -> dict[str, str]:
    """The fetched models, but for the language model, which nothing asks here."""
    for model in weights.iterdir():
        if model.name != "smollm2-135m" and not model.name.startswith("."):
            (home / "weights" / model.name).symlink_to(model.resolve())
    return {}


def _small(folder: Path, home: Path) -> dict[str, str]:
    """One graph of a few nodes answers for every step, through the real runtime."""
    tinyonnx.install(home, folder / "models", "tiny")
    steps = (("nsfw", "nsfw"), ("nsfw", "vlm"), ("ai_adult_general", "vlm"), ("underage", "vlm"), ("text", "text"))
    sources = "".join(
        f'[[{slug}.sources]]\nstep = "{step}"\nmodel = "tiny"\nlabel = "bright"\nthreshold = 0.5\n'
        for slug, step in steps
    )
    (folder / "categories.toml").write_text(tinyonnx.CATEGORIES + sources)
    return {
        "CUSTOMHOUSE_MODELS_DIR": str(folder / "models"),
        "CUSTOMHOUSE_CATEGORIES_FILE": str(folder / "categories.toml"),
        "CUSTOMHOUSE_INFERENCE_DEVICE": "cpu",
        "CUSTOMHOUSE_INFERENCE_THREADS": "1",
    }


def _stripe(folder: Path, served: Served | None) -> dict[str, str]:
    """Leads to a Stripe of ours, asked every five seconds."""
    if served is None:
        return {}
    key = folder / "stripe-key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    return {
        "CUSTOMHOUSE_BILLING_STRIPE_KEY_FILE": str(key),
        "CUSTOMHOUSE_BILLING_STRIPE_ADDRESS": served.address,
        "CUSTOMHOUSE_BILLING_STRIPE_TIMEOUT_S": "2",
        "CUSTOMHOUSE_BILLING_SYNC_S": "5",
    }


def killed(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
