"""The API as it is run: `customhouse serve` in a process of its own, on Granian, over loopback."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from appliance import clock
from appliance.accounts import keys
from appliance.house import House
from appliance.jobs import rows
from appliance.settings import Settings
from tests.cast import UNHURRIED, Person, enrol

PATIENCE_S = 120.0


class Served:
    """A running `customhouse serve`, and a house over the same files."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.house = House(Settings(home=home))
        self.port = free_port()
        self._log = (home / "serve.log").open("ab")
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CUSTOMHOUSE_")},
            "CUSTOMHOUSE_HOME": str(home),
            "CUSTOMHOUSE_SERVER_PORT": str(self.port),
            "CUSTOMHOUSE_LOG_FORMAT": "json",
            "CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE": str(UNHURRIED.requests_per_minute),
            **environ,
        }
        self.process = self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker(self) -> int:
        """The process that answers: the server's child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "serve"], env=self._environ, stdout=self._log, stderr=self._log
        )
        wait(lambda: self.answers() or self.process.poll() is not None)
        assert self.answers(), self.log()[-2000:]
        return self.process

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def log(self) -> str:
        return (self.house.settings.home / "serve.log").read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()
        self.house.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """A server of this test's own, to be stopped or killed."""
    with contextlib.ExitStack() as stack:

        def make(**environ: str) -> Served:
            return stack.enter_context(contextlib.closing(Served(tmp_path, **environ)))

        yield make


@pytest.fixture(scope="module")
def alice(served: Served) -> Person:
    return enrol(served.house, "A", "alice")


def submit(served: Served, person: Person, kind: str = "prompt") -> str:
    field = {"prompt": "prompt", "image": "image_url", "video": "video_url"}[kind]
    value = "hi" if kind == "prompt" else "http://93.184.216.34/x"
    answer = httpx.post(f"{served.url}/api/v1/moderate/{kind}", headers=person.headers, data={field: value})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def move(served: Served, job_id: str, **columns: Any) -> None:
    """Put a job's row where the worker would."""
    sets = ", ".join(f"{name} = :{name}" for name in columns)
    served.house.db.write(lambda conn: conn.execute(f"UPDATE job SET {sets} WHERE id = :id", {**columns, "id": job_id}))


def close(served: Served, job_id: str, error_code: str | None = None) -> None:
    served.house.db.write(
        lambda conn: rows.close(
            conn,
            job_id,
            is_prohibited=None if error_code else False,
            categories={"custom": {}},
            reason=None,
            error_code=error_code,
            error=error_code,
            gpu_ms=0,
            tokens=0,
            now=clock.now_ms(),
        )
    )


class Stream:
    """A progress stream read in a thread."""

    def __init__(self, served: Served, person: Person, job_id: str, **headers: str) -> None:
        self.events: list[ServerSentEvent] = []
        self.headers: httpx.Headers = httpx.Headers()
        self._arguments = (served, person, job_id, headers)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        served, person, job_id, headers = self._arguments
        url = f"{served.url}/api/v1/job/{job_id}/progress"
        with (
            httpx.Client(timeout=PATIENCE_S) as client,
            connect_sse(client, "GET", url, headers={**person.headers, **headers}) as source,
        ):
            self.headers = source.response.headers
            for event in source.iter_sse():
                self.events.append(event)

    def until(self, count: int) -> list[ServerSentEvent]:
        wait(lambda: len(self.events) >= count)
        return self.events

    def to_its_end(self) -> list[ServerSentEvent]:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.events


def told(events: list[ServerSentEvent]) -> list[tuple[str, str, int]]:
    return [(event.event, event.json()["status"], event.json()["progress"]) for event in events]


# --- progress --------------------------------------------------------------------------------------------------------


def test_a_videos_progress_is_told_from_its_queue_to_its_end(served: Served, alice: Person) -> None:
    job_id = submit(served, alice, "video")
    stream = Stream(served, alice, job_id)
    stream.until(1)
    move(served, job_id, status="processing", started_at=clock.now_ms())
    stream.until(2)
    move(served, job_id, total=45, done=0)
    stream.until(3)
    move(served, job_id, done=27)
    stream.until(4)
    close(served, job_id)
    events = stream.to_its_end()
    assert told(events) == [
        ("connected", "queued", 0),
        ("progress", "processing", 0),
        ("progress", "processing", 10),
        ("progress", "processing", 61),
        ("progress", "completed", 100),
    ]
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]
    assert {event.retry for event in events} == {3000, None}
    assert json.loads(events[3].data) == {
        "job_id": job_id,
        "status": "processing",
        "progress": 61,
        "detail": "Analysing frames",
        "frames_completed": 27,
        "frame_count": 45,
    }
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")


