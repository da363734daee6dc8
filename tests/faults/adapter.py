"""The model process, from which the GPU can be taken away: `python -m tests.faults.adapter`. While FAULTS_GPU names a
file that holds this process's number, onnxruntime says what it says when CUDA gave up on a process: to everybody, until
the process ends. All else is the product's own."""

import os
import sys
from pathlib import Path
from typing import Any

from appliance import log, settings
from appliance.errors import ModelRefused
from appliance.inference import onnx, server


def main() -> int:
    flag = Path(os.environ["FAULTS_GPU"])
    real = onnx.Session.run

    def run(self: onnx.Session, *asked: Any, **more: Any) -> Any:
        if flag.exists() and flag.read_text() == str(os.getpid()):
            raise ModelRefused("onnxruntime: CUDA failure 719: unspecified launch failure", permanent=False)
        return real(self, *asked, **more)

    onnx.Session.run = run  # type: ignore[method-assign]
    loaded = settings.load()
    log.configure(loaded.log)
    return server.main(loaded)


if __name__ == "__main__":
    sys.exit(main())
