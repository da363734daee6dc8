"""`customhouse stripe`, through the command line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.__main__ import root
from appliance.accounts import plans
from appliance.billing import alerts, autotopup, checkout
from appliance.errors import CustomhouseError, InvalidRequest, NotFound, StripeDown, StripeOff
from appliance.house import House
from appliance.settings import Settings
from tests.cast import Person
from tests.fakestripe.server import Served
from tests.paying import KEY, Till, faking, leading_to


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


def run(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["stripe", *arguments])


def as_json(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.output)


def refused(*arguments: str) -> CustomhouseError:
    error = run(*arguments).exception
    assert isinstance(error, CustomhouseError), error
    return error


def test_the_status_asks_stripe_nothing_and_shows_no_key(till: Till) -> None:
    shown = as_json("status")
    assert (shown["mode"], shown["restricted_key"], shown["problem"]) == ("test", True, None)
    assert shown["address"] == till.served.address
    assert till.served.asked == []
    assert KEY not in run("status").output


def test_the_status_without_a_key_says_so(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUSTOMHOUSE_BILLING_STRIPE_KEY_FILE")
    shown = as_json("status")
    assert shown["mode"] is None
    assert "not set up" in shown["problem"]
    assert isinstance(refused("sync"), StripeOff)


def test_sync_reads_what_happened(till: Till, alice: Person) -> None:
    wish = checkout.parse({"amount_usd": 25})
    billing = till.house.settings.billing
    page = checkout.open_(till.house.db, till.api, billing, alice.org_id, "t1", wish, till.now())
    till.account.pay(page.session_id)
    shown = as_json("sync")
    assert till.balance(alice.org_id) == 25
    assert (shown["pending"], shown["last_error"]) == (0, None)
    assert shown["last_ok_at"].endswith("Z")
    assert "in order" in run("reconcile").output
    assert as_json("reconcile")["reconciled_at"].endswith("Z")


def test_stripe_down_is_one_sentence(till: Till) -> None:
    till.served.fail("unreached", times=3)
    assert isinstance(refused("sync"), StripeDown)
    assert "cannot be reached" in as_json("status")["last_error"]


def test_a_link_to_subscribe_is_printed_and_noted(till: Till, house: House, alice: Person) -> None:
    changes = plans.Changes(stripe_price="price_team")
    house.db.write(lambda conn: plans.create(conn, "team", "Team", changes, actor="operator:test", reason="sold"))
    shown = as_json("subscribe-link", "--org", "A", "--plan", "team")
    assert shown["url"].startswith("https://checkout.stripe.com/")
    assert run("subscribe-link", "--org", "A", "--plan", "team").output.startswith("https://")
    till.account.pay(shown["session_id"])
    as_json("sync")
    row = till.reader.execute("SELECT plan FROM organisation WHERE id = ?", (alice.org_id,)).fetchone()
    assert row["plan"] == "team"
    rows = till.reader.execute("SELECT actor FROM audit WHERE action = 'subscription.offered'").fetchall()
    assert [row["actor"].startswith("operator:") for row in rows] == [True, True]


@pytest.mark.usefixtures("till", "alice")
def test_a_plan_that_is_not_sold_and_an_unknown_one_are_refused() -> None:
    assert isinstance(refused("subscribe-link", "--org", "A", "--plan", "standard"), InvalidRequest)
    assert isinstance(refused("subscribe-link", "--org", "A", "--plan", "gold"), NotFound)
    assert isinstance(refused("subscribe-link", "--org", "Z", "--plan", "standard"), NotFound)


def test_auto_top_up_is_disabled_with_a_reason(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id)
    assert as_json("disable-auto-topup", "--org", "A", "--reason", "asked by phone")["disabled"] is True
    found = autotopup.get(till.reader, alice.org_id)
    assert (found.enabled, found.disabled_reason) == (False, "admin_disabled")
    assert "was off already" in run("disable-auto-topup", "--org", "A", "--reason", "again").output
    rows = till.reader.execute("SELECT reason FROM audit WHERE action = 'auto_topup.disabled'").fetchall()
    assert [row["reason"] for row in rows] == ["asked by phone"]
    assert run("disable-auto-topup", "--org", "A").exit_code == 2


def test_an_alert_is_shown_until_somebody_says_that_it_was_looked_at(till: Till, house: House, alice: Person) -> None:
    house.db.write(lambda conn: alerts.raise_(conn, "dispute", "dp_1", "A payment is disputed", 1, alice.org_id))
    (shown,) = as_json("status")["alerts"]
    assert (shown["organisation"], shown["message"]) == ("A", "A payment is disputed")
    assert "ALERT" in run("status").output
    assert as_json("resolve-alert", str(shown["id"]), "--reason", "answered")["resolved"] == shown["id"]
    assert as_json("status")["alerts"] == []
    assert isinstance(refused("resolve-alert", str(shown["id"]), "--reason", "again"), NotFound)
    assert till.served.asked == []
