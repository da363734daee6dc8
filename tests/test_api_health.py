"""What /health says of the database, the queue, the worker and the models, and what /metrics counts."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import __version__
from appliance.accounts import custom
from appliance.api.condition import Condition, Report
from appliance.database import Connection
from appliance.errors import InferenceDown
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, ModelStatus, Status
from appliance.settings import Inference, Server, Settings
from appliance.tasks import LANES, Lanes
from tests.cast import Person, enrol

Client = TestClient[Any]


class Answering(Models):
    """A model process that answers from a table."""

    def __init__(self, status: Status | None) -> None:
        self._answer = status

    def status(self) -> Status:
        if self._answer is None:
            raise InferenceDown("nobody there; start it: customhouse infer")
        return self._answer

    def close(self) -> None:
        return None


def models(
    state: dict[str, ModelState] | None = None, device: str = "cpu", degraded: list[str] | None = None
) -> Status:
    tasks = {
        "opennsfw": "image-classification",
        "nsfwjs": "image-classification",
        "image-safety-s": "image-classification",
        "faces-age": "face-age",
        "text-heads": "text-heads",
    }
    return Status(
        models=[
            ModelStatus(name=name, task=task, state=(state or {}).get(name, ModelState.READY), device=device)
            for name, task in tasks.items()
        ],
        device=device,
        degraded=degraded or [],
        rss_bytes=1,
        pid=1,
        uptime_s=1.0,
    )


@pytest.fixture
def workers(house: House) -> Iterator[None]:
    """Somebody listens at every lane's doorbell."""
    with ExitStack() as stack:
        for lane in LANES:
            ear = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            ear.bind(str(house.settings.run_dir / f"{lane}.sock"))
        yield


@pytest.fixture
def look(house: House) -> Iterator[Callable[[Status | None], tuple[Report, bool]]]:
    lanes = Lanes(house.settings)
    conditions: list[Condition] = []

    def look(status: Status | None) -> tuple[Report, bool]:
        import asyncio

        condition = Condition(house, lanes, Answering(status))
        conditions.append(condition)
        figures = asyncio.run(condition.now())
        return figures.report, figures.is_up

    yield look
    for condition in conditions:
        condition.close()
    lanes.close()


Look = Callable[[Status | None], tuple[Report, bool]]


@pytest.mark.usefixtures("workers")
def test_all_is_well(look: Look) -> None:
    report, is_up = look(models())
    assert is_up
    assert report == Report(
        status="ok",
        database="connected",
        queue="connected",
        gpu="absent",
        models={"nsfw": "loaded", "vlm": "loaded", "text": "loaded"},
        version=__version__,
    )


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    ("name", "state", "role", "remedy"),
    [
        ("opennsfw", ModelState.FAILED, "nsfw", "customhouse models verify opennsfw"),
        ("faces-age", ModelState.ABSENT, "vlm", "customhouse models fetch faces-age"),
        ("text-heads", ModelState.LOADING, "text", "text-heads is loading"),
    ],
)
def test_a_model_that_has_to_answer_and_cannot_makes_it_down(
    look: Look, name: str, state: ModelState, role: str, remedy: str
) -> None:
    report, is_up = look(models({name: state}))
    assert not is_up
    assert report.status == "degraded"
    assert report.models == {**dict.fromkeys(("nsfw", "vlm", "text"), "loaded"), role: state.value}
    assert any(remedy in sentence for sentence in report.degraded)


@pytest.mark.usefixtures("workers")
def test_a_model_on_the_wrong_device_is_degraded_but_up(look: Look) -> None:
    report, is_up = look(models(degraded=["opennsfw was to run on cuda and runs on cpu"]))
    assert is_up
    assert (report.status, report.degraded) == ("degraded", ["opennsfw was to run on cuda and runs on cpu"])


