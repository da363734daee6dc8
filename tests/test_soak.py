"""The soak and the overload of `customhouse bench`: that they judge rightly, and that a short run tells the truth.
How fast anything is, is not a test's business."""

import asyncio
import os
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.bench import overload, plot, record, soak
from appliance.bench.openloop import Load, Shot, fire, fire_all
from appliance.settings import Settings
from tests.test_bench_callers import served

WEIGHTS = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")


# --- growth -----------------------------------------------------------------------------------------------------------


def points(per_hour: float, noise: float = 3.0, seconds: int = 1200, spikes: bool = False) -> list[tuple[float, float]]:
    chance = random.Random(7)
    found: list[tuple[float, float]] = []
    for at in range(0, seconds, 3):
        value = 500 + at * per_hour / 3600 + chance.uniform(-noise, noise)
        found.append((float(at), value + (300 if spikes and chance.random() < 0.05 else 0)))
    return found


def test_what_stays_is_steady_however_it_jitters() -> None:
    assert record.slope(points(0.0)).says(40.0) == "steady"
    assert record.slope(points(0.0, spikes=True)).says(40.0) == "steady"


def test_a_leak_is_found_below_noise_and_spikes() -> None:
    slope = record.slope(points(120.0, spikes=True))
    assert slope.says(40.0) == "grows"
    assert slope.lower < 120.0 < slope.upper
    assert slope.last > slope.first


def test_too_short_or_uneven_a_run_is_called_unclear() -> None:
    assert record.slope(points(0.0, noise=60.0, seconds=300)).says(40.0) == "unclear"


def test_two_points_and_one_value_do_not_break_it() -> None:
    assert record.slope([(0.0, 5.0), (3.0, 5.0)]).per_hour == 0.0
    assert record.slope([(0.0, 5.0), (0.0, 5.0)]).per_hour == 0.0


def test_a_short_run_is_judged_on_nothing_and_a_leak_in_a_long_one_is_named() -> None:
    short = soak.judged({"pss_mb": {"api": points(4000.0, seconds=60)}, "fds": {}, "threads": {}})
    assert short["api"]["pss_mb"]["verdict"] == "too short a run"
    long = soak.judged({"pss_mb": {"api": points(4000.0)}, "fds": {"api": points(0.0, noise=0)}, "threads": {}})
    assert {name: one["verdict"] for name, one in long["api"].items()} == {"pss_mb": "grows", "fds": "steady"}


def test_a_run_is_well_only_when_nothing_grew_was_lost_or_fell_over() -> None:
    def summary(**how: Any) -> dict[str, Any]:
        return {
            "processes": {"api": {"fds": {"verdict": how.get("verdict", "steady")}}},
            "jobs": {"without_verdict": how.get("lost", 0)},
            "webhooks": {"never_told": how.get("untold", 0), "unstable_ids": 0},
            "restarted": how.get("restarted", []),
            "wrong_answers": how.get("wrong", {}),
        }

    assert soak.is_well(summary())
    assert soak.is_well(summary(verdict="unclear"))
    for wrong in (
        {"verdict": "grows"},
        {"lost": 1},
        {"untold": 1},
        {"restarted": ["api"]},
        {"wrong": {"polls": "500"}},
    ):
        assert not soak.is_well(summary(**wrong)), wrong


def test_what_a_process_takes_is_read_of_it_and_its_children() -> None:
    taken = record.of(os.getpid())
    assert taken.rss_mb > 10
    assert 0 < taken.pss_mb <= taken.rss_mb + 0.01
    assert taken.fds > 2
    assert taken.threads >= 1
    assert record.of(2**22 + 1).rss_mb == 0


# --- plots ------------------------------------------------------------------------------------------------------------


def test_a_spark_shows_the_way_up() -> None:
    assert plot.spark([(float(at), float(at)) for at in range(8)], 8) == "▁▂▃▄▅▆▇█"
    assert plot.spark([(0.0, 5.0), (1.0, 5.0)], 2) == "▁▁"
    assert plot.spark([]) == ""


def test_the_picture_is_sound_and_holds_each_line() -> None:
    text = plot.svg({"Memory <MB>": {"api": [(0, 1), (3, 2)], "a&b": [(0, 0), (3, 0)]}, "None": {}}, "a < b")
    root = ET.fromstring(text)
    lines = [one for one in root.iter() if one.tag.endswith("polyline")]
    assert len(lines) == 2
    assert "a&b" in [one.text for one in root.iter() if one.tag.endswith("text")]


# --- callers who do not wait ------------------------------------------------------------------------------------------


def test_callers_who_do_not_wait_ask_as_often_as_they_should() -> None:
    with served(200) as (port, asked):
        request = b"GET /######## HTTP/1.1\r\nHost: x\r\n\r\n"
        shots = fire(Load(port, request, rate=100, seconds=0.5, begin=7))
    assert len(shots) == 50
    assert {one.status for one in shots} == {200}
    assert sorted(asked)[0] == "/00000007"
    assert len(set(asked)) == 50


def test_who_finds_no_connection_or_no_answer_is_counted() -> None:
    none = asyncio.run(fire_all(Load(9, b"GET / HTTP/1.1\r\n\r\n", rate=100, seconds=0.1, connections=0)))
    assert {one.status for one in none} == {-1}
    nobody = asyncio.run(fire_all(Load(1, b"GET / HTTP/1.1\r\n\r\n", rate=100, seconds=0.1)))
    assert {one.status for one in nobody} == {0}


def test_what_became_of_an_overload_is_summed_up() -> None:
    shots = [
        Shot(0.0, 200, 10.0),
        Shot(0.1, 200, 30.0),
        Shot(0.2, 503, 2.0, 1),
        Shot(0.3, 503, 3.0),
        Shot(0.4, 0, 60_000.0),
        Shot(0.5, -1, 0.0),
    ]
    told = overload.summed(shots, 200)
    assert told["answers"] == {"200": 2, "503": 2, "unanswered": 1, "unsent": 1}
    assert told["refused_with_retry_after"] == "1 of 2"
    assert told["accepted_p99_ms_by_halves"] == [10.0, 30.0]
    assert overload.summed([], 200)["accepted_p99_ms"] is None


# --- the whole of it --------------------------------------------------------------------------------------------------


@pytest.mark.weights
def test_a_short_soak_records_every_process_and_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    if WEIGHTS is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "weights").symlink_to(Path(WEIGHTS).resolve())
    found = soak.run(settings, 0.15, tmp_path / "out", pace=0.5, every_s=1.0)
    lines = [msgspec.json.decode(line) for line in (tmp_path / "out" / "record.jsonl").read_bytes().splitlines()]
    assert {one["process"] for one in lines if "process" in one} == {"api", "worker", "models"}
    assert all(one["pss_mb"] > 0 and one["fds"] > 0 and one["threads"] > 0 for one in lines if "process" in one)
    assert {"prompts", "polls", "decisions", "refused"} <= {one["surface"] for one in lines if "surface" in one}
    assert found["jobs"]["accepted"] > 0
    assert found["jobs"]["without_verdict"] == 0
    assert (found["webhooks"]["never_told"], found["webhooks"]["unstable_ids"]) == (0, 0)
    assert found["webhooks"]["rows_a_job"] <= 1
    assert found["wrong_answers"] == {}
    assert found["restarted"] == []
    assert found["is_well"]
    assert msgspec.json.decode((tmp_path / "out" / "summary.json").read_bytes())["is_well"]
    assert ET.fromstring((tmp_path / "out" / "soak.svg").read_text()).tag.endswith("svg")
