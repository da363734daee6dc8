"""A classifier of a few nodes, written as real ONNX with a real manifest: how bright a picture is.

`work` gives it that many products of two 192 × 192 matrices to compute first, for tests that need a model to take its
time; about 0.3 ms each.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import InferenceDown
from appliance.inference.client import Models
from appliance.inference.wire import Pixels

MANIFEST = """
name = "{name}"
title = "Bright or dark"
task = "image-classification"
runtime = "onnx"
licence = "Apache-2.0"

[[files]]
name = "model.onnx"
source = "file:model.onnx"
sha256 = "{sha256}"

[input]
width = 8
height = 8
scale = 0.00392156862745098

[output]
labels = ["dark", "bright"]
"""
CATEGORIES = "".join(
    f'[{slug}]\nlabel = "{slug}"\ndescription = "{slug}"\nicon = "eye"\n'
    for slug in ("nsfw", "ai_adult_general", "underage", "text")
)


def picture(level: int, side: int = 8) -> Pixels:
    return Pixels(side, side, bytes([level]) * (side * side * 3))


def graph(work: int = 0, inverted: bool = False, batch: int | str = "N") -> bytes:
    """[N,3,8,8] → [N,2]: 1 − mean and mean, or the other way round."""
    sides, offsets = ([1.0, -1.0], [0.0, 1.0]) if inverted else ([-1.0, 1.0], [1.0, 0.0])
    constants = [
        numpy_helper.from_array(np.array([sides], np.float32), "sides"),
        numpy_helper.from_array(np.array([offsets], np.float32), "offsets"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean4"], keepdims=1),
        helper.make_node("Flatten", ["mean4"], ["mean"]),
        helper.make_node("MatMul", ["mean", "sides"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offsets"], ["scores"]),
    ]
    if work:
        constants += [
            numpy_helper.from_array(np.array(work, np.int64), "times"),
            numpy_helper.from_array(np.array(True), "yes"),
            numpy_helper.from_array(np.full((192, 192), 1 / 192, np.float32), "factor"),
            numpy_helper.from_array(np.zeros((), np.float32), "nothing"),
        ]
        body = helper.make_graph(
            [helper.make_node("Identity", ["on"], ["go"]), helper.make_node("MatMul", ["state", "factor"], ["next"])],
            "product",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
            ],
        )
        nodes[:0] = [
            helper.make_node("ReduceMean", ["pixels"], ["level"], keepdims=0),
            helper.make_node("Add", ["factor", "level"], ["begin"]),  # of the input, so that it is not folded away
            helper.make_node("Loop", ["times", "yes", "begin"], ["product"], body=body),
            helper.make_node("ReduceMean", ["product"], ["product_mean"], keepdims=0),
            helper.make_node("Mul", ["product_mean", "nothing"], ["zero"]),
        ]
        nodes[-1] = helper.make_node("Add", ["scaled", "offsets"], ["plain"])
        nodes.append(helper.make_node("Add", ["plain", "zero"], ["scores"]))
    whole = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 2])],
        constants,
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def install(home: Path, models_dir: Path, name: str, data: bytes | None = None) -> Path:
    """Manifest and weights; the path of the weights."""
    (models_dir / name).mkdir(parents=True, exist_ok=True)
    data = graph() if data is None else data
    filled = MANIFEST.format(name=name, sha256=hashlib.sha256(data).hexdigest())
    (models_dir / name / "manifest.toml").write_text(filled)
    path = home / "weights" / name / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


class Process:
    """A real model process of its own, and a client of it."""

    def __init__(self, home: Path, models_dir: Path | None = None, **environ: str) -> None:
        self.socket = home / "run" / "inference.sock"
        self.home = home
        self.environ = {**os.environ, "CUSTOMHOUSE_HOME": str(home), "CUSTOMHOUSE_INFERENCE_THREADS": "1", **environ}
        if models_dir is not None:
            (home / "categories.toml").write_text(CATEGORIES)
            self.environ["CUSTOMHOUSE_MODELS_DIR"] = str(models_dir)
            self.environ["CUSTOMHOUSE_CATEGORIES_FILE"] = str(home / "categories.toml")
        self.models = Models(self.socket, 20.0)
        self.start()

    def spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "appliance", "infer"],
            env=self.environ,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with what it said when it does not start."""
        self.popen = self.spawn()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                self.models.status()
                return
            except InferenceDown:
                if self.popen.poll() is not None:
                    raise RuntimeError(self.said()) from None
                time.sleep(0.02)
        self.popen.kill()
        raise RuntimeError(f"the model process did not start within a minute: {self.said()}")

    def said(self) -> str:
        """Its standard error, once it has ended."""
        return self.popen.communicate()[1].decode()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> int:
        """Its exit status."""
        self.models.close()
        if self.popen.poll() is None:
            self.popen.terminate()
        self.popen.communicate(timeout=30)
        return self.popen.returncode
