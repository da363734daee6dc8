"""A TensorFlow.js graph model of a few nodes, made by code: for the converter and for fetching what is converted."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.inference import tfjs


def node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def shape(*sizes: int) -> dict[str, Any]:
    return {"shape": {"dim": [{"size": str(size)} for size in sizes]}}


def text(value: str) -> dict[str, Any]:
    import base64

    return {"s": base64.b64encode(value.encode()).decode()}


def ints(*values: int) -> dict[str, Any]:
    return {"list": {"i": [str(value) for value in values]}}


def graph(
    nodes: list[dict[str, Any]], constants: dict[str, NDArray[Any]], *, outputs: list[str] | None = None
) -> tuple[bytes, bytes]:
    """The model's JSON and its weight file."""
    entries = [
        {"name": name, "shape": list(value.shape), "dtype": value.dtype.name} for name, value in constants.items()
    ]
    source: dict[str, Any] = {
        "format": "graph-model",
        "modelTopology": {"node": [*(node(name, "Const") for name in constants), *nodes]},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": entries}],
    }
    if outputs:
        source["signature"] = {"outputs": {name: {"name": f"{name}:0"} for name in outputs}}
    return json.dumps(source).encode(), b"".join(value.tobytes() for value in constants.values())


KERNEL = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)
BIAS = np.array([0.5, -0.5, 0.25, 0.0], np.float32)

GRAPH, WEIGHTS = graph(
    [
        node("input", "Placeholder", **{"shape": shape(-1, 8, 8, 3)}),
        node("conv", "Conv2D", "input", "kernel", strides=ints(1, 2, 2, 1), padding=text("SAME")),
        node("biased", "BiasAdd", "conv", "bias"),
        node("relu", "Relu6", "biased"),
        node("mean", "Mean", "relu", "axes", keep_dims={"b": False}),
        node("out", "Softmax", "mean"),
    ],
    {"kernel": KERNEL, "bias": BIAS, "axes": np.array([1, 2], np.int32)},
)


def converted() -> bytes:
    return tfjs.convert(GRAPH, [WEIGHTS])
