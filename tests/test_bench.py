"""The benchmarks run and report; how fast is not a test's business."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.bench import gpu, history, jobs
from appliance.commands.bench import BENCHES, GPU, HISTORY
from appliance.errors import CustomhouseError
from appliance.settings import Settings

WEIGHTS = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")


@pytest.fixture
def fetched(settings: Settings) -> Settings:
    if WEIGHTS is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    home = settings.home
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "weights").exists():
        (home / "weights").symlink_to(Path(WEIGHTS).resolve())
    return msgspec.structs.replace(settings)


@pytest.mark.parametrize("path", [path for _, path in [*BENCHES.values(), GPU, HISTORY]])
def test_every_benchmark_that_is_named_is_there(path: str) -> None:
    module, function = path.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_accepts_are_counted_beside_hueys(settings: Settings) -> None:
    figures = jobs.accepts(settings, each=3)
    assert {"accepts_per_s", "huey_enqueues_per_s", "ratio", "p99_ms"} <= figures.keys()


@pytest.mark.weights
def test_classifiers_name_the_device_that_they_ran_on(fetched: Settings) -> None:
    figures = gpu.classifiers(fetched, batches=(1,), seconds=0.05)
    assert set(figures) == {"opennsfw", "image-safety-s", "nsfwjs"}
    assert all(one["device"] and one["images_per_s_batch_1"] for one in figures.values())


@pytest.mark.weights
def test_the_gpus_figures_are_refused_where_nothing_runs_on_one(fetched: Settings) -> None:
    if any(str(one["device"]).startswith("cuda") for one in gpu.classifiers(fetched, (1,), 0.01).values()):
        pytest.skip("this machine has a GPU")
    with pytest.raises(CustomhouseError, match="no classifier runs on CUDA"):
        gpu.run(fetched)


def test_history_is_measured_over_http_on_jobs_that_it_makes(settings: Settings) -> None:
    figures = history.run(settings, jobs=3000, each=2)
    assert set(figures["queries"]) > set(history.QUERIES)
    assert all(one["p95_ms"] > 0 for one in figures["queries"].values())
    assert figures["generated"]["jobs"] == 3000
    assert 2500 < figures["export over HTTP"]["rows"] <= figures["export, generator alone"]["rows"] == 2850


def test_history_says_when_the_disk_is_too_small(settings: Settings) -> None:
    with pytest.raises(CustomhouseError, match=r"jobs need .* GB .*--jobs"):
        history.run(settings, jobs=10**12)


@pytest.mark.weights
def test_a_bench_that_is_told_to_end_leaves_nothing_running(fetched: Settings) -> None:
    with tempfile.TemporaryDirectory() as short:  # a socket's path has 107 bytes
        scratch = Path(short)
        said = {**os.environ, "CUSTOMHOUSE_HOME": str(fetched.home), "TMPDIR": short}
        bench = subprocess.Popen([sys.executable, "-m", "appliance", "bench", "--only", "pickup"], env=said)
        _until(lambda: len(_processes(scratch)) > 2)
        bench.terminate()
        assert bench.wait(60) == 128 + signal.SIGTERM
        _until(lambda: _processes(scratch) == [])  # one that was just being started ends by itself
        assert list(scratch.iterdir()) == []


def _processes(temporary: Path) -> list[int]:
    """Those whose temporary files go there."""
    found: list[int] = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={temporary}\0".encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
    return found


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)
