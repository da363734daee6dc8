"""The model process: a real one, over its real socket, with a model of a few nodes; marked, with starter weights."""

import http.client
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.demo import MEDIA
from appliance.errors import InferenceDown, InferenceTimeout, ModelUnavailable
from appliance.inference.client import Models
from appliance.inference.wire import LookRequest, ModelState, ModelStatus, Pixels, Question, ReadRequest
from tests import tinyonnx
from tests.tinyonnx import Process, picture


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for the tests that leave it as they found it: "tiny" is loaded, "spare" is not, "absent" has no
    weights, and "slow" takes a while for each batch."""
    home, models = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models")
    for name in ("tiny", "spare", "absent"):
        tinyonnx.install(home, models, name)
    tinyonnx.install(home, models, "slow", tinyonnx.graph(work=500))
    (home / "weights" / "absent" / "model.onnx").unlink()
    process = Process(
        home,
        models,
        CUSTOMHOUSE_INFERENCE_MODELS="tiny,slow",
        CUSTOMHOUSE_INFERENCE_DEVICE="cuda",
        CUSTOMHOUSE_INFERENCE_QUEUE_LIMIT="16",
        CUSTOMHOUSE_INFERENCE_MAX_BATCH="4",
    )
    yield process
    assert process.close() == 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Process]:
    """A process of the test's own, to be maltreated: "tiny" and "slow" are loaded."""
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    tinyonnx.install(home, models, "tiny")
    tinyonnx.install(home, models, "slow", tinyonnx.graph(work=9000))
    with Process(home, models, CUSTOMHOUSE_INFERENCE_MODELS="tiny,slow") as process:
        yield process


def named(process: Process, name: str) -> ModelStatus:
    return next(model for model in process.models.status().models if model.name == name)


def bright(process: Process, level: int, model: str = "tiny") -> float:
    return round(process.models.look(LookRequest([picture(level)], [model]))[0][model].scores["bright"], 3)


def in_background(*calls: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=call) for call in calls if callable(call)]
    for thread in threads:
        thread.start()
    return threads


