"""Opening and asking onnx graphs, each described by a manifest alone."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.errors import Misconfigured, ModelRefused
from appliance.inference import manifest, onnx, runtime
from appliance.inference.manifest import Manifest
from appliance.inference.wire import Pixels
from appliance.settings import Inference, Settings
from tests import tinyonnx
from tests.tinyonnx import picture

replace = msgspec.structs.replace


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Settings:
    """Settings under which the model "tiny" is installed."""
    tinyonnx.install(settings.home, tmp_path / "models", "tiny")
    return replace(settings, models_dir=tmp_path / "models", inference=Inference(threads=1))


def described(house: Settings) -> Manifest:
    return manifest.read(house.models_dir / "tiny")


def test_a_manifest_is_all_that_a_classifier_needs(house: Settings):
    model = runtime.open_model(house, described(house))
    answers = model.answer([picture(0), picture(255, side=40), picture(51)])
    assert [round(answer.scores["bright"], 4) for answer in answers] == [0.0, 1.0, 0.2]
    assert [round(answer.scores["dark"], 4) for answer in answers] == [1.0, 0.0, 0.8]
    assert model.digest == hashlib.sha256(tinyonnx.graph()).hexdigest()[:12]
    assert model.memory_bytes > 0
    model.close()


def test_the_devices_name_is_what_is_used_and_a_shortfall_says_why(house: Settings):
    asked = replace(house, inference=Inference(device="cuda", threads=1))
    model = runtime.open_model(asked, described(house))
    assert (model.device == "cpu") == bool(model.shortfall)
    assert model.device in ("cpu", "cuda:0")
    model.close()
    plain = runtime.open_model(replace(house, inference=Inference(device="cpu", threads=1)), described(house))
    assert (plain.device, plain.shortfall) == ("cpu", "")
    plain.close()


def test_a_damaged_picture_is_its_own_problem(house: Settings):
    model = runtime.open_model(house, described(house))
    good, bad, also_good = model.answer([picture(255), Pixels(8, 8, b"short"), picture(0)])
    assert bad.problem is not None
    assert (bad.problem.code, bad.problem.passing) == ("MODEL_REFUSED", False)
    assert (good.scores["bright"], also_good.scores["bright"]) == (pytest.approx(1), pytest.approx(0))
    model.close()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", ["N", 4])
def test_batches_answer_as_single_pictures_do(house: Settings, threads: int, batch: int | str):
    tinyonnx.install(house.home, house.models_dir, "tiny", tinyonnx.graph(batch=batch))
    model = runtime.open_model(replace(house, inference=Inference(threads=threads)), described(house))
    levels = [picture(level) for level in range(0, 250, 10)]
    levels[7] = Pixels(8, 8, b"damaged")
    assert model.max_batch == 4 * threads
    together = model.answer(levels)
    assert [answer.scores for answer in together] == [model.answer([level])[0].scores for level in levels]
    assert [answer.problem is None for answer in together].index(False) == 7
    assert model.answer([]) == []
    model.close()


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (32, 32), (40, 40)])
def test_a_gpus_batches_come_in_few_sizes(count: int, size: int):
    assert onnx.bucket(count) == size


def test_activations():
    raw = np.array([[0.0, np.log(3.0)]], np.float32)
    assert onnx.activated(raw, "softmax").tolist() == [[pytest.approx(0.25), pytest.approx(0.75)]]
    assert onnx.activated(raw, "sigmoid").tolist() == [[pytest.approx(0.5), pytest.approx(0.75)]]
    assert onnx.activated(raw, "none") is raw


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('["dark", "bright"]', '["dark"]', "the manifest has 1 labels, but the graph gives 2 scores"),
        ("width = 8", "width = 9", r"the manifest says input \(3, 8, 9\), but the graph takes \(3, 8, 8\)"),
        ("width = 8", 'width = 8\nlayout = "NHWC"', "the graph takes"),
        ("labels", 'activation = "relu"\nlabels', "output.activation is 'relu'"),
        ("scale = 0.00392156862745098", "", "failed a test question: The model's output is no probability"),
        ('runtime = "onnx"', 'runtime = "tensorrt"', "no adapter opens runtime 'tensorrt'"),
    ],
)
def test_a_manifest_that_does_not_fit_its_graph_is_refused(house: Settings, before: str, after: str, says: str):
    path = house.models_dir / "tiny" / "manifest.toml"
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(Misconfigured, match=f"tiny: .*{says}"):
        runtime.open_model(house, described(house))


def test_a_file_that_is_missing_or_damaged_is_named(house: Settings):
    weights = house.weights_dir / "tiny" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(Misconfigured, match=r"tiny/model\.onnx: sha256 is not the one"):
        runtime.open_model(house, described(house))
    weights.unlink()
    with pytest.raises(Misconfigured, match="is not there; run: customhouse models fetch tiny"):
        runtime.open_model(house, described(house))


def test_a_failed_run_is_onnxruntimes_reason(house: Settings):
    session = onnx.Session(house.weights_dir / "tiny" / "model.onnx", "cpu", 1)
    assert session.inputs == [onnx.Port("pixels", (None, 3, 8, 8), "float32")]
    assert session.outputs == [onnx.Port("scores", (None, 2), "float32")]
    with pytest.raises(ModelRefused, match=r"onnxruntime: .*dimensions"):
        session.run({"pixels": np.zeros((1, 3, 9, 9), np.float32)})
    session.close()
