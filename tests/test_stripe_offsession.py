"""Auto top-up: a saved card is charged with nobody there, once, and never in the way of a request."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from appliance import database
from appliance.billing import alerts, attempts, autotopup, ledger, offsession, topups
from appliance.billing.stripe import Stripe
from appliance.errors import StripeDown, StripeRefused
from appliance.house import House
from appliance.settings import Settings
from appliance.work.payments import Payments
from tests.cast import Person, enrol
from tests.fakestripe.server import Served
from tests.paying import Till, faking, leading_to

HOUR = 3600


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with faking(monkeypatch) as served:
        yield served


@pytest.fixture
def settings(settings: Settings, served: Served) -> Settings:
    return leading_to(settings, served)


@pytest.fixture
def till(house: House, served: Served) -> Iterator[Till]:
    till = Till(house, served)
    yield till
    till.close()


def look(till: Till, most_a_day: int = 10) -> None:
    """What the worker does every two seconds."""
    for org_id in offsession.due(till.reader):
        offsession.step(till.house.db, till.api, org_id, till.now(), most_a_day=most_a_day)


def charges(till: Till) -> list[str]:
    """Idempotency keys of what was asked for, by which attempt."""
    return [one.key.rsplit(":", 1)[-1] for one in till.served.asked if one.path == "/v1/payment_intents" and one.key]


def reason(till: Till, org_id: str) -> str | None:
    found = autotopup.get(till.reader, org_id)
    return None if found.enabled else found.disabled_reason


def test_a_balance_below_the_threshold_is_topped_up_at_once_and_once(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id, below=10, amount=50)
    look(till)
    assert till.balance(alice.org_id) == 50
    till.spend(alice.org_id, 40)
    look(till)
    assert till.balance(alice.org_id) == 10
    till.account.turn(seconds=61)
    till.spend(alice.org_id, 0.000001)
    look(till)
    look(till)
    assert till.balance(alice.org_id) == 59.999999
    till.sync.round()
    till.sync.reconcile()
    assert [entry[0] for entry in till.entries(alice.org_id)] == ["credit", "charge", "charge", "credit"]


def test_what_is_asked_of_stripe_is_what_the_contract_says(till: Till, alice: Person) -> None:
    card_id = till.automatic(alice.org_id, amount=50.5)
    look(till)
    asked = next(one for one in till.served.asked if one.path == "/v1/payment_intents")
    (topup,) = till.reader.execute("SELECT * FROM topup_intent").fetchall()
    assert asked.key == f"auto:{topup['id']}:1"
    said = asked.params["metadata"]
    assert (said["topup_intent_id"], said["client_id"], said["attempt"]) == (topup["id"], alice.org_id, "1")
    assert {name: value for name, value in asked.params.items() if name != "metadata"} == {
        "amount": "5050",
        "currency": "usd",
        "customer": till.customer(alice.org_id).id,
        "payment_method": card_id,
        "off_session": "true",
        "confirm": "true",
        "automatic_payment_methods": {"enabled": "true", "allow_redirects": "never"},
    }


def test_nobody_is_charged_who_did_not_ask_for_it(till: Till, alice: Person, charlie: Person) -> None:
    till.card(charlie.org_id)
    till.automatic(alice.org_id)
    till.house.db.write(lambda conn: autotopup.change(conn, alice.org_id, {"enabled": False}, till.now(), actor="test"))
    till.spend(alice.org_id, 5)
    assert offsession.due(till.reader) == []
    till.house.db.write(lambda conn: autotopup.change(conn, alice.org_id, {"enabled": True}, till.now(), actor="test"))
    till.house.db.write(
        lambda conn: conn.execute("UPDATE organisation SET status = 'terminated' WHERE id = ?", (alice.org_id,))
    )
    look(till)
    assert charges(till) == []


def test_one_minute_lies_between_two_top_ups_and_a_day_has_so_many(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id, below=10, amount=11)
    for _ in range(5):
        till.spend(alice.org_id, 100)
        look(till, most_a_day=3)
        look(till, most_a_day=3)
        till.account.turn(seconds=61)
    assert len(charges(till)) == 3
    (alert,) = alerts.open_(till.reader)
    assert "auto_topups_a_day" in alert.message
    till.account.turn(days=1)
    look(till, most_a_day=3)
    assert len(charges(till)) == 4
    assert autotopup.get(till.reader, alice.org_id).enabled


# --- declines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("pm_card_authenticationRequired", "authentication_required"),
        ("pm_card_chargeDeclinedExpiredCard", "payment_method_expired"),
        ("pm_card_chargeDeclinedLostCard", "card_declined"),
        ("pm_card_chargeDeclinedStolenCard", "card_declined"),
    ],
)
def test_a_card_that_trying_again_cannot_help_switches_it_off(till: Till, alice: Person, card: str, why: str) -> None:
    till.automatic(alice.org_id, card)
    look(till)
    assert reason(till, alice.org_id) == why
    assert till.entries(alice.org_id) == []
    (intent,) = till.account.intents.values()
    assert intent["status"] == "canceled"
    till.account.turn(days=2)
    look(till)
    till.sync.round()
    assert charges(till) == ["1"]
    row = till.reader.execute("SELECT actor, reason FROM audit WHERE action = 'auto_topup.disabled'").fetchone()
    assert row["actor"] == "stripe"


@pytest.mark.parametrize(
    "card",
    [
        "pm_card_chargeDeclined",
        "pm_card_chargeDeclinedInsufficientFunds",
        "pm_card_chargeDeclinedProcessingError",
    ],
)
def test_a_passing_decline_is_tried_three_times_in_a_day(till: Till, alice: Person, card: str) -> None:
    till.automatic(alice.org_id, card)
    for _ in range(26):
        look(till)
        till.sync.round()
        till.account.turn(seconds=HOUR)
    assert charges(till) == ["1", "2", "3"]
    assert reason(till, alice.org_id) == "max_failures_reached"
    rows = till.reader.execute("SELECT created_at FROM auto_topup_attempt ORDER BY number").fetchall()
    hours = [round((row["created_at"] - rows[0]["created_at"]) / 3_600_000) for row in rows]
    assert hours == [0, 6, 24]


def test_a_card_that_recovers_is_charged_at_its_next_try(till: Till, alice: Person) -> None:
    card_id = till.automatic(alice.org_id, "pm_card_chargeDeclinedInsufficientFunds")
    look(till)
    till.account.behaviour[card_id] = ("", "", "")
    look(till)
    assert till.balance(alice.org_id) == 0
    till.account.turn(seconds=6 * HOUR + 1)
    look(till)
    assert till.balance(alice.org_id) == 50
    assert autotopup.get(till.reader, alice.org_id).enabled
    assert len({one["topup_id"] for one in till.reader.execute("SELECT topup_id FROM auto_topup_attempt")}) == 1


def test_credit_from_elsewhere_ends_the_wait_for_the_next_try(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id, "pm_card_chargeDeclinedInsufficientFunds")
    look(till)
    till.spend(alice.org_id, -100)
    till.account.turn(seconds=6 * HOUR + 1)
    look(till)
    assert charges(till) == ["1"]
    assert till.reader.execute("SELECT status FROM topup_intent").fetchone()["status"] == "cancelled"


def test_another_card_is_charged_without_waiting_for_the_declined_one(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id, "pm_card_chargeDeclinedInsufficientFunds")
    look(till)
    other = till.card(alice.org_id)
    till.house.db.write(
        lambda conn: autotopup.change(conn, alice.org_id, {"payment_method_id": other}, till.now(), actor="test")
    )
    till.account.turn(seconds=61)
    look(till)
    assert till.balance(alice.org_id) == 50


def test_a_card_that_stripe_has_let_go_switches_it_off(till: Till, alice: Person) -> None:
    card_id = till.automatic(alice.org_id)
    till.account.detach(card_id)  # and no sync has told us
    look(till)
    assert reason(till, alice.org_id) == "payment_method_detached"
    assert autotopup.get(till.reader, alice.org_id).payment_method_id is None


# --- answers that are lost ------------------------------------------------------------------------------------------


def test_an_answer_that_is_lost_is_asked_for_under_the_same_key(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id)
    till.served.fail("lost", "POST /v1/payment_intents", times=3)
    with pytest.raises(StripeDown):
        look(till)
    assert till.balance(alice.org_id) == 0
    look(till)
    assert len(till.account.intents) == 1
    till.account.turn(seconds=61)
    look(till)
    assert (till.balance(alice.org_id), len(till.account.intents)) == (50, 1)
    assert set(charges(till)) == {"1"}


def test_a_request_that_never_arrived_is_made_later_once(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id)
    till.served.fail("unreached", "POST /v1/payment_intents", times=3)
    with pytest.raises(StripeDown):
        look(till)
    till.account.turn(seconds=61)
    look(till)
    assert (till.balance(alice.org_id), len(till.account.intents)) == (50, 1)


@pytest.mark.parametrize("days", [0.01, 0.9, 1.5, 34])
@pytest.mark.parametrize("fault", ["lost", "unreached"])
def test_however_long_it_takes_the_card_is_charged_once(till: Till, alice: Person, days: float, fault: str) -> None:
    """Stripe forgets idempotency keys after a day: from then on it is looked for the payment first."""
    till.automatic(alice.org_id)
    till.served.fail(fault, "POST /v1/payment_intents", times=3)
    with pytest.raises(StripeDown):
        look(till)
    till.account.turn(days=days)
    look(till)
    till.sync.round()
    look(till)
    assert (till.balance(alice.org_id), len(till.account.intents)) == (50, 1)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("outcome", ["pm_card_visa", "pm_card_chargeDeclinedLostCard"])
@pytest.mark.parametrize("told_by_event", [True, False])
def test_a_kill_between_stripes_answer_and_our_commit_charges_and_credits_once(
    till: Till, alice: Person, monkeypatch: pytest.MonkeyPatch, outcome: str, told_by_event: bool
) -> None:
    till.automatic(alice.org_id, outcome)
    charge = Stripe.charge

    def die(self: Stripe, *args: Any) -> None:
        try:
            charge(self, *args)
        finally:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Stripe, "charge", die)
        with pytest.raises(Killed):
            look(till)
    assert till.reader.execute("SELECT state FROM auto_topup_attempt").fetchone()["state"] == "open"
    if told_by_event:
        till.sync.round()
    till.account.turn(seconds=61)
    look(till)
    till.sync.round()
    assert len(till.account.intents) == 1
    if outcome == "pm_card_visa":
        assert till.balance(alice.org_id) == 50
        assert len(till.entries(alice.org_id)) == 1
    else:
        assert reason(till, alice.org_id) == "card_declined"


def test_an_attempt_that_nobody_wants_any_more_is_looked_for_and_not_made(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id)
    till.served.fail("unreached", "POST /v1/payment_intents", times=3)
    with pytest.raises(StripeDown):
        look(till)
    till.house.db.write(lambda conn: autotopup.change(conn, alice.org_id, {"enabled": False}, till.now(), actor="test"))
    till.account.turn(seconds=61)
    look(till)
    assert till.account.intents == {}
    assert attempts.open_(till.reader, alice.org_id) is None
    assert till.reader.execute("SELECT status FROM topup_intent").fetchone()["status"] == "cancelled"


def test_one_of_two_boxes_that_share_an_attempt_is_refused_by_the_database(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id)
    till.served.fail("unreached", "POST /v1/payment_intents", times=3)
    with pytest.raises(StripeDown):
        look(till)
    (topup_id,) = till.reader.execute("SELECT id FROM topup_intent").fetchone()
    topup = topups.get(till.reader, topup_id)
    assert topup is not None
    with pytest.raises(Exception, match="UNIQUE"):
        till.house.db.write(lambda conn: attempts.begin(conn, topup, "pm_x", till.now()))


def test_a_slow_charge_waits_for_stripes_word(till: Till, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    till.automatic(alice.org_id)
    succeed = till.account._succeed
    monkeypatch.setattr(till.account, "_succeed", lambda intent: intent.update(status="processing"))
    look(till)
    till.account.turn(seconds=600)
    look(till)
    assert (till.balance(alice.org_id), charges(till)) == (0, ["1"])
    succeed(next(iter(till.account.intents.values())))
    till.sync.round()
    assert till.balance(alice.org_id) == 50


# --- the worker ------------------------------------------------------------------------------------------------------


def test_the_worker_looks_by_itself_and_a_stripe_that_is_down_stops_nothing(
    till: Till, house: House, alice: Person
) -> None:
    till.automatic(alice.org_id)
    worker = Payments(house)
    till.served.fail("unreached", "POST /v1/payment_intents", times=3)
    worker.charge()
    before = len(till.served.asked)
    worker.charge()
    assert len(till.served.asked) == before  # half a minute of quiet
    worker._not_before = 0
    till.house.db.write(lambda conn: conn.execute("UPDATE auto_topup_attempt SET asked_at = asked_at - 61000"))
    worker.charge()
    assert till.balance(alice.org_id) == 50
    worker.sync()
    worker.close()


def test_under_a_restored_backup_no_card_is_charged_for_what_was_paid_since(
    till: Till, house: House, alice: Person, tmp_path: Any
) -> None:
    till.automatic(alice.org_id, below=10, amount=50)
    till.sync.round()
    settings = msgspec.structs.replace(house.settings, home=tmp_path / "restored")
    settings.home.mkdir()
    with contextlib.closing(database.connect(settings.database)) as backup:
        house.db.reader().backup(backup)
    look(till)
    assert till.balance(alice.org_id) == 50
    restored = House(settings)
    worker = Payments(restored)
    assert ledger.balance(restored.db.reader(), alice.org_id) == 0
    for _ in range(3):
        worker.charge()
    assert ledger.balance(restored.db.reader(), alice.org_id) == 50_000_000
    assert charges(till) == ["1"]
    worker.close()
    restored.close()


def test_one_whom_stripe_does_not_know_is_in_nobodys_way(
    till: Till, house: House, alice: Person, charlie: Person
) -> None:
    """As after a key of another account: an attempt is open, is not wanted any more, and cannot be asked about."""
    first, second = sorted((alice, charlie), key=lambda one: one.org_id)
    till.automatic(first.org_id)
    till.served.fail("unreached", "POST /v1/payment_intents", times=3)
    with pytest.raises(StripeDown):
        look(till)
    till.house.db.write(lambda conn: autotopup.change(conn, first.org_id, {"enabled": False}, till.now(), actor="test"))
    till.house.db.write(lambda conn: conn.execute("UPDATE auto_topup_attempt SET asked_at = asked_at - 61000"))
    till.account.customers.clear()
    till.automatic(second.org_id)
    worker = Payments(house)
    worker._is_caught_up = True
    till.served.fail("404", "GET /v1/payment_intents")
    worker.charge()
    assert (till.balance(first.org_id), till.balance(second.org_id)) == (0, 50)
    before = len(till.served.asked)
    worker.charge()
    assert len(till.served.asked) == before  # half a minute of quiet for the first, too
    worker.close()


def test_a_key_that_stripe_refuses_costs_the_card_nothing(till: Till, house: House, alice: Person) -> None:
    till.automatic(alice.org_id)
    path = house.settings.home.parent / "stripe-key"
    good = path.read_text()
    path.write_text("rk_test_" + "-" * 9)  # no key that the fake would take
    till.account.turn(seconds=1)
    with pytest.raises(StripeRefused):
        look(till)
    path.write_text(good + " \n")
    till.account.turn(seconds=61)
    look(till)
    assert till.balance(alice.org_id) == 50


def test_without_a_key_the_worker_does_nothing(tmp_path: Any, settings: Settings) -> None:
    plain = House(Settings(home=tmp_path / "other"))
    worker = Payments(plain)
    worker.charge()
    worker.sync()
    worker.close()
    plain.close()


def test_a_submission_does_not_wait_for_stripe(till: Till, client: TestClient[Any], house: House) -> None:
    dave = enrol(house, "A", "dave")
    till.automatic(dave.org_id)
    till.served.fail("unreached", "", times=100)
    answer = client.post("/api/v1/moderate/prompt", headers=dave.headers, json={"prompt": "A red kite over a field"})
    assert answer.status_code == 202
    before = till.served.asked
    assert [one for one in before if one.path == "/v1/payment_intents"] == []