def test_a_finished_job_is_told_once_and_the_stream_ends(served: Served, alice: Person) -> None:
    job_id = submit(served, alice)
    close(served, job_id)
    events = Stream(served, alice, job_id).to_its_end()
    assert told(events) == [("connected", "completed", 100)]
    assert set(events[0].json()) == {"job_id", "status", "progress"}


def test_a_failed_job_ends_where_it_was(served: Served, alice: Person) -> None:
    job_id = submit(served, alice, "image")
    stream = Stream(served, alice, job_id)
    stream.until(1)
    move(served, job_id, status="processing", total=4, done=1)
    stream.until(2)
    close(served, job_id, error_code="MEDIA_UNREACHABLE")
    assert told(stream.to_its_end()) == [
        ("connected", "queued", 0),
        ("progress", "processing", 25),
        ("progress", "failed", 25),
    ]


def test_who_comes_back_gets_the_present_state_and_numbers_that_go_on(served: Served, alice: Person) -> None:
    job_id = submit(served, alice)
    move(served, job_id, status="processing")
    stream = Stream(served, alice, job_id, **{"Last-Event-ID": "7"})
    stream.until(1)
    close(served, job_id)
    events = stream.to_its_end()
    assert told(events) == [("connected", "processing", 50), ("progress", "completed", 100)]
    assert [event.id for event in events] == ["8", "9"]


@pytest.mark.parametrize("given", ["", "x", "-1", "1e9", "9" * 30, "٣"])
def test_a_last_event_id_that_is_none_of_ours_starts_anew(served: Served, alice: Person, given: str) -> None:
    job_id = submit(served, alice)
    close(served, job_id)
    url = f"{served.url}/api/v1/job/{job_id}/progress"
    answer = httpx.get(url, headers=[*alice.headers.items(), ("Last-Event-ID", given.encode())])  # type: ignore[list-item]
    assert "\nid: 1\n" in answer.text


