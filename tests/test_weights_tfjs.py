"""The converter: what it writes computes what the source says, the same bytes every time, or it says what it cannot."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from appliance.inference import manifest as manifests
from appliance.inference import tfjs
from appliance.inference.onnx import Session
from appliance.inference.tfjs import ConversionError
from tests.tinygraph import BIAS, GRAPH, KERNEL, WEIGHTS, converted, graph, ints, node, shape, text

Array = NDArray[Any]


def run(model: bytes, tmp_path: Path, value: Array) -> dict[str, Array]:
    (tmp_path / "model.onnx").write_bytes(model)
    session = Session(tmp_path / "model.onnx", threads=1)
    names = [port.name for port in session.outputs]
    return dict(zip(names, session.run({session.inputs[0].name: value}), strict=True))


def picture(*sizes: int) -> Array:
    return np.random.default_rng(2).normal(size=sizes).astype(np.float32)


def convolved(value: Array, kernel: Array, stride: int, *, same: bool) -> Array:
    """A convolution written out, in float64. `same` puts the odd row and column of zeros last, as TensorFlow does."""
    size, total = kernel.shape[0], value.shape[1]
    out = -(-total // stride) if same else (total - size) // stride + 1
    around = max((out - 1) * stride + size - total, 0) if same else 0
    padded = np.pad(value.astype(np.float64), ((0, 0), *[(around // 2, around - around // 2)] * 2, (0, 0)))
    result = np.zeros((value.shape[0], out, out, kernel.shape[3]))
    for row in range(out):
        for column in range(out):
            patch = padded[:, row * stride : row * stride + size, column * stride : column * stride + size]
            result[:, row, column] = np.tensordot(patch, kernel, axes=([1, 2, 3], [0, 1, 2]))
    return result


def softmax(value: Array) -> Array:
    raised = np.exp(value - value.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def test_a_small_classifier_computes_what_its_source_says(tmp_path: Path) -> None:
    value = picture(5, 8, 8, 3)
    expected = softmax(np.clip(convolved(value, KERNEL, 2, same=True) + BIAS, 0, 6).mean(axis=(1, 2)))
    np.testing.assert_allclose(run(converted(), tmp_path, value)["out"], expected, atol=1e-6)


def test_the_same_source_gives_the_same_bytes() -> None:
    assert converted() == converted()
    assert (
        hashlib.sha256(converted()).hexdigest() == "7934435d055dde5e7e45afbd8a6e4150e73f7eae324303dfc6603331a182f9b6"
    ), "a digest pinned in a manifest would change as well"


def test_a_depthwise_convolution_keeps_each_channel_to_itself(tmp_path: Path) -> None:
    kernel = np.random.default_rng(3).normal(size=(3, 3, 4, 2)).astype(np.float32)
    model = tfjs.convert(
        *_one_shard(
            graph(
                [
                    node("input", "Placeholder", **{"shape": shape(-1, 7, 7, 4)}),
                    node(
                        "out",
                        "DepthwiseConv2dNative",
                        "input",
                        "kernel",
                        strides=ints(1, 1, 1, 1),
                        padding=text("VALID"),
                    ),
                ],
                {"kernel": kernel},
            )
        )
    )
    value = picture(2, 7, 7, 4)
    got = run(model, tmp_path, value)["out"]
    for channel in range(4):
        alone = convolved(value[..., channel : channel + 1], kernel[:, :, channel : channel + 1], 1, same=False)
        np.testing.assert_allclose(got[..., channel * 2 : channel * 2 + 2], alone, atol=1e-5)


def test_what_the_optimiser_fused_is_taken_apart(tmp_path: Path) -> None:
    weight = np.random.default_rng(4).normal(size=(4, 3)).astype(np.float32)
    fused = {"list": {"s": [base64.b64encode(each).decode() for each in (b"BiasAdd", b"Relu")]}}
    nodes = [
        node("input", "Placeholder", **{"shape": shape(-1, 6, 6, 3)}),
        node(
            "conv",
            "_FusedConv2D",
            "input",
            "kernel",
            "bias",
            strides=ints(1, 1, 1, 1),
            padding=text("SAME"),
            fused_ops=fused,
        ),
        node("pooled", "AvgPool", "conv", ksize=ints(1, 6, 6, 1), strides=ints(1, 1, 1, 1), padding=text("VALID")),
        node("flat", "Squeeze", "pooled", squeeze_dims=ints(1, 2)),
        node("out", "_FusedMatMul", "flat", "weight", "last", fused_ops=fused),
    ]
    constants = {"kernel": KERNEL, "bias": BIAS, "weight": weight, "last": np.array([0.1, -9.0, 0.2], np.float32)}
    value = picture(2, 6, 6, 3)
    pooled = np.maximum(convolved(value, KERNEL, 1, same=True) + BIAS, 0).mean(axis=(1, 2))
    got = run(tfjs.convert(*_one_shard(graph(nodes, constants))), tmp_path, value)["out"]
    np.testing.assert_allclose(got, np.maximum(pooled @ weight + constants["last"], 0), atol=1e-5)


def test_batch_norm_padding_and_concatenation_are_written_out(tmp_path: Path) -> None:
    scale, offset, mean, variance = (
        np.random.default_rng(seed).random(3).astype(np.float32) + 0.5 for seed in range(4)
    )
    nodes = [
        node("input", "Placeholder", **{"shape": shape(-1, 4, 4, 3)}),
        node("norm", "FusedBatchNormV3", "input", "scale", "offset", "mean", "variance", epsilon={"f": 0.01}),
        node("padded", "Pad", "norm", "pads"),
        node("both", "ConcatV2", "padded", "padded", "axis"),
        node("out", "MaxPool", "both", ksize=ints(1, 2, 2, 1), strides=ints(1, 2, 2, 1), padding=text("SAME")),
    ]
    constants = {
        "scale": scale,
        "offset": offset,
        "mean": mean,
        "variance": variance,
        "pads": np.array([[0, 0], [0, 1], [1, 0], [0, 0]], np.int32),
        "axis": np.array(3, np.int32),
    }
    value = picture(2, 4, 4, 3)
    norm = (value - mean) / np.sqrt(variance + 0.01) * scale + offset
    both = np.concatenate([np.pad(norm, ((0, 0), (0, 1), (1, 0), (0, 0)))] * 2, axis=3)
    padded = np.pad(both, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    expected = padded.reshape(2, 3, 2, 3, 2, 6).max(axis=(2, 4))
    got = run(tfjs.convert(*_one_shard(graph(nodes, constants))), tmp_path, value)["out"]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_fixed_batch_of_one_becomes_open(tmp_path: Path) -> None:
    nodes = [
        node("input", "Placeholder", **{"shape": shape(1, 2, 2, 3)}),
        node("out", "Reshape", "input", "to"),
    ]
    model = tfjs.convert(*_one_shard(graph(nodes, {"to": np.array([1, 4, 3], np.int32)})))
    value = picture(5, 2, 2, 3)
    np.testing.assert_array_equal(run(model, tmp_path, value)["out"], value.reshape(5, 4, 3))


def test_quantised_weights_are_scaled_back_in_double_precision(tmp_path: Path) -> None:
    stored = np.array([0, 1, 200, 255], np.uint8)
    scale, low = 0.0003003472352729124, -0.020723959233830958
    source = json.loads(graph([node("input", "Placeholder", **{"shape": shape(-1, 4)})], {})[0])
    source["modelTopology"]["node"] += [node("factor", "Const"), node("out", "Mul", "input", "factor")]
    packed = {"min": low, "scale": scale, "dtype": "uint8"}
    source["weightsManifest"] = [
        {"paths": ["w"], "weights": [{"name": "factor", "shape": [4], "dtype": "float32", "quantization": packed}]}
    ]
    model = tfjs.convert(json.dumps(source).encode(), [stored.tobytes()])
    expected = np.array([each * scale + low for each in stored.tolist()]).astype(np.float32)
    np.testing.assert_array_equal(run(model, tmp_path, np.ones((1, 4), np.float32))["out"][0], expected)


def test_a_minified_javascript_module_is_read_without_running_it() -> None:
    literal = '{format:"graph-model",on:!0,off:!1,low:-.5,tiny:.25e-3,none:null,text:"a \\"b:\\" {c}",list:[1,-2,{}]}'
    module = f"!function(t){{module.exports=t()}}(function(){{}}({{1:[function(t,e,a){{e.exports={literal}}},{{}}]}}))"
    assert json.loads(tfjs._as_json(tfjs._exported(module.encode()).decode())) == {  # pyright: ignore[reportPrivateUsage]
        "format": "graph-model",
        "on": True,
        "off": False,
        "low": -0.5,
        "tiny": 0.00025,
        "none": None,
        "text": 'a "b:" {c}',
        "list": [1, -2, {}],
    }


def test_weights_may_come_as_a_module_with_base64_and_in_several_files() -> None:
    half = len(WEIGHTS) // 2
    module = b'!function(){}({1:[function(i,m,h){m.exports="' + base64.b64encode(WEIGHTS[:half]) + b'"},{}]},{},[1])(1)'
    assert tfjs.convert(GRAPH, [module, WEIGHTS[half:]]) == converted()


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([node("out", "Einsum", "input")], r"Einsum \(out\) is not in the table"),
        ([node("out", "Relu", "nowhere")], "nowhere is used but not in the graph"),
        ([node("a", "Relu", "out"), node("out", "Relu", "a")], "circle"),
        ([node("out", "Conv2D", "input", "input", strides=ints(1, 1, 1, 1), padding=text("SAME"))], "not constant"),
        ([node("out", "Squeeze", "input")], "axes are not given"),
        ([node("out", "Relu", "input:1")], "several outputs"),
        ([node("out", "MaxPool", "input", data_format=text("NCHW"))], "data_format NCHW"),
        ([node("out", "MaxPool", "input")], "not as TensorFlow.js writes one"),
        ([node("out", "Const")], "none of the weight files"),
    ],
)
def test_what_cannot_be_written_is_named(nodes: list[dict[str, Any]], says: str) -> None:
    source = graph([node("input", "Placeholder", **{"shape": shape(-1, 4, 4, 3)}), *nodes], {})
    with pytest.raises(ConversionError, match=says):
        tfjs.convert(*_one_shard(source))


@pytest.mark.parametrize(
    ("model", "shards", "says"),
    [
        (b"not json", [], "exports neither"),
        (b"{}", [], "not a TensorFlow.js graph model"),
        (b"{broken", [], "not JSON"),
        (b"x.exports={a:alert(1)}", [], "not plain data"),
        (GRAPH, [], "weight files end before"),
        (GRAPH, [WEIGHTS, b"more"], "4 bytes of the weight files belong to no weight"),
        (GRAPH, [b'!function(){m.exports="***"}'], "no base64"),
    ],
)
def test_files_that_are_no_graph_model_are_refused(model: bytes, shards: list[bytes], says: str) -> None:
    with pytest.raises(ConversionError, match=says):
        tfjs.convert(model, shards)


def _one_shard(files: tuple[bytes, bytes]) -> tuple[bytes, list[bytes]]:
    return files[0], [files[1]]


@pytest.mark.weights
@pytest.mark.parametrize(("model", "file"), [("nsfwjs", "nsfwjs.onnx"), ("faces-age", "blazeface.onnx")])
def test_a_converted_starter_model_is_the_one_that_was_compared_with_tensorflow_js(model: str, file: str) -> None:
    """What TensorFlow.js 4.22 (CPU) gave for these pictures stands in tests/golden; the digest is the manifest's."""
    folder = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
    if folder is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set")
    path = Path(folder) / model / file
    said = manifests.read(Path(__file__).parent.parent / "models" / model)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == next(
        each.sha256 for each in said.files if each.name == file
    )
    assert onnx.load(path).producer_name == "customhouse"
    golden = json.loads((Path(__file__).parent / "golden" / f"tfjs-{model}.json").read_text())
    session = Session(path, threads=1)
    size, low, high = golden["size"], golden["low"], golden["high"]
    for case in golden["cases"]:
        noise = np.random.default_rng(case["seed"]).random((1, size, size, 3), np.float32) * (high - low) + low
        got = dict(
            zip((port.name for port in session.outputs), session.run({"input": noise.astype(np.float32)}), strict=True)
        )
        for name, expected in case["outputs"].items():
            flat = got[name].reshape(-1)[:: expected["step"]]
            # Boxes are in pixels: the tolerance is of the largest value.
            largest = max(1.0, float(np.abs(expected["values"]).max()))
            np.testing.assert_allclose(flat, expected["values"], atol=1e-5 * largest)
