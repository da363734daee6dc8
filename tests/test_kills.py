"""A small round of the campaign in tests/kills.py: worker and API killed while jobs run, and everything adds up."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.accounts.plans import ChargeMethod
from tests.kills import Campaign, run, wanted

WEIGHTS = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")


@pytest.mark.weights
def test_kill_9_of_worker_and_api_leaves_each_job_one_end_and_its_money_right(tmp_path: Path) -> None:
    if WEIGHTS is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    report = run(Campaign(kills=16, jobs=100, seed=3), tmp_path / "home", Path(WEIGHTS))
    assert report["faults"] == {}
    assert sum(report["kills"].values()) == 16
    assert report["jobs"]["accepted"] >= 100
    assert report["ledger"]["refunded"] > 0
    assert report["ledger"]["sum_micros"] == report["ledger"]["balance_micros"]


def test_a_campaign_wants_every_kind_of_job_of_every_charge_method() -> None:
    todo = wanted(Campaign(kills=1000, jobs=5000, seed=1))
    assert len({one.number for one in todo}) == 5000
    assert {one.kind for one in todo} == {"prompt", "blocked", "batch", "image", "missing", "refused", "damaged"}
    assert {one.org for one in todo} == {method.value for method in ChargeMethod}
    assert todo == wanted(Campaign(kills=1, jobs=5000, seed=1))


ORPHAN = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from appliance.api.app import _die_with_parent

def child(parent, alive):
    while os.getppid() == parent:
        time.sleep(0.01)
    _die_with_parent()
    Path(alive).touch()

multiprocessing.get_context("fork").Process(target=child, args=(os.getpid(), sys.argv[1])).start()
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_api_process_whose_server_was_killed_as_it_started_does_not_stay_behind(tmp_path: Path) -> None:
    """It would hold the port beside the next server, which listens on the same one."""
    subprocess.run([sys.executable, "-c", ORPHAN, str(tmp_path / "alive")], timeout=30, check=False)
    time.sleep(0.5)
    assert not (tmp_path / "alive").exists()