@pytest.mark.usefixtures("workers")
def test_categories_that_no_judge_answers_any_more_are_said(house: House, alice: Person, look: Look) -> None:
    able = replace(house.settings, inference=Inference(vision_judge="qwen"))

    def add(conn: Connection) -> None:
        custom.add(conn, able, alice.org_id, None, "Dogs", "Is there a dog?", actor="operator:test")
        custom.add(conn, able, alice.org_id, None, "Cats", "Is there a cat?", actor="x", applies_to=["image"])
        custom.add(conn, able, alice.org_id, None, "Off", "Is there one?", actor="operator:test", enabled=False)

    house.db.write(add)
    report, is_up = look(models())
    assert is_up
    assert [sentence.split(", and")[0] for sentence in report.degraded] == [
        "2 custom categories are asked of every image",
        "1 custom category is asked of every video",
    ]
    assert all("inference.vision_judge names no judge" in sentence for sentence in report.degraded)


@pytest.mark.usefixtures("workers")
def test_a_gpu_is_connected_when_the_models_run_on_it(look: Look) -> None:
    assert look(models(device="cuda:0"))[0].gpu == "connected"


@pytest.mark.usefixtures("workers")
def test_without_the_model_process_it_is_down(look: Look) -> None:
    report, is_up = look(None)
    assert not is_up
    assert set(report.models.values()) == {"unreachable"}
    assert any("customhouse infer" in sentence for sentence in report.degraded)


def test_without_a_worker_it_is_down_and_says_that_jobs_wait(look: Look) -> None:
    report, is_up = look(models())
    assert not is_up
    assert report.queue == "disconnected"
    assert "jobs are accepted and wait" in report.degraded[0]


@pytest.mark.usefixtures("workers")
def test_a_queue_file_that_is_damaged_makes_it_down(house: House, look: Look) -> None:
    house.settings.queue.write_bytes(b"this is no database" * 100)
    for suffix in ("-wal", "-shm"):
        house.settings.queue.with_name(house.settings.queue.name + suffix).unlink(missing_ok=True)
    report, is_up = look(models())
    assert not is_up
    assert report.queue == "disconnected"
    assert any("delete queue.db" in sentence for sentence in report.degraded)


@pytest.mark.usefixtures("workers")
def test_a_vision_judge_answers_the_vlm_role_when_one_is_configured(house: House) -> None:
    import asyncio

    house.settings = replace(house.settings, inference=Inference(vision_judge="qwen"))
    lanes = Lanes(house.settings)
    condition = Condition(house, lanes, Answering(models()))
    report = asyncio.run(condition.now()).report
    condition.close()
    lanes.close()
    assert report.models["vlm"] == "absent"
    assert any("customhouse models fetch qwen" in sentence for sentence in report.degraded)


def test_a_full_disk_is_said(client_with: Callable[[Settings], tuple[Client, House]], settings: Settings) -> None:
    client, _ = client_with(replace(settings, server=Server(min_free_disk_mb=10**9)))
    response = client.get("/health")
    assert response.status_code == 503
    assert any("server.min_free_disk_mb" in sentence for sentence in response.json()["degraded"])


def test_health_is_open_fresh_and_tells_no_secret(client: Client, house: House, alice: Person) -> None:
    response = client.get("/health")
    assert response.status_code == 503  # no worker, no models here
    assert list(response.json()) == ["status", "database", "queue", "gpu", "models", "version", "degraded"]
    assert response.headers["cache-control"] == "no-store"
    assert alice.org_id not in response.text
    assert client.head("/health").status_code == 503
    assert client.get("/health/live").json() == {"status": "ok"}


def test_metrics_count_requests_by_route_and_jobs_by_what_is_open(client: Client, house: House) -> None:
    alice = enrol(house, "A", "alice")
    job_id = client.post("/api/v1/moderate/prompt", headers=alice.headers, data={"prompt": "heronmark"}).json()[
        "job_id"
    ]
    client.get(f"/api/v1/job/{job_id}", headers=alice.headers)
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    assert 'customhouse_requests_total{method="GET",route="/api/v1/job/{job_id}",status="200"} 1.0' in [
        line.rsplit(" ", 1)[0] + " 1.0" for line in lines
    ]
    assert "customhouse_jobs_open 1.0" in lines
    assert "customhouse_inference_up 0.0" in lines
    for secret in (alice.key, alice.key[:12], alice.org_id, job_id, "heronmark"):
        assert secret not in response.text
