"""An upgrade, a rollback and an upgrade to a version that does not start, while clients ask on: real processes under
`customhouse up`, started from PREFIX/current. Nobody is refused, nobody hears 5xx, every accepted job ends, once."""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import database, installed, supervised
from appliance.release import journal
from tests import releases

pytestmark = pytest.mark.weights

WEIGHTS = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
OLD, NEW, BROKEN = "0.1.0", "0.2.0", "0.3.0"
PATIENCE_S = 300.0
HEALTHY = ("--healthy-s", "300")

WITNESS = (
    "CREATE TABLE witness (job_id TEXT)",
    """CREATE TRIGGER witness_closed AFTER UPDATE OF status ON job WHEN new.status IN ('completed', 'failed')
       BEGIN INSERT INTO witness VALUES (new.id); END""",
)
"""Writes down every end of a job, so that a second one could not hide."""


def wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


class Clients:
    """Ask on and on. Two open a connection for each request, and one keeps its own, as clients with a pool do."""

    def __init__(self, address: str, key: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.refused: list[str] = []
        """Of a connection that was made for the request: nothing may go wrong with it."""
        self.again: Counter[str] = Counter()
        """Of a kept one: it may be closed between two requests, and then the request is sent again."""
        self.accepted: dict[str, str] = {}
        """Idempotency-Key → job."""
        self.odd: list[str] = []
        self.longest_s = 0.0
        self._address, self._key = address, key
        self._lock = threading.Lock()
        self._stop = threading.Event()
        acts = (self._submit_anew, self._decide_anew, self._submit_on_one)
        self._threads = [threading.Thread(target=act, daemon=True) for act in acts]
        for thread in self._threads:
            thread.start()

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a client waits for an answer that does not come"

    def _submit_anew(self) -> None:
        for number in range(1_000_000):
            if self._stop.is_set():
                return
            try:
                with self._http() as http:
                    self._take(f"anew-{number}", self._submit(http, f"anew-{number}"))
            except httpx.TransportError as error:
                self.refused.append(f"{type(error).__name__}: {error}")

    def _decide_anew(self) -> None:
        while not self._stop.is_set():
            try:
                with self._http() as http:
                    answer = http.post("/v1/moderations", json={"input": "a quiet harbour in the evening"})
                    self._count(answer)
            except httpx.TransportError as error:
                self.refused.append(f"{type(error).__name__}: {error}")

    def _submit_on_one(self) -> None:
        number, is_sent = 0, False
        with self._http() as http:
            while is_sent or not self._stop.is_set():
                try:
                    is_sent = True  # and perhaps accepted, also when no answer comes
                    self._take(f"kept-{number}", self._submit(http, f"kept-{number}"))
                    number, is_sent = number + 1, False
                except httpx.ConnectError as error:
                    self.refused.append(f"{type(error).__name__}: {error}")
                except httpx.TransportError as error:
                    self.again[type(error).__name__] += 1

    def _http(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._key}"}
        return httpx.Client(base_url=self._address, headers=headers, timeout=PATIENCE_S)

    def _submit(self, http: httpx.Client, name: str) -> httpx.Response:
        prompt = {"prompt": f"a lighthouse at dawn, {name}"}
        return http.post("/api/v1/moderate/prompt", data=prompt, headers={"Idempotency-Key": name})

    def _take(self, name: str, answer: httpx.Response) -> None:
        self._count(answer)
        if answer.status_code == 202:
            with self._lock:
                job = self.accepted.setdefault(name, answer.json()["job_id"])
            if job != answer.json()["job_id"]:
                self.odd.append(f"{name} is {job} and {answer.json()['job_id']}")

    def _count(self, answer: httpx.Response) -> None:
        with self._lock:
            self.statuses[answer.status_code] += 1
            self.longest_s = max(self.longest_s, answer.elapsed.total_seconds())
        if answer.status_code >= 500:
            self.odd.append(f"{answer.status_code}: {answer.text[:200]}")


class Box:
    def __init__(self, prefix: Path, port: int) -> None:
        self.prefix, self.home = prefix, prefix / "home"
        self.environ = {
            "CUSTOMHOUSE_SERVER_PORT": str(port),
            "CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE": "1000000",
            "CUSTOMHOUSE_SERVER_MIN_FREE_DISK_MB": "1",
            "CUSTOMHOUSE_MEDIA_DECODERS": "1",
            "CUSTOMHOUSE_INFERENCE_THREADS": "1",
        }
        self.address = f"http://127.0.0.1:{port}"
        with (prefix / "up.log").open("ab") as log:
            self.up = subprocess.Popen(
                [releases.command(prefix, "current"), "up"],
                env=releases.environ(self.home, **self.environ),
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *words: str, version: str = "current", **more: Any) -> subprocess.CompletedProcess[str]:
        return releases.run(self.prefix, version, *words, **self.environ, **more)

    def is_up(self) -> bool:
        assert self.up.poll() is None, (self.prefix / "up.log").read_text()[-3000:]
        try:
            return httpx.get(f"{self.address}/health", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def version(self) -> str:
        return str(httpx.get(f"{self.address}/health", timeout=60).json()["version"])

    def close(self) -> None:
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
            try:
                self.up.wait(120)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    import socket

    if WEIGHTS is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    releases.lay(tmp_path, OLD)
    releases.lay(tmp_path, NEW, is_migrating=True)
    releases.lay(tmp_path, BROKEN, is_migrating=True, added={"appliance/api/app.py": "\nraise RuntimeError\n"})
    (tmp_path / "home").mkdir(mode=0o750)
    (tmp_path / "home" / "weights").symlink_to(Path(WEIGHTS).resolve())
    releases.run(tmp_path, OLD, "release", "activate", OLD)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    box = Box(tmp_path, port)
    try:
        wait(box.is_up)
        yield box
    finally:
        box.close()


def test_nobody_is_refused_while_it_is_upgraded_rolled_back_and_upgraded_in_vain(box: Box) -> None:
    key = releases.answer(box.run("keys", "create", "--org", "alice", "--name", "k", "--json"))["key"]
    path = box.home / "customhouse.db"
    conn = database.connect(path)
    for statement in WITNESS:
        conn.execute(statement)
    clients = Clients(box.address, key)

    def more(answers: int) -> None:
        want = clients.answered + answers
        wait(lambda: clients.answered >= want)

    more(20)
    there = releases.answer(box.run("release", "activate", NEW, *HEALTHY, "--json"))
    assert (there["result"], there["trouble"]) == ("activated", "")
    assert box.version() == NEW
    more(20)
    back = releases.answer(box.run("rollback", *HEALTHY, "--json"))
    assert (back["result"], back["trouble"]) == ("rolled back", "")
    assert box.version() == OLD
    more(20)
    vain_run = box.run("release", "activate", BROKEN, *HEALTHY, "--json", check=False)
    vain = releases.answer(vain_run)
    assert vain_run.returncode == 1
    assert (vain["result"], vain["version"], vain["trouble"]) == ("went back", OLD, "")
    assert "does not start" in vain["why"]
    assert (box.version(), installed.current(box.prefix), journal.read(box.prefix)) == (OLD, OLD, None)
    more(20)
    clients.stop()

    print({
        "activated_s": there["seconds"], "held_s": there["held_s"], "rolled_back_s": back["seconds"],
        "back_held_s": back["held_s"], "in_vain_s": vain["seconds"], "vain_held_s": vain["held_s"],
        "took": there["took"], "back_took": back["took"], "vain_took": vain["took"],
        "statuses": dict(clients.statuses), "kept_again": dict(clients.again), "longest_s": clients.longest_s,
    })  # fmt: skip
    assert clients.refused == []
    assert clients.odd == []
    assert set(clients.statuses) == {200, 202}
    accepted = set(clients.accepted.values())

    def are_closed() -> bool:
        return conn.execute("SELECT count(*) FROM job WHERE status NOT IN ('completed', 'failed')").fetchone()[0] == 0

    wait(are_closed)
    ends = Counter(row["job_id"] for row in conn.execute("SELECT job_id FROM witness"))
    assert ends == dict.fromkeys(accepted, 1)  # also: no job that nobody was told of
    assert {row["status"] for row in conn.execute("SELECT status FROM job")} == {"completed"}
    conn.close()
    assert releases.is_sound(path)
    assert all(one.is_ready for one in supervised.ask(box.home / "run", "status"))
