"""Payments at random: whatever happens in whatever order, with answers lost, kills and weeks without a line in between,
in the end the ledger is what Stripe's objects say, to the millionth."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.billing import checkout, offsession
from appliance.errors import StripeDown, StripeRefused
from appliance.house import House
from appliance.settings import Settings
from tests.cast import Person
from tests.fakestripe.account import CARDS, Account
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


class Killed(BaseException):
    """The process ends here."""


class Play:
    """One run of chance. Every act may fail as a process does; what it did not finish, another one finds."""

    def __init__(self, till: Till, org_id: str, seed: int) -> None:
        self.till = till
        self.account = till.account
        self.org_id = org_id
        self.chance = random.Random(seed)
        self.topups = 0

    def step(self) -> None:
        acts = [self.decide, self.refund, self.dispute, self.judge, self.spend, self.wait, self.change_card]
        acts += [self.open, self.pay, self.sync, self.charge] * 3 + [self.refund, self.decide, self.change_card]
        if self.chance.random() < 0.15:
            kind = self.chance.choice(["lost", "unreached", "500"])
            start = self.chance.choice(["", "POST", "GET", "POST /v1/payment_intents", "GET /v1/events"])
            self.till.served.fail(kind, start, times=self.chance.choice([1, 3, 3]))
        with contextlib.suppress(StripeDown, StripeRefused, Killed):
            self.chance.choice(acts)()

    # --- us

    def open(self) -> None:
        self.topups += 1
        wish = checkout.parse({"amount_usd": self.chance.randrange(500, 10_000) / 100})
        billing = self.till.house.settings.billing
        checkout.open_(
            self.till.house.db, self.till.api, billing, self.org_id, f"topup-{self.topups}", wish, self.till.now()
        )

    def spend(self) -> None:
        self.till.spend(self.org_id, self.chance.randrange(1, 300))

    def sync(self) -> None:
        with self.dying():
            self.till.sync.round()

    def charge(self) -> None:
        with self.dying():
            for org_id in offsession.due(self.till.reader):
                offsession.step(self.till.house.db, self.till.api, org_id, self.till.now(), most_a_day=1000)

    def change_card(self) -> None:
        cards = ["pm_card_visa"] * 4 + list(CARDS)
        self.till.automatic(self.org_id, self.chance.choice(cards), below=10, amount=self.chance.randrange(20, 90))

    @contextlib.contextmanager
    def dying(self) -> Iterator[None]:
        """Perhaps the process is killed as it is about to write."""
        left = self.chance.choice([1, 2, 3, 4, 1000, 1000, 1000, 1000])
        db: Any = self.till.house.db
        write = db.write

        def dying(change: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise Killed
            return write(change)

        db.write = dying
        try:
            yield
        finally:
            db.write = write

    # --- the others

    def pay(self) -> None:
        self._pick(
            [one["id"] for one in self.account.sessions.values() if one["status"] == "open"],
            lambda id: self.account.pay(id, is_slow=self.chance.random() < 0.3),
        )

    def decide(self) -> None:
        waiting = [
            one["id"]
            for one in self.account.sessions.values()
            if one["payment_intent"] and self.account.intents[one["payment_intent"]]["status"] == "processing"
        ]
        self._pick(waiting, lambda id: self.account.come_through(id, is_good=self.chance.random() < 0.7))

    def refund(self) -> None:
        def some(intent_id: str) -> None:
            charge = self.account.charges[self.account.intents[intent_id]["latest_charge"]]
            left = charge["amount"] - charge["amount_refunded"]
            if left:
                refund = self.account.refund(intent_id, self.chance.randint(1, left))
                if self.chance.random() < 0.2:
                    self.account.fail_refund(refund)

        self._pick(self._paid(), some)

    def dispute(self) -> None:
        disputed = {one["payment_intent"] for one in self.account.disputes.values()}
        self._pick([id for id in self._paid() if id not in disputed], self.account.dispute)

    def judge(self) -> None:
        waiting = [one["id"] for one in self.account.disputes.values() if one["status"] == "needs_response"]
        self._pick(waiting, lambda id: self.account.close_dispute(id, is_won=self.chance.random() < 0.5))

    def wait(self) -> None:
        self.account.turn(seconds=self.chance.choice([61, 61, 61, 61, 3700, 7 * 3600, 86_400 * 2, 86_400 * 34]))

    def _paid(self) -> list[str]:
        return [one["id"] for one in self.account.intents.values() if one["status"] == "succeeded"]

    def _pick(self, found: list[str], act: Any) -> None:
        if found:
            act(self.chance.choice(found))


def owed(account: Account) -> dict[str, int]:
    """Payment → what is left of its credit by Stripe's objects, where nothing of it is disputed."""
    left: dict[str, int] = {}
    for intent in account.intents.values():
        if intent["status"] != "succeeded":
            continue
        credit = int(intent["metadata"]["credit_micros"])
        paid = intent["amount"]
        back = sum(
            one["amount"]
            for one in account.refunds.values()
            if one["payment_intent"] == intent["id"] and one["status"] != "failed"
        )
        left[intent["id"]] = credit - (2 * credit * back + paid) // (2 * paid)
    return left


@pytest.mark.parametrize("seed", range(4))
def test_in_the_end_the_ledger_is_what_stripe_says(till: Till, alice: Person, seed: int) -> None:
    till.account.tax_percent = 19 * (seed % 2)
    play = Play(till, alice.org_id, seed)
    for _ in range(80):
        play.step()
    till.served.faults.clear()
    for _ in range(3):
        till.account.turn(seconds=3700)
        till.sync.round()
        for org_id in offsession.due(till.reader):
            offsession.step(till.house.db, till.api, org_id, till.now(), most_a_day=1000)
    till.sync.reconcile()

    # Each payment credited once, and each once in the ledger.
    paid = owed(till.account)
    rows = till.reader.execute("SELECT * FROM topup_intent WHERE status = 'succeeded' AND mode != 'setup'").fetchall()
    assert {row["payment_intent_id"] for row in rows} == set(paid)
    credited = till.reader.execute(
        "SELECT count(*) FROM ledger WHERE source_type IN ('checkout', 'payment_intent')"
    ).fetchone()[0]
    assert credited == len(paid)

    # And what is left of it is what was not given back.
    disputed = {one["payment_intent"] for one in till.account.disputes.values()}
    for row in rows:
        taken = till.reader.execute(
            "SELECT ifnull(sum(debit_micros), 0) FROM stripe_reversal WHERE topup_id = ?", (row["id"],)
        ).fetchone()[0]
        left = row["amount_micros"] - taken
        if row["payment_intent_id"] not in disputed:
            assert left == paid[row["payment_intent_id"]]
        else:
            assert 0 <= left <= paid[row["payment_intent_id"]]
    booked = till.reader.execute("SELECT sum(amount_micros) FROM ledger WHERE source_type NOT IN ('job')").fetchone()[0]
    kept = till.reader.execute(
        "SELECT (SELECT ifnull(sum(amount_micros), 0) FROM topup_intent WHERE status = 'succeeded')"
        " - (SELECT ifnull(sum(debit_micros), 0) FROM stripe_reversal)"
    ).fetchone()[0]
    assert (booked or 0) == kept
