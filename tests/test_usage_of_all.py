"""Usage of all organisations together, the ledger by place, links and automatic top-up by command."""

import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import segno
from click.testing import CliRunner

from appliance import clock
from appliance.__main__ import root
from appliance.billing import ledger
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import usage
from appliance.settings import Settings
from tests import made
from tests.cast import Person
from tests.fakestripe.server import Served
from tests.paying import Till, faking, leading_to

NOON = 1_779_192_000_000
DAY = 86_400_000


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with faking(monkeypatch) as served:
        yield served


@pytest.fixture
def settings(settings: Settings, served: Served) -> Settings:
    return leading_to(settings, served)


@pytest.fixture
def till(house: House, served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    billing = house.settings.billing
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    monkeypatch.setenv("CUSTOMHOUSE_BILLING_STRIPE_KEY_FILE", billing.stripe_key_file)
    monkeypatch.setenv("CUSTOMHOUSE_BILLING_STRIPE_ADDRESS", billing.stripe_address)
    till = Till(house, served)
    yield till
    till.close()


def as_json(*arguments: str) -> Any:
    done = CliRunner().invoke(root, [*arguments, "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


# --- usage -----------------------------------------------------------------------------------------------------------


def test_months_begin_where_they_do() -> None:
    found = clock.months(NOON, 14)
    assert [clock.rfc3339(at)[:10] for at in (found[0], found[-6], found[-1])] == [
        "2025-04-01",
        "2025-12-01",
        "2026-05-01",
    ]


@pytest.mark.parametrize("period", [*usage.PERIODS, usage.YEAR])
def test_all_together_are_the_sum_of_each(house: House, alice: Person, charlie: Person, period: str) -> None:
    made.insert(house, made.random_jobs(alice.org_id, 150, NOON - 200 * DAY, NOON, seed=1))
    made.insert(house, made.random_jobs(charlie.org_id, 150, NOON - DAY, NOON, seed=2))
    reader = house.db.reader()
    both = [usage.buckets(reader, org, period, NOON) for org in (alice.org_id, charlie.org_id)]
    together = usage.buckets(reader, None, period, NOON)
    for name in ("prompt", "image", "video", "passed", "rejected", "gpu_ms", "tokens", "micros"):
        assert [getattr(one, name) for one in together] == [
            sum(getattr(one, name) for one in pair) for pair in zip(*both, strict=True)
        ]
    if period == usage.YEAR:
        assert sum(one.jobs for one in together) == 300


def test_usage_by_command(till: Till, alice: Person) -> None:
    now = clock.now_ms()
    made.insert(till.house, made.random_jobs(alice.org_id, 30, now - DAY, now, seed=1))
    found = as_json("billing", "usage", "--period", "week")
    assert (found["period"], found["organisation"], len(found["data"])) == ("week", None, 7)
    assert sum(one["prompt"] + one["image"] + one["video"] for one in found["data"]) == 30
    assert found["data"][-1]["requests"] == 0
    assert as_json("billing", "usage", "--org", "A", "--period", "hour")["data"][0]["requests"] is None
    assert "prompt" in CliRunner().invoke(root, ["billing", "usage"]).output


# --- the ledger by place ---------------------------------------------------------------------------------------------


def test_a_window_of_the_ledger_stays_where_it_was(house: House, alice: Person, charlie: Person) -> None:
    def post(conn: Connection, org_id: str, micros: int, number: int) -> None:
        type = EntryType.CREDIT if micros > 0 else EntryType.CHARGE
        ledger.post(conn, org_id, type, micros, source=("manual", str(number)), description=str(number), now=number)

    for number in range(20):
        who = alice if number % 2 else charlie
        house.db.write(lambda conn, who=who, n=number: post(conn, who.org_id, 5 if n % 3 else -5, n))
    reader = house.db.reader()
    everything, own = ledger.cut(reader), ledger.cut(reader, alice.org_id)
    credits = ledger.cut(reader, alice.org_id, EntryType.CREDIT)
    house.db.write(lambda conn: post(conn, alice.org_id, 7, 99))
    assert [one.description for one in ledger.window(reader, everything, 3, 4)] == ["16", "15", "14", "13"]
    assert [one.description for one in ledger.window(reader, own, 0, 3)] == ["19", "17", "15"]
    assert [one.description for one in ledger.window(reader, credits, 0, 3)] == ["19", "17", "13"]
    assert [ledger.count(reader, one) for one in (everything, own, credits)] == [20, 10, 7]
    assert ledger.window(reader, own, 10, 5) == []


# --- links and automatic top-up --------------------------------------------------------------------------------------


def test_a_top_up_link_is_printed_paid_and_audited(till: Till, alice: Person) -> None:
    made = as_json("stripe", "topup-link", "--org", "A", "--amount", "25")
    till.account.pay(made["session_id"])
    till.sync.round()
    assert till.balance(alice.org_id) == 25
    [line] = [dict(row) for row in till.reader.execute("SELECT * FROM audit WHERE action = 'topup.offered'")]
    assert line["org_id"] == alice.org_id
    assert line["actor"].startswith("operator:")
    assert json.loads(line["detail"])["amount_micros"] == 25_000_000


def test_a_top_up_link_is_drawn_as_a_code(till: Till, alice: Person) -> None:
    done = CliRunner().invoke(root, ["stripe", "topup-link", "--org", "A", "--amount", "25", "--qr"])
    lines = done.output.splitlines()
    url = lines[-1]
    assert url.startswith("http")
    assert (
        len([one for one in lines if "▀" in one or "▄" in one or "█" in one]) >= segno.make(url).symbol_size()[1] // 2
    )
    rows = [[255 if dark else 0 for dark in row] for row in segno.make(url, error="l").matrix_iter(border=4)]
    drawn = np.kron(255 - np.array(rows, np.uint8), np.ones((8, 8), np.uint8))
    assert cv2.QRCodeDetector().detectAndDecode(drawn)[0] == url


@pytest.mark.parametrize("amount", ["4", "5001", "much", "5.001"])
def test_an_amount_that_is_not_sold_is_refused(till: Till, alice: Person, amount: str) -> None:
    done = CliRunner().invoke(root, ["stripe", "topup-link", "--org", "A", "--amount", amount])
    assert "amount_usd" in str(done.exception)
    assert till.served.asked == []


def test_automatic_top_up_is_shown(till: Till, alice: Person, charlie: Person) -> None:
    till.automatic(alice.org_id)
    found = {one["organisation"]: one for one in as_json("stripe", "auto-topup")}
    assert (found["A"]["enabled"], found["A"]["threshold_usd"], found["A"]["amount_usd"]) == (True, 10.0, 50.0)
    assert (found["C"]["enabled"], found["C"]["amount_usd"]) == (False, None)
    assert [one["organisation"] for one in as_json("stripe", "auto-topup", "--org", "A")] == ["A"]
    assert "below $10.00: $50.00" in CliRunner().invoke(root, ["stripe", "auto-topup"]).output
