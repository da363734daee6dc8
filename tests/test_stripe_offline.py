"""Cut off from Stripe for 34 days, and then back: everything that happened meanwhile is made good, to the cent."""

from collections.abc import Iterator

import pytest

from appliance.billing import alerts, autotopup, cards, checkout, offsession, sync, topups
from appliance.billing.checkout import Page
from appliance.errors import StripeDown
from appliance.house import House
from appliance.settings import Settings
from tests.cast import Person, enrol
from tests.fakestripe.server import Served
from tests.paying import Till, faking, leading_to


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


def begin(till: Till, org_id: str, dollars: float, name: str) -> Page:
    wish = checkout.parse({"amount_usd": dollars})
    return checkout.open_(till.house.db, till.api, till.house.settings.billing, org_id, name, wish, till.now())


def look(till: Till) -> None:
    for org_id in offsession.due(till.reader):
        offsession.step(till.house.db, till.api, org_id, till.now(), most_a_day=10)


def test_offline_for_34_days_and_then_reconciled_to_the_cent(till: Till, house: House, alice: Person) -> None:
    dora = enrol(house, "D", "dora")
    account = till.account
    account.tax_percent = 19

    # Day 0, on line: two payments, one of which will be refunded and the other disputed while we are away.
    intents: list[str] = []
    for name, dollars in (("a", 100), ("b", 60)):
        intents.append(account.pay(begin(till, alice.org_id, dollars, name).session_id)["payment_intent"])
    lost_card = till.automatic(alice.org_id, below=10, amount=50)
    till.automatic(dora.org_id, below=10, amount=40)
    till.sync.round()
    assert till.balance(alice.org_id) == 160

    # Three pages are opened, and a card is charged whose answer never arrives: the line is cut.
    quick, slow, never = (begin(till, alice.org_id, dollars, f"x{dollars}") for dollars in (25, 33.33, 99))
    till.served.fail("lost", "POST /v1/payment_intents", times=3)
    with pytest.raises(StripeDown):
        look(till)
    till.served.fail("unreached", "", times=10_000)

    # Meanwhile, at Stripe.
    account.pay(quick.session_id)
    account.pay(slow.session_id, is_slow=True)
    account.turn(days=1.5)
    for _ in range(3):
        till.sync.tick()
    account.come_through(slow.session_id)
    account.refund(intents[0], 3000)
    account.turn(days=2)
    account.refund(intents[0], 1111)
    dispute = account.dispute(intents[1])
    account.detach(lost_card)
    new_card = account.save_card(till.customer(alice.org_id).id, last4="1881")
    account.turn(days=30.5)
    till.sync.tick()
    assert till.balance(alice.org_id) == 160
    at = sync.position(till.reader, is_live=False)
    assert at is not None
    assert at.last_error is not None
    assert till.now() - (at.last_ok_at or 0) > 34 * 86_400_000
    assert not [event for event in account.visible_events() if event["type"].startswith("checkout")]

    # Back: one round.
    till.served.faults.clear()
    till.sync.round()
    look(till)

    refunded = round(100 * (3000 + 1111) / account.intents[intents[0]]["amount"], 6)
    wanted = 160 + 25 + 33.33 - refunded - 60
    assert till.balance(alice.org_id) == pytest.approx(wanted, abs=0.000001)
    assert till.balance(dora.org_id) == 40
    of_dora = [one for one in account.intents.values() if one["customer"] == till.customer(dora.org_id).id]
    assert len(of_dora) == 1
    assert [entry[0] for entry in till.entries(alice.org_id)].count("stripe_refund") == 3
    assert [alert.subject for alert in alerts.open_(till.reader)] == [dispute]
    assert [card.id for card in cards.every(till.reader, alice.org_id, is_live=False)] == [new_card]
    assert autotopup.get(till.reader, alice.org_id).disabled_reason in ("payment_method_detached", "admin_disabled")
    found = topups.get(till.reader, never.topup_id)
    assert found is not None
    assert found.status == "expired"
    assert topups.pending(till.reader, is_live=False) == []
    entries = till.entries(alice.org_id), till.entries(dora.org_id)

    # And nothing of it again.
    till.sync.round()
    till.sync.reconcile()
    look(till)
    assert (till.entries(alice.org_id), till.entries(dora.org_id)) == entries
    at = sync.position(till.reader, is_live=False)
    assert at is not None
    assert at.last_error is None

    # The next payment is read by its event, as ever.
    account.pay(begin(till, alice.org_id, 7, "next").session_id)
    till.sync.round()
    assert till.balance(alice.org_id) == pytest.approx(wanted + 7, abs=0.000001)
