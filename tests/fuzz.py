"""`python -m tests.fuzz [--seconds N] [--seed N] [--report FOLDER]`: schemathesis against the running server.

It reads the OpenAPI document and sends what that allows and what it does not, and follows its links. The server is the
real one, started by its own command with a worker beside it and a Stripe of ours, on loopback with no way out.
Without `--seconds` it goes on for ten minutes.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from appliance.accounts import scopes
from appliance.house import House
from appliance.settings import Settings
from tests.cast import Person, enrol
from tests.fakestripe import serving
from tests.paying import Till, leading_to
from tests.test_api_server import free_port

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "schemathesis.toml"
PATIENCE_S = 60.0
PHASES = ("examples", "coverage", "fuzzing", "stateful")


class Box:
    """`customhouse serve` and `customhouse work` over a state directory; two accounts, whose keys may do everything."""

    def __init__(self, home: Path) -> None:
        self._opened = contextlib.ExitStack()
        stripe = self._opened.enter_context(serving())
        settings = leading_to(Settings(home=home / "state"), stripe)
        settings.home.mkdir(mode=0o750)
        programs = ["serve", "work"]
        if weights := os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS"):
            (settings.home / "weights").symlink_to(Path(weights).resolve())
            programs.append("infer")
        self.house = House(settings)
        self.caller, self.other = (enrol(self.house, name, name, granted=scopes.ALL) for name in ("alice", "charlie"))
        self.house.db.write(
            lambda conn: conn.execute(
                # Set here, these go before what a plan says: what is generated may be a plan of one request a minute.
                "UPDATE organisation SET requests_per_minute = 1000000, burst_per_second = 0, charge_method = 'none'"
            )
        )
        till = Till(self.house, stripe)
        for _ in range(3):
            till.card(self.caller.org_id)
        till.close()
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CUSTOMHOUSE_")},
            "PYTHONPATH": str(HERE / "offline"),
            "CUSTOMHOUSE_HOME": str(settings.home),
            "CUSTOMHOUSE_SERVER_PORT": str(port),
            "CUSTOMHOUSE_SERVER_ADMIN_ON_NETWORK": "true",
            "CUSTOMHOUSE_LIMITS_FAILED_AUTH_PER_MINUTE": "1000000",
            "CUSTOMHOUSE_BILLING_STRIPE_KEY_FILE": settings.billing.stripe_key_file,
            "CUSTOMHOUSE_BILLING_STRIPE_ADDRESS": stripe.address,
            "CUSTOMHOUSE_WORKER_RETRY_BASE_S": "0.2",
            "CUSTOMHOUSE_LOG_LEVEL": "warning",
        }
        # What only a judge can answer is asked for all the same; none is loaded, so that it is answered 503.
        asking = {
            "CUSTOMHOUSE_INFERENCE_VISION_JUDGE": "qwen3-vl-2b",
            "CUSTOMHOUSE_INFERENCE_TEXT_JUDGE": "qwen3guard-0.6b",
        }
        self._log_file = home / "processes.log"
        self._log = self._log_file.open("ab")
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "appliance", name],
                env={**environ, **(asking if name == "serve" else {})},
                stdout=self._log,
                stderr=self._log,
            )
            for name in programs
        ]
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and all(one.poll() is None for one in self._processes):
            try:
                if httpx.get(f"{self.url}/health/live", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError(f"not ready: {self.log()[-3000:]}")

    @property
    def is_let_in(self) -> bool:
        """What was generated did not close the account, or revoke the key, that it was sent with."""
        return all(
            httpx.get(f"{self.url}/api/v1/billing/balance", headers=one.headers).status_code == 200
            for one in (self.caller, self.other)
        )

    def log(self) -> str:
        return self._log_file.read_text(errors="replace")

    def close(self) -> None:
        for one in self._processes:
            one.send_signal(signal.SIGTERM)
        for one in self._processes:
            try:
                one.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        self._log.close()
        self._opened.close()
        self.house.close()


class Outcome(NamedTuple):
    """What schemathesis found: code 0 when nothing."""

    code: int
    text: str
    operations: int
    tested: int


def run(
    box: Box, folder: Path, *, seed: int, phases: tuple[str, ...] = PHASES, options: tuple[str, ...] = ()
) -> Outcome:
    """These phases against this box; the report lies in the folder as report.json and report.html."""
    path, keys = folder / "report.json", folder / "keys.json"
    keys.write_text(json.dumps({"auth": [_who("alice", box.caller), _who("charlie", box.other)]}))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
            f"{box.url}/schema/openapi.json",
            *("--phases", ",".join(phases), "--seed", str(seed), *options),
            *("--report-json-path", str(path), "--report-html-path", str(folder / "report.html")),
        ],
        env={
            **os.environ,
            "CUSTOMHOUSE_TEST_KEYS": str(keys),
            "CUSTOMHOUSE_TEST_SPARE": " ".join(
                (box.caller.org_id, box.caller.key_id, box.other.org_id, box.other.key_id)
            ),
            "PYTHONPATH": str(HERE.parent),
            "NO_COLOR": "1",
        },
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    operations = json.loads(path.read_text())["operations"] if path.exists() else {"selected": 0, "tested": 0}
    return Outcome(done.returncode, done.stdout, operations["selected"], operations["tested"])


def _who(name: str, person: Person) -> dict[str, Any]:
    headers = [{"name": header, "value": value} for header, value in person.headers.items()]
    return {"name": name, "fixedHeaders": headers}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--report", type=Path, default=Path("schemathesis-report"))
    parser.add_argument("--phases", default=",".join(PHASES))
    given = parser.parse_args(arguments)
    given.report.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        box = Box(Path(home))
        try:
            outcome = run(
                box,
                given.report.resolve(),
                seed=given.seed,
                phases=tuple(given.phases.split(",")),
                options=("--max-time", str(given.seconds)),
            )
        finally:
            box.close()
            (given.report / "processes.log").write_text(box.log())
    print(outcome.text)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
