"""kill -9, of real processes, while Stripe has answered and we have not written: charged once, credited once."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from appliance.billing import checkout
from appliance.house import House
from appliance.settings import Settings
from tests.cast import Person
from tests.fakestripe.server import Served
from tests.paying import Till, faking, leading_to

SYNC = [sys.executable, "-m", "appliance", "stripe", "sync"]
CHARGE = [
    sys.executable,
    "-c",
    "from appliance import settings; from appliance.house import House; from appliance.work.payments import Payments; "
    "Payments(House(settings.load())).charge()",
]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with faking(monkeypatch) as served:
        yield served
        served.released.set()


@pytest.fixture
def settings(settings: Settings, served: Served) -> Settings:
    return leading_to(settings, served)


@pytest.fixture
def till(house: House, served: Served) -> Iterator[Till]:
    till = Till(house, served)
    yield till
    till.close()


def begin(house: House, command: list[str]) -> "subprocess.Popen[bytes]":
    billing = house.settings.billing
    environ = {
        "PATH": os.environ["PATH"],
        "CUSTOMHOUSE_HOME": str(house.settings.home),
        "CUSTOMHOUSE_BILLING_STRIPE_KEY_FILE": billing.stripe_key_file,
        "CUSTOMHOUSE_BILLING_STRIPE_ADDRESS": billing.stripe_address,
    }
    return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_while_held(house: House, served: Served, command: list[str], request: str) -> None:
    """The process dies as Stripe has done what it was asked for, and before it hears of that."""
    served.fail("held", request)
    process = begin(house, command)
    assert served.holding.wait(30)
    process.kill()
    process.wait()
    served.released.set()


@pytest.mark.parametrize("request_", ["GET /v1/events", "GET /v1/checkout/sessions/", "GET /v1/payment_intents/"])
def test_a_sync_that_is_killed_credits_once_when_it_is_run_again(
    house: House, till: Till, alice: Person, request_: str
) -> None:
    wish = checkout.parse({"amount_usd": 25})
    page = checkout.open_(house.db, till.api, house.settings.billing, alice.org_id, "t1", wish, till.now())
    till.account.pay(page.session_id)
    kill_while_held(house, till.served, SYNC, request_)
    for _ in range(2):
        assert begin(house, SYNC).wait(60) == 0
    assert till.entries(alice.org_id) == [("credit", 25.0, f"checkout:{page.session_id}")]


def test_a_worker_that_is_killed_as_it_charges_a_card_charges_it_once(house: House, till: Till, alice: Person) -> None:
    till.automatic(alice.org_id)
    kill_while_held(house, till.served, CHARGE, "POST /v1/payment_intents")
    assert till.balance(alice.org_id) == 0
    for _ in range(2):
        assert begin(house, CHARGE).wait(60) == 0  # which first reads what came of it
        house.db.write(lambda conn: conn.execute("UPDATE auto_topup_attempt SET asked_at = asked_at - 61000"))
    assert begin(house, SYNC).wait(60) == 0
    assert (till.balance(alice.org_id), len(till.account.intents)) == (50, 1)
    assert len(till.entries(alice.org_id)) == 1