def test_many_streams_are_served_by_one_watcher_each_its_own_job(served: Served, alice: Person) -> None:
    ids = [submit(served, alice) for _ in range(20)]
    streams = [Stream(served, alice, job_id) for job_id in ids for _ in range(2)]
    for stream in streams:
        stream.until(1)
    for job_id in ids:
        close(served, job_id)
    for index, stream in enumerate(streams):
        events = stream.to_its_end()
        assert told(events)[-1] == ("progress", "completed", 100)
        assert {event.json()["job_id"] for event in events} == {ids[index // 2]}


def test_a_client_that_is_gone_is_noticed(served: Served, alice: Person) -> None:
    def streams() -> float:
        lines = httpx.get(f"{served.url}/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("customhouse_streams "))

    before = streams()
    job_id = submit(served, alice)
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        request = f"GET /api/v1/job/{job_id}/progress HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.key}\r\n\r\n"
        sock.sendall(request.encode())
        wait(lambda: streams() == before + 1)
    wait(lambda: streams() == before)


# --- uploads ---------------------------------------------------------------------------------------------------------


def parts(size: int) -> Iterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="video_file"; filename="a.mp4"\r\n\r\n'
    yield b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
    piece = b"x" * 262_144
    for _ in range(size // len(piece)):
        yield piece
    yield b"\r\n--b--\r\n"


def upload(served: Served, person: Person, size: int) -> httpx.Response:
    headers = {**person.headers, "content-type": "multipart/form-data; boundary=b"}
    return httpx.post(f"{served.url}/api/v1/moderate/video", headers=headers, content=parts(size), timeout=120)


def test_a_video_of_nearly_three_hundred_megabytes_costs_no_memory(served: Served, alice: Person) -> None:
    def peak_kb() -> int:
        status = Path(f"/proc/{served.worker}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))

    before = peak_kb()
    answer = upload(served, alice, 290_000_000)
    assert answer.status_code == 202, answer.text
    assert peak_kb() - before < 30_000
    for path in served.house.settings.media_dir.iterdir():
        path.unlink()


def test_a_video_that_is_too_large_is_refused_while_it_comes_and_leaves_nothing(served: Served, alice: Person) -> None:
    answer = upload(served, alice, 310_000_000)
    assert (answer.status_code, answer.json()["error"]) == (413, "PAYLOAD_TOO_LARGE")
    assert list(served.house.settings.media_dir.iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(served: Served, alice: Person) -> None:
    media = served.house.settings.media_dir
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        head = (
            f"POST /api/v1/moderate/video HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.key}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n\r\n"
        )
        sock.sendall(head.encode() + b"".join(list(parts(3_000_000))[:-1]))
        wait(lambda: any(media.iterdir()))
    wait(lambda: not any(media.iterdir()))


# --- the process -----------------------------------------------------------------------------------------------------


def test_what_was_answered_202_is_on_disk_when_the_process_is_killed_at_once(own: Callable[..., Served]) -> None:
    served = own()
    alice = enrol(served.house, "A", "alice")
    accepted: list[str] = []
    stop = threading.Event()

    def keep_submitting() -> None:
        with httpx.Client(base_url=served.url, headers=alice.headers) as client, contextlib.suppress(httpx.HTTPError):
            while not stop.is_set():
                answer = client.post("/api/v1/moderate/prompt", data={"prompt": "hi"})
                if answer.status_code == 202:
                    accepted.append(answer.json()["job_id"])

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(keep_submitting)
        wait(lambda: len(accepted) > 40)
        os.kill(served.worker, signal.SIGKILL)
        stop.set()
    kept = {row["id"] for row in served.house.db.reader().execute("SELECT id FROM job")}
    assert set(accepted) <= kept
    wait(served.answers)  # the server makes itself a new one
    assert submit(served, alice)


def test_when_the_server_is_killed_its_child_goes_too_and_the_port_is_free(own: Callable[..., Served]) -> None:
    served = own()
    child = served.worker
    served.process.kill()
    served.process.wait()
    wait(lambda: not Path(f"/proc/{child}").exists())
    served.start()
    assert served.answers()


def test_it_stops_in_order_and_does_not_wait_for_open_streams(own: Callable[..., Served]) -> None:
    served = own()
    alice = enrol(served.house, "A", "alice")
    stream = Stream(served, alice, submit(served, alice))
    stream.until(1)
    assert served.stop() == 0
    assert told(stream.to_its_end()) == [("connected", "queued", 0)]
    assert "Killing" not in served.log()


def test_a_port_in_use_is_one_sentence_and_exit_code_1(tmp_path: Path, served: Served) -> None:
    environ = {**os.environ, "CUSTOMHOUSE_HOME": str(tmp_path), "CUSTOMHOUSE_SERVER_PORT": str(served.port)}
    done = subprocess.run([sys.executable, "-m", "appliance", "serve"], env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"127.0.0.1:{served.port} cannot be listened on (Address already in use)" in done.stderr
    assert "CUSTOMHOUSE_SERVER_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_systemd_is_told_ready_once_requests_are_answered_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        served = Served(tmp_path / "home", NOTIFY_SOCKET=str(tmp_path / "notify"))
        with contextlib.closing(served):
            assert systemd.recv(200) == f"READY=1\nSTATUS=answers at 127.0.0.1:{served.port}".encode()
            served.stop()
            assert systemd.recv(200).startswith(b"STOPPING=1\n")


def test_two_api_processes_count_together_and_see_a_revocation_at_once(own: Callable[..., Served]) -> None:
    served = own(CUSTOMHOUSE_SERVER_WORKERS="2")
    alice = enrol(served.house, "A", "alice")
    for _ in range(20):
        submit(served, alice)  # each on a connection of its own
    route = 'customhouse_requests_total{method="POST",route="/api/v1/moderate/prompt",status="202"} 20.0'
    assert route in httpx.get(f"{served.url}/metrics").text.splitlines()
    served.house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test"))
    url = f"{served.url}/api/v1/moderate/prompt"
    assert {httpx.post(url, headers=alice.headers, data={"prompt": "x"}).status_code for _ in range(10)} == {401}


def test_the_log_is_json_lines_with_the_route_and_never_a_key(served: Served, alice: Person) -> None:
    job_id = submit(served, alice)
    httpx.get(f"{served.url}/api/v1/job/{job_id}?secret=heronmark", headers={**alice.headers, "x-request-id": "mine"})
    wait(lambda: '"request_id":"mine"' in served.log())
    line = next(json.loads(line) for line in served.log().splitlines() if '"request_id":"mine"' in line)
    assert (line["event"], line["route"], line["status"]) == ("request answered", "/api/v1/job/{job_id}", 200)
    assert line["org"] == alice.org_id
    assert alice.key not in served.log()
    assert "heronmark" not in served.log()
