"""The surfaces as their clients meet them: `customhouse serve`, and beside it the worker and the process that answers
for the starter models, over loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_api_server import Served, wait


class WithModels(Served):
    """A running server with all that decides."""

    def __init__(self, home: Path, **environ: str) -> None:
        weights = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
        if weights is None:
            pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
        (home / "weights").symlink_to(Path(weights).resolve())
        self.beside: list[subprocess.Popen[bytes]] = []
        super().__init__(home, **environ)

    def start(self) -> subprocess.Popen[bytes]:
        self.beside = [self.run("infer"), self.run("work")]
        socket = self.house.settings.inference_socket
        try:
            wait(lambda: socket.exists() or self.beside[0].poll() is not None)
            assert socket.exists(), self.log()[-2000:]
            return super().start()
        except BaseException:
            self.close()
            raise

    def run(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "appliance", command], env=self._environ, stdout=self._log, stderr=self._log
        )

    def close(self) -> None:
        for process in self.beside:
            process.kill()
            process.wait()
        if hasattr(self, "process"):
            super().close()
        else:
            self._log.close()
            self.house.close()
