"""A small round of the campaign in tests/kills.py: worker and API killed while jobs run, and everything adds up."""

import os
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
