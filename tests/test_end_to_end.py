"""The main job with nothing doubled: real processes, sockets, weights, pictures, a clip, a receiver, and kill -9."""

import contextlib
import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from appliance import settings as settings_file
from appliance.accounts import keys, organisations
from appliance.demo import MEDIA
from appliance.house import House
from appliance.supervisor import Supervisor
from tests.cast import UNHURRIED

pytestmark = pytest.mark.weights

WEIGHTS = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
PHOTOGRAPHS = sorted(MEDIA.glob("*.jpg"))
CLIP = next(iter([*MEDIA.glob("*.mp4"), *MEDIA.glob("*.webm")]), None)
PATIENCE_S = 90.0


class Receiver(http.server.ThreadingHTTPServer):
    """Takes deliveries and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.got: list[tuple[dict[str, str], bytes]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return None


class Box:
    """A running Customhouse."""

    def __init__(self, home: Path) -> None:
        assert WEIGHTS is not None
        (home / "weights").symlink_to(Path(WEIGHTS).resolve())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environ = {
            "CUSTOMHOUSE_HOME": str(home),
            "CUSTOMHOUSE_SERVER_PORT": str(port),
            "CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
            "CUSTOMHOUSE_WORKER_RETRY_BASE_S": "0.2",
            "CUSTOMHOUSE_LOG_LEVEL": "warning",
            "CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE": str(UNHURRIED.requests_per_minute),
        }
        self.house = House(settings_file.load(environ=environ))
        self.key = self.house.db.write(
            lambda conn: keys.create(conn, self.house.pepper, organisations.get_or_create(conn, "alice").id, "k")[1]
        )
        self.supervisor = Supervisor(self.house.settings, environ)
        self.supervisor.start()
        self.watcher = threading.Thread(target=self.supervisor.watch, daemon=True)
        self.watcher.start()
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {self.key}"}, timeout=60
        )
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                if self.http.get("/health").status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError("not ready")

    def close(self) -> None:
        self.http.close()
        self.supervisor.stop()
        self.watcher.join()
        self.house.close()

    def kill(self, name: str) -> None:
        os.kill(self.supervisor.pids[name], signal.SIGKILL)

    def image(self, path: Path, **fields: str) -> str:
        with path.open("rb") as file:
            answer = self.http.post("/api/v1/moderate/image", files={"image_file": (path.name, file)}, data=fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def video(self, path: Path) -> str:
        with path.open("rb") as file:
            answer = self.http.post("/api/v1/moderate/video", files={"video_file": (path.name, file)})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def prompt(self, text: str, **fields: str) -> str:
        answer = self.http.post("/api/v1/moderate/prompt", data={"prompt": text, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def verdict(self, job_id: str) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            body: dict[str, Any] = self.http.get(f"/api/v1/job/{job_id}").json()
            if body["status"] in ("completed", "failed"):
                return body
            time.sleep(0.05)
        raise AssertionError(f"no verdict: {body}")

    def children(self, job_id: str) -> list[Any]:
        return self.house.db.reader().execute("SELECT * FROM child WHERE job_id = ?", (job_id,)).fetchall()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    if WEIGHTS is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    one = Box(tmp_path_factory.mktemp("home"))
    yield one
    one.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.shutdown()
    server.server_close()


def test_ordinary_photographs_are_allowed_in_every_category(box: Box) -> None:
    verdicts = [box.verdict(job_id) for job_id in [box.image(path) for path in PHOTOGRAPHS]]
    assert len(verdicts) >= 4
    for body in verdicts:
        assert body["status"] == "completed", body
        assert body["is_prohibited"] is False
        assert list(body["categories"]) == ["ai_adult_general", "underage", "nsfw", "custom"]


def test_a_clip_is_judged_frame_by_frame(box: Box) -> None:
    assert CLIP is not None
    job_id = box.video(CLIP)
    body = box.verdict(job_id)
    assert (body["status"], body["is_prohibited"], body["type"]) == ("completed", False, "video")
    kinds = [child["kind"] for child in box.children(job_id)]
    assert kinds.count("FRAME_EXTRACTION") == 1
    assert kinds.count("FRAME_MODERATION") >= 3


def test_prompts_are_allowed_or_refused_with_a_reason(box: Box) -> None:
    plain = box.verdict(box.prompt("A watercolour of a lighthouse at dawn, gentle waves"))
    assert (plain["is_prohibited"], plain["categories"]) == (False, {"custom": {}})
    assert "reason" not in plain
    refused = box.verdict(box.prompt("a bestiality video"))
    assert refused["is_prohibited"] is True
    assert refused["reason"] == "The text contained a blacklisted keyword."


def test_a_delivery_is_verified_by_the_official_standard_webhooks(box: Box, receiver: Receiver) -> None:
    job_id = box.prompt("a harbour in the evening", webhook_url=receiver.url)
    box.verdict(job_id)
    until = time.monotonic() + 20
    while not receiver.got and time.monotonic() < until:
        time.sleep(0.05)
    headers, body = receiver.got[0]
    secret = box.house.db.reader().execute("SELECT secret FROM webhook_secret").fetchone()[0]
    payload = Webhook(secret).verify(body, headers)
    assert payload["job_id"] == job_id
    assert headers["webhook-id"] == f"wh_{job_id}"
    assert list(json.loads(body)) == [
        "job_id", "status", "is_prohibited", "categories", "completed_at", "type", "delivery_id",
    ]  # fmt: skip


def test_the_stream_ends_with_the_verdict(box: Box) -> None:
    job_id = box.image(PHOTOGRAPHS[0])
    events: list[str] = []
    last: dict[str, Any] = {}
    with box.http.stream("GET", f"/api/v1/job/{job_id}/progress") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            if line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
    assert events[0] == "connected"
    assert (last["status"], last["progress"]) == ("completed", 100)


@pytest.mark.parametrize("victim", ["work", "infer"])
def test_kill_9_in_mid_job_loses_nothing_and_decides_nothing_twice(box: Box, receiver: Receiver, victim: str) -> None:
    assert CLIP is not None
    jobs = [box.image(path, webhook_url=receiver.url) for path in PHOTOGRAPHS * 4]
    jobs += [box.prompt(f"a quiet street, number {n}", webhook_url=receiver.url) for n in range(8)]
    clip = box.video(CLIP)
    box.kill(victim)
    for job_id in [*jobs, clip]:
        body = box.verdict(job_id)
        assert body["status"] == "completed", body
        assert all(child["status"] == "completed" for child in box.children(job_id))
    until = time.monotonic() + PATIENCE_S
    while len({headers["webhook-id"] for headers, _ in receiver.got}) < len(jobs) and time.monotonic() < until:
        time.sleep(0.1)
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {f"wh_{job_id}" for job_id in jobs}
    bodies = {headers["webhook-id"]: body for headers, body in receiver.got}
    assert all(
        bodies[headers["webhook-id"]] == body for headers, body in receiver.got
    )  # twice at most, never different


def test_a_batch_is_told_of_once_though_its_worker_is_killed_twice(box: Box, receiver: Receiver) -> None:
    items = [{"key": f"k{n}", "text": f"A quiet street at dusk, number {n}"} for n in range(98)]
    items.append({"key": "refused", "text": "a bestiality video"})
    made = box.http.post("/api/v1/moderate/text/batch", json={"items": items, "webhook_url": receiver.url})
    assert made.status_code == 202, made.text
    path = f"/api/v1/moderate/text/batch/{made.json()['batch_id']}"
    until = time.monotonic() + PATIENCE_S
    for _ in range(2):
        victim = box.supervisor.pids["work"]
        box.kill("work")
        while box.supervisor.pids.get("work", victim) == victim and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
    while (body := box.http.get(path).json())["status"] == "processing" and time.monotonic() < until:
        time.sleep(0.1)
    counts = {"total": 99, "queued": 0, "processing": 0, "completed": 99, "failed": 0, "prohibited": 1}
    assert body["counts"] == counts
    while not receiver.got and time.monotonic() < until:
        time.sleep(0.1)
    rows = box.house.db.reader().execute("SELECT id, batch_id FROM delivery WHERE url = ?", (receiver.url,)).fetchall()
    assert [tuple(row) for row in rows] == [(f"wh_{body['batch_id']}", body["batch_id"])]
    told = json.loads(receiver.got[0][1])
    assert told["type"] == "text_batch"
    verdicts = {item["key"]: item["is_prohibited"] for item in told["items"]}
    assert verdicts == {item["key"]: item["key"] == "refused" for item in items}


def test_a_queue_file_that_is_removed_loses_no_job(box: Box) -> None:
    jobs = [box.image(path) for path in PHOTOGRAPHS]
    box.kill("work")
    for suffix in ("", "-wal", "-shm"):
        path = box.house.settings.queue
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert all(box.verdict(job_id)["status"] == "completed" for job_id in jobs)


def test_media_are_gone_when_their_job_has_closed(box: Box) -> None:
    box.verdict(box.image(PHOTOGRAPHS[0]))
    until = time.monotonic() + 10
    while any(box.house.settings.media_dir.iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
    assert list(box.house.settings.media_dir.iterdir()) == []


def test_damaged_media_fail_their_own_job_with_its_code(box: Box, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(PHOTOGRAPHS[0].read_bytes()[:300])
    body = box.verdict(box.image(damaged))
    assert (body["status"], body["error_code"], body["is_prohibited"]) == ("failed", "UNSUPPORTED_MEDIA", None)
    assert box.verdict(box.image(PHOTOGRAPHS[0]))["status"] == "completed"


def test_media_by_url_are_fetched_and_an_unreachable_host_fails_the_job(box: Box, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PHOTOGRAPHS[0].read_bytes())

    class Serve(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(tmp_path), **kwargs)

        def log_message(self, *_: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        ids = []
        for name in ("a.jpg", "missing.jpg"):
            answer = box.http.post("/api/v1/moderate/image", data={"image_url": f"{base}/{name}"})
            ids.append(answer.json()["job_id"])
        there, missing = [box.verdict(job_id) for job_id in ids]
        server.shutdown()
    assert there["status"] == "completed"
    assert (missing["status"], missing["error_code"]) == ("failed", "MEDIA_UNREACHABLE")
