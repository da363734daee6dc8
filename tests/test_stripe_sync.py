"""What happened at Stripe is read, once, whatever is lost, late or repeated on the way."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.accounts import organisations, plans
from appliance.billing import alerts, cards, checkout, customers, hints, sync
from appliance.billing.checkout import Page
from appliance.billing.stripe import Stripe
from appliance.database import Connection
from appliance.errors import StripeDown, StripeRefused
from appliance.house import House
from appliance.settings import Settings
from tests.cast import Person
from tests.fakestripe.account import DAY
from tests.fakestripe.server import Served
from tests.paying import USD, Till, faking, leading_to


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


def begin(till: Till, org_id: str, dollars: float = 25, topup_id: str = "") -> Page:
    """A checkout page, open."""
    wish = checkout.parse({"amount_usd": dollars})
    count = len(till.account.sessions)
    billing = till.house.settings.billing
    return checkout.open_(till.house.db, till.api, billing, org_id, topup_id or f"topup-{count}", wish, till.now())


def paid(till: Till, org_id: str, dollars: float = 25) -> str:
    """A top-up that was paid and credited. Returns its payment."""
    page = begin(till, org_id, dollars)
    session = till.account.pay(page.session_id)
    till.sync.round()
    return session["payment_intent"]


def states(till: Till) -> list[str]:
    return [row["status"] for row in till.reader.execute("SELECT status FROM topup_intent ORDER BY created_at, id")]


# --- events and their cursor ----------------------------------------------------------------------------------------


def test_twenty_types_are_asked_for_which_is_what_stripe_takes() -> None:
    assert len(hints.TYPES) == len(set(hints.TYPES)) == 20


def test_events_are_read_oldest_first_page_by_page(till: Till, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.billing.stripe.PAGE", 3)
    paid(till, alice.org_id, 5)
    for dollars in range(6, 15):
        page = begin(till, alice.org_id, dollars)
        till.account.pay(page.session_id)
    till.sync.round()
    assert [amount for _, amount, _ in till.entries(alice.org_id)] == [float(n) for n in range(5, 15)]


def test_a_checkout_and_its_payment_make_one_credit(till: Till, alice: Person) -> None:
    intent = paid(till, alice.org_id)
    types = [event["type"] for event in till.account.events]
    assert {"payment_intent.succeeded", "checkout.session.completed"} <= set(types)
    till.sync.reconcile()
    assert len(till.entries(alice.org_id)) == 1
    assert till.reader.execute("SELECT payment_intent_id FROM topup_intent").fetchone()[0] == intent


def test_an_event_told_twice_counts_once(till: Till, alice: Person) -> None:
    page = begin(till, alice.org_id)
    session = till.account.pay(page.session_id)
    till.account.tell("checkout.session.completed", session)
    till.sync.round()
    till.sync.round()
    assert till.balance(alice.org_id) == 25


def test_an_event_is_a_hint_and_the_object_is_what_counts(till: Till, alice: Person) -> None:
    page = begin(till, alice.org_id)
    lie = {**till.account.sessions[page.session_id], "status": "complete", "payment_status": "paid"}
    till.account.tell("checkout.session.completed", lie)
    till.sync.round()
    assert till.balance(alice.org_id) == 0


def test_what_is_credited_is_what_was_chosen_here_and_not_what_stripe_says_was_paid(till: Till, alice: Person) -> None:
    page = begin(till, alice.org_id, 25)
    till.account.sessions[page.session_id]["amount_total"] = 999_999
    till.account.pay(page.session_id)
    till.sync.round()
    assert till.balance(alice.org_id) == 25


def test_an_idle_round_asks_one_question_and_leaves_what_is_elsewhere_alone(till: Till, alice: Person) -> None:
    paid(till, alice.org_id)
    stranger = till.account.create_customer({})["id"]
    till.account.save_card(stranger)
    till.account.subscribe(stranger, "price_other")
    intent = till.account._intent(500, stranger, {})
    till.account._succeed(intent)
    till.account.refund(intent["id"])
    before = len(till.served.asked)
    till.sync.round()
    assert len(till.served.asked) == before + 1
    till.sync.round()
    assert len(till.served.asked) == before + 2


def test_an_expired_page_is_noted_and_credits_nothing(till: Till, alice: Person) -> None:
    till.sync.round()
    begin(till, alice.org_id)
    till.account.turn(days=1.1)
    till.sync.round()
    assert states(till) == ["expired"]
    assert till.entries(alice.org_id) == []


def test_an_event_that_shows_late_is_found_by_the_hourly_look_back(till: Till, alice: Person) -> None:
    till.sync.round()
    page = begin(till, alice.org_id)
    till.account.late = 300
    till.account.pay(page.session_id)
    till.account.late = 0
    begin(till, alice.org_id)
    till.account.expire(begin(till, alice.org_id).session_id)  # moves the cursor past the late one's time
    till.sync.round()
    assert till.balance(alice.org_id) == 0
    till.account.turn(seconds=400)
    till.sync.round()
    till.account.turn(seconds=3600)
    till.sync.round()
    assert till.balance(alice.org_id) == 25


def test_seen_events_are_forgotten_after_35_days(till: Till, alice: Person) -> None:
    paid(till, alice.org_id)
    assert till.reader.execute("SELECT count(*) FROM stripe_event").fetchone()[0] > 0
    for _ in range(4):
        till.account.turn(days=9)
        till.sync.round()
    assert till.reader.execute("SELECT count(*) FROM stripe_event").fetchone()[0] == 0


def test_a_quiet_account_does_not_reconcile_every_minute(till: Till, alice: Person) -> None:
    paid(till, alice.org_id)
    for _ in range(5):
        till.account.turn(days=8)
        till.sync.round()
    assert till.account.visible_events() == []
    before = len(till.served.paths("GET /v1/payment_intents"))
    till.account.turn(seconds=60)
    till.sync.round()
    assert len(till.served.paths("GET /v1/payment_intents")) == before
    page = begin(till, alice.org_id, 30)
    till.account.pay(page.session_id)
    till.sync.round()
    assert till.balance(alice.org_id) == 55


# --- when, and by whom ----------------------------------------------------------------------------------------------


def test_a_round_is_due_each_minute_and_every_five_seconds_while_a_payment_is_awaited(
    till: Till, alice: Person
) -> None:
    def asked_after(seconds: float) -> bool:
        till.account.turn(seconds=seconds)
        before = len(till.served.paths("GET /v1/events"))
        till.sync.tick()
        return len(till.served.paths("GET /v1/events")) > before

    assert asked_after(0)
    assert not asked_after(50)
    assert asked_after(11)
    begin(till, alice.org_id)
    assert asked_after(5.5)
    assert asked_after(5.5)
    till.account.turn(seconds=1200)
    assert asked_after(0)
    assert not asked_after(6)


def test_a_failing_round_is_written_down_and_waits_longer_each_time(till: Till, alice: Person) -> None:
    till.sync.round()
    till.served.fail("unreached", "GET", times=6)
    till.account.turn(seconds=61)
    till.sync.tick()
    at = sync.position(till.reader, is_live=False)
    assert at is not None
    assert at.last_error is not None
    assert "cannot be reached" in at.last_error
    till.account.turn(seconds=6)
    before = len(till.served.asked)
    till.sync.tick()
    assert len(till.served.asked) == before
    till.account.turn(seconds=60)
    till.sync.tick()
    till.account.turn(seconds=60)
    till.sync.tick()
    at = sync.position(till.reader, is_live=False)
    assert at is not None
    assert at.last_error is None


def test_one_syncs_at_a_time(till: Till, house: House, alice: Person) -> None:
    page = begin(till, alice.org_id)
    till.account.pay(page.session_id)
    inside = threading.Event()
    leave = threading.Event()

    class Slow(sync.Sync):
        def _round(self, api: Any) -> None:
            inside.set()
            leave.wait(5)
            super()._round(api)

    slow = threading.Thread(target=Slow(house, till.live, now=till.now).round)
    slow.start()
    inside.wait(5)
    assert till.sync.round() is False
    leave.set()
    slow.join()
    assert till.balance(alice.org_id) == 25
    assert till.sync.round() is True


def test_sync_and_the_success_page_at_once_credit_once(till: Till, house: House, alice: Person) -> None:
    for dollars in range(5, 13):
        page = begin(till, alice.org_id, dollars)
        till.account.pay(page.session_id)
        start = threading.Barrier(3)

        def look(session_id: str = page.session_id, start: threading.Barrier = start) -> None:
            start.wait()
            checkout.look(house.db, till.api, session_id, till.now())

        def read(start: threading.Barrier = start) -> None:
            start.wait()
            till.sync.round()

        threads = [threading.Thread(target=act) for act in (look, look, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    till.sync.round()
    assert [amount for _, amount, _ in till.entries(alice.org_id)] == [float(n) for n in range(5, 13)]


# --- kills ----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("place", range(12))
def test_a_kill_at_any_write_of_a_sync_credits_once_after_the_restart(
    till: Till, house: House, alice: Person, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    paid(till, alice.org_id, 40)  # so that there is a cursor
    pages = [begin(till, alice.org_id, dollars) for dollars in (5, 10, 20)]
    for page in pages:
        till.account.pay(page.session_id)
    till.account.refund(till.account.sessions[pages[2].session_id]["payment_intent"], 500)
    writes = 0
    write = house.db.write

    def dying(change: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == place + 1:
            raise Killed
        return write(change)

    monkeypatch.setattr(house.db, "write", dying)
    with contextlib.suppress(Killed):
        till.sync.round()
    monkeypatch.setattr(house.db, "write", write)
    sync.Sync(house, till.live, now=till.now).round()
    amounts = sorted(amount for _, amount, _ in till.entries(alice.org_id))
    assert amounts == [-5.0, 5.0, 10.0, 20.0, 40.0]
    seen = {row["id"] for row in till.reader.execute("SELECT id FROM stripe_event")}
    assert seen == {event["id"] for event in till.account.events if event["type"] in hints.TYPES}


def test_a_kill_between_stripes_page_and_our_note_of_it_loses_no_payment(
    till: Till, house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Stripe.create_session

    def die(self: Stripe, *args: Any) -> None:
        create(self, *args)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Stripe, "create_session", die)
        with pytest.raises(Killed):
            begin(till, alice.org_id)
    (session_id,) = till.account.sessions
    assert till.reader.execute("SELECT session_id FROM topup_intent").fetchone()[0] is None
    till.account.pay(session_id)
    till.sync.round()
    assert till.balance(alice.org_id) == 25


def test_a_page_that_nobody_was_given_ends_by_itself(till: Till, alice: Person) -> None:
    till.served.fail("unreached", "POST /v1/checkout/sessions", times=3)
    with pytest.raises(StripeDown):
        begin(till, alice.org_id)
    assert states(till) == ["pending"]
    till.account.turn(days=1.2)
    till.sync.round()
    assert states(till) == ["expired"]


# --- reconciling ----------------------------------------------------------------------------------------------------


def test_a_restored_backup_is_brought_up_to_date_from_stripes_metadata(till: Till, house: House, alice: Person) -> None:
    paid(till, alice.org_id, 5)
    page = begin(till, alice.org_id, 40)
    till.account.pay(page.session_id)

    def forget(conn: Connection) -> None:
        conn.execute("DELETE FROM topup_intent WHERE id = ?", (page.topup_id,))

    house.db.write(forget)  # as the backup of an hour ago does not know it
    till.sync.round()
    assert till.balance(alice.org_id) == 45


def test_reconciling_again_changes_nothing(till: Till, alice: Person) -> None:
    intent = paid(till, alice.org_id)
    till.account.refund(intent, 500)
    for _ in range(3):
        till.sync.reconcile()
    assert till.entries(alice.org_id)[1:] == [
        ("stripe_refund", -5.0, "stripe_refund:" + next(iter(till.account.refunds)))
    ]


def test_a_cursor_that_stripe_has_forgotten_is_answered_by_reading_back(
    till: Till, house: House, alice: Person
) -> None:
    paid(till, alice.org_id)
    house.db.write(lambda conn: conn.execute("UPDATE stripe_sync SET cursor = 'evt_gone'"))
    page = begin(till, alice.org_id, 10)
    till.account.pay(page.session_id)
    till.sync.round()
    assert till.balance(alice.org_id) == 35
    at = sync.position(till.reader, is_live=False)
    assert at is not None
    assert at.cursor == till.account.visible_events()[0]["id"]


# --- cards, customers -----------------------------------------------------------------------------------------------


def test_the_mirror_follows_what_happens_to_cards(till: Till, alice: Person) -> None:
    till.sync.round()
    customer = till.customer(alice.org_id)
    kept, lost = till.account.save_card(customer.id), till.account.save_card(customer.id)
    till.sync.round()
    assert {card.id for card in cards.every(till.reader, alice.org_id, is_live=False)} == {kept, lost}
    till.account.detach(lost)
    till.account.renew_card(kept, "1881", 2044)
    till.sync.round()
    (card,) = cards.every(till.reader, alice.org_id, is_live=False)
    assert (card.id, card.last4, card.exp_year) == (kept, "1881", 2044)


def test_a_deleted_customer_takes_cards_and_auto_top_up_along_and_the_next_payment_makes_another(
    till: Till, alice: Person
) -> None:
    till.automatic(alice.org_id)
    till.sync.round()
    first = till.customer(alice.org_id)
    till.account.delete_customer(first.id)
    till.sync.round()
    assert cards.every(till.reader, alice.org_id, is_live=False) == []
    row = till.reader.execute("SELECT * FROM auto_topup").fetchone()
    assert (row["enabled"], row["disabled_reason"]) == (0, "payment_method_detached")
    paid(till, alice.org_id)
    second = customers.of_org(till.reader, alice.org_id, is_live=False)
    assert second is not None
    assert second.id != first.id
    assert till.balance(alice.org_id) == 25


def test_a_customer_deleted_a_moment_ago_is_made_anew_by_the_payment_itself(till: Till, alice: Person) -> None:
    first = till.customer(alice.org_id)
    till.account.delete_customer(first.id)
    page = begin(till, alice.org_id)
    assert states(till) == ["pending"]
    till.account.pay(page.session_id)
    till.sync.round()
    assert till.balance(alice.org_id) == 25
    second = customers.of_org(till.reader, alice.org_id, is_live=False)
    assert second is not None
    assert second.id != first.id


def test_a_key_of_another_account_is_synced_though_it_knows_nothing_of_what_was_begun(
    till: Till, alice: Person
) -> None:
    begin(till, alice.org_id)
    till.sync.round()
    for kind in (till.account.customers, till.account.sessions, till.account.intents, till.account.events):
        kind.clear()
    till.account.turn(seconds=2 * 3600)
    till.sync.round()
    at = sync.position(till.reader, is_live=False)
    assert at is not None
    assert at.last_error is None
    page = begin(till, alice.org_id, topup_id="another")
    till.account.pay(page.session_id)
    till.account.turn(seconds=26 * 3600)
    till.sync.round()
    assert till.balance(alice.org_id) == 25
    assert sorted(states(till)) == ["expired", "succeeded"]


# --- refunds and disputes -------------------------------------------------------------------------------------------


def test_a_refund_is_taken_from_the_balance_which_may_go_below_zero(till: Till, alice: Person) -> None:
    intent = paid(till, alice.org_id, 25)
    till.spend(alice.org_id, 20)
    refund = till.account.refund(intent)
    till.sync.round()
    assert till.entries(alice.org_id)[-1] == ("stripe_refund", -25.0, f"stripe_refund:{refund}")
    assert till.balance(alice.org_id) == -20


def test_refunds_of_a_taxed_payment_take_their_share_and_together_not_a_millionth_more(
    till: Till, alice: Person
) -> None:
    till.account.tax_percent = 19
    intent = paid(till, alice.org_id, 10.01)
    total = till.account.intents[intent]["amount"]
    for _ in range(6):
        till.account.refund(intent, total // 7)
        till.sync.round()
    till.account.refund(intent)
    till.sync.round()
    taken = [amount for kind, amount, _ in till.entries(alice.org_id) if kind == "stripe_refund"]
    assert len(taken) == 7
    assert till.balance(alice.org_id) == 0


def test_a_refund_that_came_to_nothing_is_given_back(till: Till, alice: Person) -> None:
    intent = paid(till, alice.org_id, 25)
    refund = till.account.refund(intent, 1000, status="pending")
    till.sync.round()
    assert till.balance(alice.org_id) == 15
    till.account.fail_refund(refund)
    till.sync.round()
    assert till.balance(alice.org_id) == 25
    till.account.refund(intent, 500)
    till.sync.round()
    assert till.balance(alice.org_id) == 20


def test_a_dispute_takes_the_money_raises_an_alert_and_stops_auto_top_up(till: Till, alice: Person) -> None:
    till.automatic(alice.org_id)
    intent = paid(till, alice.org_id, 25)
    dispute = till.account.dispute(intent)
    till.sync.round()
    assert till.entries(alice.org_id)[-1] == ("stripe_refund", -25.0, f"stripe_dispute:{dispute}")
    (alert,) = alerts.open_(till.reader)
    assert (alert.kind, alert.subject, alert.org_id) == ("dispute", dispute, alice.org_id)
    row = till.reader.execute("SELECT * FROM auto_topup").fetchone()
    assert (row["enabled"], row["disabled_reason"]) == (0, "admin_disabled")
    till.account.close_dispute(dispute, is_won=False)
    till.sync.round()
    assert till.balance(alice.org_id) == 0
    assert alerts.open_(till.reader) == []


def test_a_dispute_that_is_won_brings_the_money_back(till: Till, alice: Person) -> None:
    intent = paid(till, alice.org_id, 25)
    dispute = till.account.dispute(intent, 1000)
    till.sync.round()
    assert till.balance(alice.org_id) == 15
    till.account.close_dispute(dispute, is_won=True)
    till.sync.round()
    till.sync.reconcile()
    assert till.entries(alice.org_id)[-1] == ("credit", 10.0, f"stripe_dispute_undone:{dispute}")
    assert till.balance(alice.org_id) == 25


def test_a_refund_and_a_dispute_together_never_take_more_than_was_credited(till: Till, alice: Person) -> None:
    intent = paid(till, alice.org_id, 25)
    till.account.refund(intent, 2000)
    till.account.dispute(intent)
    till.sync.round()
    assert till.balance(alice.org_id) == 0


def test_a_refund_that_a_dispute_hid_is_taken_once_the_dispute_is_won(till: Till, alice: Person) -> None:
    intent = paid(till, alice.org_id, 25)
    dispute = till.account.dispute(intent)
    till.sync.round()
    till.account.refund(intent, 1000)
    till.sync.round()
    assert till.balance(alice.org_id) == 0
    till.account.close_dispute(dispute, is_won=True)
    till.account.turn(seconds=34 * DAY)  # no event tells of it any more, and a reconciliation looks once
    till.sync.round()
    assert till.balance(alice.org_id) == 15


# --- subscriptions --------------------------------------------------------------------------------------------------


@pytest.fixture
def sold(house: House) -> None:
    def change(conn: Connection) -> None:
        for slug in ("team", "works"):
            plans.create(
                conn, slug, slug, plans.Changes(stripe_price=f"price_{slug}"), actor="operator:test", reason="sold"
            )

    house.db.write(change)


def plan_of(till: Till, org_id: str) -> str:
    return organisations.get(till.reader, org_id).plan


@pytest.mark.usefixtures("sold")
def test_a_subscription_sets_the_plan_and_its_end_takes_it_away(till: Till, house: House, alice: Person) -> None:
    page = checkout.subscribe(
        house.db, till.api, house.settings.billing, alice.org_id, plans.get(till.reader, "team"), "once"
    )
    asked = till.served.asked[-1].params
    assert (asked["mode"], asked["line_items"]) == ("subscription", [{"price": "price_team", "quantity": "1"}])
    till.account.pay(page.session_id)
    till.sync.round()
    assert plan_of(till, alice.org_id) == "team"
    (made,) = till.account.subscriptions
    till.account.change_subscription(made, price="price_works")
    till.sync.round()
    assert plan_of(till, alice.org_id) == "works"
    till.account.change_subscription(made, status="past_due")
    till.sync.round()
    assert plan_of(till, alice.org_id) == "works"
    till.account.change_subscription(made, status="canceled")
    till.sync.round()
    assert plan_of(till, alice.org_id) == "standard"
    assert till.entries(alice.org_id) == []
    rows = till.reader.execute("SELECT actor FROM audit WHERE action = 'organisation.changed'")
    assert [row["actor"] for row in rows] == ["stripe"] * 3


@pytest.mark.usefixtures("sold")
def test_an_ended_subscription_leaves_a_plan_alone_that_the_operator_gave(
    till: Till, house: House, alice: Person
) -> None:
    made = till.account.subscribe(till.customer(alice.org_id).id, "price_team")
    till.sync.round()
    changes = organisations.Changes(plan="works")
    house.db.write(
        lambda conn: organisations.change(conn, alice.org_id, changes, actor="operator:test", reason="a gift")
    )
    till.account.change_subscription(made, status="canceled")
    till.sync.round()
    assert plan_of(till, alice.org_id) == "works"


@pytest.mark.usefixtures("sold")
def test_a_subscription_that_ended_before_leaves_a_plan_alone_that_the_operator_gave_since(
    till: Till, house: House, alice: Person
) -> None:
    made = till.account.subscribe(till.customer(alice.org_id).id, "price_team")
    till.sync.round()
    till.account.change_subscription(made, status="canceled")
    till.sync.round()
    assert plan_of(till, alice.org_id) == "standard"
    changes = organisations.Changes(plan="team")
    house.db.write(
        lambda conn: organisations.change(conn, alice.org_id, changes, actor="operator:test", reason="a gift")
    )
    till.sync.reconcile()
    assert plan_of(till, alice.org_id) == "team"
    till.account.change_subscription(
        till.account.subscribe(till.customer(alice.org_id).id, "price_team"), status="incomplete_expired"
    )
    till.sync.round()
    assert plan_of(till, alice.org_id) == "team"


def test_a_price_that_no_plan_names_raises_an_alert(till: Till, alice: Person) -> None:
    till.account.subscribe(till.customer(alice.org_id).id, "price_unheard_of")
    till.sync.round()
    (alert,) = alerts.open_(till.reader)
    assert alert.kind == "unknown_price"
    assert plan_of(till, alice.org_id) == "standard"


# --- faults of the key and of objects -------------------------------------------------------------------------------


def test_a_key_that_may_not_read_subscriptions_still_credits(till: Till, alice: Person) -> None:
    till.sync.round()
    till.account.subscribe(till.customer(alice.org_id).id, "price_team")
    page = begin(till, alice.org_id)
    till.account.pay(page.session_id)
    till.served.fail("403", "GET /v1/subscriptions", times=10)
    till.sync.round()
    till.sync.reconcile()
    assert till.balance(alice.org_id) == 25
    (alert,) = alerts.open_(till.reader)
    assert "give it the permission" in alert.message


def test_a_key_that_may_not_read_payments_waits_for_the_operator(till: Till, alice: Person) -> None:
    till.sync.round()
    page = begin(till, alice.org_id)
    till.account.pay(page.session_id)
    till.served.fail("403", "GET /v1/checkout/sessions/", times=2)
    for _ in range(2):
        with pytest.raises(StripeRefused, match="permission"):
            till.sync.round()
    till.sync.round()
    assert till.balance(alice.org_id) == 25


def test_an_object_that_cannot_be_read_does_not_stop_those_after_it(till: Till, alice: Person) -> None:
    till.sync.round()
    odd = till.account.save_card(till.customer(alice.org_id).id)
    page = begin(till, alice.org_id)
    till.account.pay(page.session_id)
    card, till.account.cards[odd]["card"] = till.account.cards[odd]["card"], None
    till.sync.round()
    assert till.balance(alice.org_id) == 25
    (alert,) = alerts.open_(till.reader)
    assert "stripe reconcile" in alert.message
    till.account.cards[odd]["card"] = card
    till.sync.reconcile()
    assert len(cards.every(till.reader, alice.org_id, is_live=False)) == 1


def test_a_refusal_of_the_key_is_the_operators_to_see(till: Till, alice: Person) -> None:
    path = till.house.settings.home.parent / "stripe-key"
    path.write_text("rk_live_" + "x" * 20)  # the fake knows test keys only
    till.account.turn(seconds=1)
    with pytest.raises(StripeRefused, match="does not know the key"):
        till.sync.round()
    at = sync.position(till.reader, is_live=True)
    assert at is not None
    assert at.last_error is not None


def test_micro_dollars_are_whole_cents_at_stripe(till: Till, alice: Person) -> None:
    begin(till, alice.org_id, 5.07)
    (session,) = till.account.sessions.values()
    assert session["amount_total"] * 10_000 == 5.07 * USD
    assert DAY == 86_400