def asked_until_in_hand(process: Process, ask: Callable[[], object], name: str = "slow") -> threading.Thread:
    """The thread of an `ask` that the model has begun and not answered. What was answered before anybody saw it being
    worked on, which a loaded machine manages, is asked again."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        [asker] = in_background(ask)
        while asker.is_alive():
            status = named(process, name)
            if sum(size * times for size, times in sizes(status).items()) > status.answered:
                return asker
    raise AssertionError(f"{name} was never seen at work")


def sizes(status: ModelStatus) -> dict[int, int]:
    return {int(size): times for size, times in status.batches.items()}


# --- asking ----------------------------------------------------------------------------------------------------------


def test_several_models_answer_about_the_same_pictures_in_one_call(shared: Process):
    items = shared.models.look(LookRequest([picture(0), picture(255)], ["tiny", "slow"]))
    assert [round(item["tiny"].scores["bright"], 3) for item in items] == [0, 1]
    assert [round(item["slow"].scores["bright"], 3) for item in items] == [0, 1]
    answer = items[0]["tiny"]
    assert (answer.batch, len(answer.digest)) == (2, 12)
    assert answer.ms > 0
    assert answer.device == named(shared, "tiny").device


def test_a_model_that_cannot_answer_is_a_problem_of_its_own_and_not_the_calls(shared: Process):
    [item] = shared.models.look(
        LookRequest([picture(255)], ["tiny", "absent", "spare", "nobody"], "no-judge", [Question("cat", "A cat?")])
    )
    assert item["tiny"].problem is None
    said = {name: item[name].problem for name in ("absent", "spare", "nobody", "no-judge")}
    assert all(problem and problem.code == "MODEL_UNAVAILABLE" and not problem.passing for problem in said.values())
    assert said["absent"] is not None
    assert said["absent"].message == "absent is not installed; run: customhouse models fetch absent"
    assert said["spare"] is not None
    assert "not loaded" in said["spare"].message


def test_a_model_is_not_asked_what_it_was_not_made_for(shared: Process):
    [item] = shared.models.read(ReadRequest(["a text"], ["tiny"], judge="tiny", prompt="be kind"))
    assert item["tiny"].problem is not None
    assert "No model of the right kind" in item["tiny"].problem.message


def test_no_picture_and_no_model_are_no_answer_and_no_error(shared: Process):
    assert shared.models.look(LookRequest([], ["tiny"])) == []
    assert shared.models.look(LookRequest([picture(1)], [])) == [{}]


def test_a_damaged_picture_is_a_problem_and_its_neighbours_are_answered(shared: Process):
    items = shared.models.look(LookRequest([picture(255), Pixels(9, 9, b"?"), picture(0)], ["tiny"]))
    assert [item["tiny"].problem is None for item in items] == [True, False, True]


def test_callers_at_the_same_time_share_batches(shared: Process):
    before = sizes(named(shared, "slow"))
    for thread in in_background(*[lambda: bright(shared, 9, "slow")] * 9):
        thread.join()
    after = sizes(named(shared, "slow"))
    assert sum(after.get(size, 0) - before.get(size, 0) for size in (2, 3, 4)) > 0


def test_a_full_queue_says_busy_and_what_waited_is_answered(shared: Process):
    outcomes: list[str] = []

    def ask() -> None:
        try:
            shared.models.look(LookRequest([picture(7)] * 5, ["slow"]))
            outcomes.append("answered")
        except InferenceDown as error:
            outcomes.append(error.message.split(":")[0])

    for thread in in_background(*[ask] * 9):
        thread.join()
    assert set(outcomes) == {"answered", "slow is busy"}


def test_a_caller_whose_patience_ends_gets_a_timeout_and_its_items_are_dropped(shared: Process):
    answered = named(shared, "slow").answered
    busy = asked_until_in_hand(shared, lambda: shared.models.look(LookRequest([picture(7)] * 8, ["slow"])))
    hasty = Models(shared.socket, 0.05)
    with pytest.raises(InferenceTimeout, match=r"within 0\.05 s"):
        hasty.look(LookRequest([picture(7)], ["slow"]))
    hasty.close()
    busy.join()
    assert (named(shared, "slow").answered - answered) % 8 == 0


def test_a_body_that_is_not_the_wires_is_refused_in_words(shared: Process):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(shared.socket))
    for path, status in (("/look", 400), ("/nowhere", 404), ("/models/tiny/paint", 404)):
        connection.request("POST", path, b"\xc1 not msgpack")
        response = connection.getresponse()
        assert response.status == status
        assert msgspec.msgpack.decode(response.read())["message"]
    connection.close()


# --- states ----------------------------------------------------------------------------------------------------------


def test_the_status_tells_the_truth(shared: Process):
    status = shared.models.status()
    states = {model.name: model.state for model in status.models}
    assert states == {
        "tiny": ModelState.READY,
        "slow": ModelState.READY,
        "spare": ModelState.UNLOADED,
        "absent": ModelState.ABSENT,
    }
    assert (status.pid, status.rss_bytes > 10_000_000, status.uptime_s > 0) == (shared.popen.pid, True, True)
    tiny = named(shared, "tiny")
    assert tiny.memory_bytes > 0
    assert tiny.wanted_device == "cuda:0"
    if tiny.device == "cpu":  # cuda was asked for on a machine that has none
        assert status.device == "cpu"
        assert status.degraded
        assert all("cuda asked for, not used, because " in sentence for sentence in status.degraded)
    else:
        assert status.degraded == []


def test_load_and_unload_by_name(shared: Process):
    assert shared.models.load("spare").state is ModelState.READY
    assert shared.models.load("spare").state is ModelState.READY
    assert bright(shared, 255, "spare") == 1
    unloaded = shared.models.unload("spare")
    assert (unloaded.state, unloaded.memory_bytes) == (ModelState.UNLOADED, 0)
    with pytest.raises(ModelUnavailable, match="run: customhouse models fetch absent"):
        shared.models.load("absent")
    with pytest.raises(ModelUnavailable, match="No model is called nobody"):
        shared.models.reload("nobody")


def test_the_socket_is_the_groups_and_a_second_process_is_refused(shared: Process):
    assert stat.S_IMODE(shared.socket.stat().st_mode) == 0o660
    second = shared.spawn()
    assert b"a model process is already running" in second.communicate(timeout=60)[1]
    assert second.returncode == 1
    assert bright(shared, 255) == 1


# --- kept alive ------------------------------------------------------------------------------------------------------


def test_a_reload_under_traffic_drops_no_request(own: Process):
    seen: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.append(bright(own, 255))

    askers = in_background(*[ask] * 8)
    digests = {named(own, "tiny").digest}
    for round_ in range(6):
        tinyonnx.install(own.home, own.home.parent / "models", "tiny", tinyonnx.graph(inverted=round_ % 2 == 0))
        digests.add(own.models.reload("tiny").digest)
    before_the_last, until = len(seen), time.monotonic() + 60
    while len(seen) < before_the_last + 40 and time.monotonic() < until:
        time.sleep(0.005)
    stop.set()
    for asker in askers:
        asker.join()
    assert len(digests) == 2
    assert set(seen) == {0.0, 1.0}
    assert set(seen[-20:]) == {1.0}


def test_a_reload_that_fails_leaves_the_old_model_answering_and_says_so(own: Process):
    weights = own.home / "weights" / "tiny" / "model.onnx"
    weights.write_bytes(b"not a graph")
    with pytest.raises(ModelUnavailable, match="torn or was replaced"):
        own.models.reload("tiny")
    assert bright(own, 255) == 1
    assert named(own, "tiny").state is ModelState.READY
    assert any("torn or was replaced" in sentence for sentence in own.models.status().degraded)
    weights.write_bytes(tinyonnx.graph())
    own.models.reload("tiny")
    assert own.models.status().degraded == []


def test_killed_in_mid_call_is_down_for_the_caller_and_a_new_one_answers(own: Process):
    caught: list[Exception] = []

    def ask() -> None:
        try:
            own.models.look(LookRequest([picture(1)], ["slow"]))
        except InferenceDown as error:
            caught.append(error)

    asker = asked_until_in_hand(own, ask)
    os.kill(own.popen.pid, signal.SIGKILL)
    own.popen.communicate()
    asker.join(10)
    assert len(caught) == 1
    with pytest.raises(InferenceDown, match="does not answer"):
        own.models.status()
    assert own.socket.exists()  # the stale one is replaced
    own.start()
    assert bright(own, 255) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_finishes_what_is_in_hand(own: Process, number: signal.Signals):
    answers: list[float] = []
    asker = asked_until_in_hand(own, lambda: answers.append(bright(own, 255, "slow")))
    seen = len(answers)
    os.kill(own.popen.pid, number)
    asker.join(20)
    assert answers == [1.0] * (seen + 1)
    own.popen.communicate(timeout=20)
    assert own.popen.returncode == 0
    assert not own.socket.exists()


# --- starting --------------------------------------------------------------------------------------------------------


def test_a_named_model_that_cannot_be_opened_ends_the_start_with_a_sentence(tmp_path: Path):
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    tinyonnx.install(home, models, "broken", b"not a graph")
    with pytest.raises(RuntimeError, match=r"customhouse: .*broken/model\.onnx: onnxruntime cannot open it"):
        Process(home, models, CUSTOMHOUSE_INFERENCE_MODELS="broken")


def test_systemd_hears_that_it_is_ready_once_the_models_are_loaded(tmp_path: Path):
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    tinyonnx.install(home, models, "tiny")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(10)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "CUSTOMHOUSE_INFERENCE_MODELS": "tiny"}
        with Process(home, models, **environ) as process:
            assert ear.recv(200) == b"READY=1\nSTATUS=1 model answers on cpu"
            assert named(process, "tiny").state is ModelState.READY
        assert ear.recv(200).startswith(b"STOPPING=1\n")
        assert process.popen.returncode == 0


# --- real weights ----------------------------------------------------------------------------------------------------

WEIGHTS = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
"""Set by ./install.sh test."""


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    if not WEIGHTS:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    home = tmp_path_factory.mktemp("starter")
    (home / "weights").symlink_to(Path(WEIGHTS).resolve())
    with Process(home, CUSTOMHOUSE_INFERENCE_MODELS="opennsfw,image-safety-s,nsfwjs,faces-age") as process:
        yield process


def photograph(path: Path) -> Pixels:
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return Pixels(picture.shape[1], picture.shape[0], picture.tobytes())


@pytest.mark.weights
def test_the_starter_models_answer_about_photographs(starter: Process):
    pictures = [photograph(path) for path in sorted(MEDIA.glob("*.jpg"))]
    names = ["opennsfw", "image-safety-s", "nsfwjs", "faces-age"]
    for item in starter.models.look(LookRequest(pictures, names)):
        assert {name: item[name].problem for name in names} == dict.fromkeys(names)
        assert item["opennsfw"].scores["nsfw"] < 0.5
        for name in ("opennsfw", "image-safety-s", "nsfwjs"):
            assert sum(item[name].scores.values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.weights
def test_unload_gives_the_memory_back(starter: Process):
    before = starter.models.status().rss_bytes
    held = starter.models.status()
    for name in ("opennsfw", "image-safety-s", "nsfwjs"):
        starter.models.unload(name)
    freed = before - starter.models.status().rss_bytes
    files = sum(
        path.stat().st_size
        for name in ("opennsfw", "image-safety-s", "nsfwjs")
        for path in (starter.home / "weights" / name).glob("*.onnx")
    )
    assert freed > files * 0.8, f"{freed} of {[model.memory_bytes for model in held.models]}"
    for name in ("opennsfw", "image-safety-s", "nsfwjs"):
        assert starter.models.load(name).state is ModelState.READY
