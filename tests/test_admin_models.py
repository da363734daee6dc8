"""A provider's models over HTTP: what a real model process says of them, and opening them anew under traffic."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.inference.wire import LookRequest
from appliance.settings import Inference, Settings
from tests import judges, tinyonnx
from tests.desk import ClientWith, Desk
from tests.tinyonnx import Process


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """ "tiny" is loaded, "spare" is not, "absent" has no weights."""
    home, models = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models")
    for name in ("tiny", "spare", "absent"):
        tinyonnx.install(home, models, name)
    (home / "weights" / "absent" / "model.onnx").unlink()
    judges.install(home, models)
    with Process(
        home, models, CUSTOMHOUSE_INFERENCE_MODELS=f"tiny,{judges.READER}", CUSTOMHOUSE_INFERENCE_DEVICE="cpu"
    ) as process:
        yield process


def settings_for(settings: Settings, process: Process) -> Settings:
    settings.home.mkdir(mode=0o750)
    (settings.home / "weights").symlink_to(process.home / "weights")
    judges.answer_for(settings, process)
    return replace(settings, models_dir=Path(process.environ["CUSTOMHOUSE_MODELS_DIR"]), inference=Inference())


@pytest.fixture
def desk(running: Process, settings: Settings, client_with: ClientWith, _migrated: Path) -> Desk:
    return Desk(client_with, settings_for(settings, running), _migrated)


@pytest.fixture
def deserted(settings: Settings, client_with: ClientWith, _migrated: Path) -> Desk:
    """No model process runs."""
    return Desk(client_with, settings, _migrated)


def test_what_is_loaded_says_how_it_does(desk: Desk, running: Process) -> None:
    running.models.look(LookRequest([tinyonnx.picture(255)] * 3, ["tiny"]))
    found = desk.done("get", "/models/onnx")
    assert (found["provider"], found["is_running"], found["device"], found["degraded"]) == ("onnx", True, "cpu", [])
    by_name = {one["name"]: one for one in found["models"]}
    assert {name: (one["is_installed"], one["state"]) for name, one in by_name.items()} == {
        "tiny": (True, "ready"),
        "spare": (True, "unloaded"),
        "absent": (False, "absent"),
    }
    tiny = by_name["tiny"]
    assert (tiny["device"], tiny["wanted_device"], tiny["task"]) == ("cpu", "cpu", "image-classification")
    assert tiny["answered"] >= 3
    assert sum(int(size) * times for size, times in tiny["batches"].items()) == tiny["answered"]
    assert len(tiny["digest"]) == 12


def test_each_provider_has_its_own_runtimes(desk: Desk) -> None:
    found = desk.done("get", "/models/llama_cpp")["models"]
    assert {one["name"]: one["state"] for one in found} == {judges.READER: "ready", judges.EYES: "unloaded"}
    assert found[0]["memory_bytes"] > 0 or found[1]["memory_bytes"] > 0


def test_a_provider_that_is_none_is_not_found(desk: Desk) -> None:
    for method, path in (("get", "/models/tensorrt"), ("delete", "/models/tensorrt/cache")):
        assert "there are: onnx, llama_cpp" in desk.refused(method, path, status=404)


def test_clearing_opens_what_is_loaded_anew_and_drops_nothing(desk: Desk, running: Process) -> None:
    before = running.models.look(LookRequest([tinyonnx.picture(255)], ["tiny"]))[0]["tiny"]
    cleared = desk.done("delete", "/models/onnx/cache", {"reason": "new weights"})
    assert cleared["provider"] == "onnx"
    (one,) = cleared["reopened"]
    assert (one["model"], one["state"], one["device"], one["error"]) == ("tiny", "ready", "cpu", None)
    after = running.models.look(LookRequest([tinyonnx.picture(255)], ["tiny"]))[0]["tiny"]
    assert (after.scores, after.digest) == (before.scores, before.digest)
    line = desk.lines(action="models.reopened")[0]
    assert (line.actor, line.subject, line.reason, line.detail) == (
        desk.actor,
        "onnx",
        "new weights",
        {"models": {"tiny": "ready"}},
    )


def test_a_prompt_cache_is_gone_with_the_model_that_held_it(desk: Desk) -> None:
    cleared = desk.done("delete", "/models/llama_cpp/cache")
    assert [(one["model"], one["state"]) for one in cleared["reopened"]] == [(judges.READER, "ready")]


def test_replaced_weights_are_read_and_bad_ones_leave_the_old_model(desk: Desk, running: Process) -> None:
    path = running.home / "weights" / "tiny" / "model.onnx"
    good = path.read_bytes()
    try:
        path.write_bytes(b"not a model")
        (one,) = desk.done("delete", "/models/onnx/cache")["reopened"]
        assert one["state"] == ""
        assert one["error"]
        assert running.models.look(LookRequest([tinyonnx.picture(255)], ["tiny"]))[0]["tiny"].problem is None
        assert desk.lines(action="models.reopened")[0].detail["models"]["tiny"] == one["error"]
    finally:
        path.write_bytes(good)
    assert desk.done("delete", "/models/onnx/cache")["reopened"][0]["error"] is None


def test_without_a_model_process_what_is_installed_is_still_told(deserted: Desk) -> None:
    found = deserted.done("get", "/models/onnx")
    assert found["is_running"] is False
    assert {one["state"] for one in found["models"]} == {"unreachable"}
    assert "customhouse infer" in found["degraded"][0]
    answer = deserted.ask("delete", "/models/onnx/cache")
    assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
    assert deserted.lines() == []


def test_a_model_process_that_hangs_does_not_hang_the_route(
    running: Process, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.api.admin_models._DEADLINE_S", 0.5)
    os.kill(running.popen.pid, signal.SIGSTOP)
    try:
        assert desk.done("get", "/models/onnx")["is_running"] is False
    finally:
        os.kill(running.popen.pid, signal.SIGCONT)
