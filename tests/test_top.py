"""`customhouse top`: what it shows of a box that is well, busy, or not there."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from appliance import settings as settings_file
from appliance.api import metrics
from appliance.commands.top import Rates, top
from appliance.house import House
from tests import standins
from tests.cast import Person

PATIENCE_S = 60.0


def run(house: House, *arguments: str) -> str:
    ran = CliRunner().invoke(top, ["--once", *arguments], env={"CUSTOMHOUSE_HOME": str(house.settings.home)})
    assert ran.exit_code == 0, ran.output
    return ran.stdout  # a slow probe may log on standard error


def test_it_works_with_everything_down(house: House) -> None:
    said = run(house)
    assert "Nothing is running. Start it: customhouse up" in said
    assert said.count("DOWN") == 3
    assert "the API does not answer" in said
    assert "0 open" in said


def test_it_works_without_a_state_directory_to_read(tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir()
    (home / "customhouse.db").write_bytes(b"this is no database, whatever it says" * 200)
    ran = CliRunner().invoke(top, ["--once"], env={"CUSTOMHOUSE_HOME": str(home)})
    assert ran.exit_code == 0, ran.output
    assert "queue and verdicts are not known" in ran.output


def test_it_shows_the_processes_models_and_queue_of_a_box_that_runs(
    client: TestClient[Any], house: House, alice: Person
) -> None:
    client.post("/api/v1/moderate/prompt", json={"prompt": "a harbour"}, headers=alice.headers)
    with standins.everybody(house.settings):
        said = run(house)
    assert "1 open: prompt 1 waiting, 0 in work" in said
    for name in ("api", "worker", "models"):
        line = next(line for line in said.splitlines() if line.startswith(name))
        assert " up " in line
    assert next(line for line in said.splitlines() if line.startswith("opennsfw")).split()[1] == "cpu"


def test_a_model_on_the_wrong_device_is_said(house: House) -> None:
    with standins.everybody(house.settings, standins.status(device="cpu", wanted="cuda:0")):
        said = run(house)
    assert "cpu NOT cuda:0" in said
    assert "CUDA IS NOT USED" in said


def test_as_json_it_holds_the_same(house: House) -> None:
    with standins.everybody(house.settings):
        found = json.loads(run(house, "--json"))
    assert {one["name"]: one["is_up"] for one in found["overview"]["processes"]} == {
        "api": True,
        "worker": True,
        "models": True,
    }
    assert {"overview", "survey", "api", "items_per_s"} == set(found)
    assert found["items_per_s"]["opennsfw"] == 0


def test_rates_and_latency_are_of_what_came_between_two_looks(house: House) -> None:
    def exposed() -> bytes:
        return metrics.text(house.db.reader(), {}, None, house.settings)

    metrics.answered("GET", "/one", 200, 5.0)
    rates = Rates()
    rates.look(exposed(), {"opennsfw": 10})
    for _ in range(99):
        metrics.answered("POST", "/one", 202, 2.0)
    metrics.answered("POST", "/one", 202, 700.0)
    metrics.answered("POST", "/one", 500, 2.0)
    api, items = rates.look(exposed(), {"opennsfw": 30})
    assert api is not None
    [route] = [one for one in api.routes if one.route == "/one"]
    assert 1.0 <= route.p50_ms <= 2.5, "in the bucket of 1 to 2.5 ms"
    assert 500 <= route.p99_ms <= 1000 or route.p99_ms <= 2.5
    assert api.errors_per_s > 0
    assert round(api.per_s / api.errors_per_s) == 101
    assert items["opennsfw"] > 0


def test_an_api_that_began_anew_shows_no_rates_of_before(house: House) -> None:
    text = metrics.text(house.db.reader(), {}, None, house.settings)
    metrics.answered("GET", "/one", 200, 5.0)
    rates = Rates()
    rates.look(metrics.text(house.db.reader(), {}, None, house.settings), {})
    api, _ = rates.look(text, {})
    assert api is not None
    assert (api.per_s, api.routes) == (0.0, ())
    assert rates.look(None, {})[0] is None


@pytest.mark.weights
def test_it_shows_a_box_at_work(models_served: Any) -> None:
    """Real processes: the API's figures come over its operators' socket."""
    loaded = settings_file.load(environ={"CUSTOMHOUSE_HOME": str(models_served.house.settings.home)})
    found: dict[str, Any] = {"api": None}
    until = time.monotonic() + PATIENCE_S
    while found["api"] is None or not all(one["is_up"] for one in found["overview"]["processes"]):  # a probe waits 2 s
        assert time.monotonic() < until, found
        ran = CliRunner().invoke(top, ["--once", "--json"], env={"CUSTOMHOUSE_HOME": str(loaded.home)})
        assert ran.exit_code == 0, ran.output
        found = json.loads(ran.stdout)
    assert {one["name"] for one in found["overview"]["processes"] if one["is_up"]} == {"api", "worker", "models"}
    assert all(one["rss_bytes"] > 0 for one in found["overview"]["processes"])


def test_no_line_is_left_open(house: House) -> None:
    """What is told is lines: nothing in them moves the cursor."""
    with standins.everybody(house.settings):
        assert "\x1b" not in run(house)
