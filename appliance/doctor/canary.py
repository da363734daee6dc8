"""`python -m appliance.doctor.canary DEVICE`: does onnxruntime truly work on that device? In a process of its own.

A graph of two products of matrices is opened by the product's own adapter and asked twenty times. The answer is checked
against numpy's, so a device that computes nonsense is found too.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance.inference.onnx import Session

_SIDE = 256
_ROUNDS = 20


def graph(weights: Any) -> bytes:
    """x @ W @ W, as ONNX."""
    make = cast(Any, helper)
    taken, given = (make.make_tensor_value_info(name, TensorProto.FLOAT, [_SIDE, _SIDE]) for name in ("x", "y"))
    nodes = [make.make_node("MatMul", ["x", "W"], ["once"]), make.make_node("MatMul", ["once", "W"], ["y"])]
    constant = cast(Any, numpy_helper).from_array(weights, "W")
    whole = make.make_graph(nodes, "canary", [taken], [given], [constant])
    model: Any = make.make_model(whole, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    cast(Any, onnx).checker.check_model(model)
    return cast(bytes, model.SerializeToString())


def main(device: str) -> dict[str, Any]:
    rng = np.random.Generator(np.random.PCG64(7))
    weights = (rng.random((_SIDE, _SIDE), np.float32) - 0.5) / 16
    asked = rng.random((_SIDE, _SIDE), np.float32)
    with tempfile.TemporaryDirectory(prefix=".doctor-") as folder:
        path = Path(folder) / "canary.onnx"
        path.write_bytes(graph(weights))
        begun = time.perf_counter()
        session = Session(path, device)
        opened = time.perf_counter()
        answers = [session.run({"x": asked})[0] for _ in range(_ROUNDS)]
        done = time.perf_counter()
        found = {
            "device": session.device,
            "providers": session.providers,
            "shortfall": session.shortfall,
            "open_ms": round((opened - begun) * 1000, 2),
            "run_ms": round((done - opened) * 1000 / _ROUNDS, 3),
            "is_right": all(bool(np.allclose(answer, asked @ weights @ weights, atol=2e-2)) for answer in answers),
        }
        session.close()
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1] if len(sys.argv) > 1 else "auto")))
