"""What tests of payments share: settings that lead to a Stripe of our own, and time that both live in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import stripe as package
from msgspec.structs import replace

from appliance.billing import autotopup, cards, customers, ledger
from appliance.billing.customers import Customer
from appliance.billing.ledger import EntryType
from appliance.billing.stripe import Live
from appliance.billing.sync import Sync
from appliance.database import Connection
from appliance.house import House
from appliance.settings import Billing, Settings
from tests.fakestripe import serving
from tests.fakestripe.server import Served

USD = 1_000_000
KEY = "rk_test_51Qn2eLkdIwHu7ix"


@contextmanager
def faking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The fake, with a client that does not sleep between its tries."""
    monkeypatch.setattr(package.HTTPClient, "INITIAL_DELAY", 0.001)
    monkeypatch.setattr(package.HTTPClient, "MAX_DELAY", 0.001)
    with serving() as served:
        yield served


def leading_to(settings: Settings, served: Served, **more: Any) -> Settings:
    """The settings, with a key and the fake's address."""
    path = settings.home.parent / "stripe-key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    billing = Billing(stripe_key_file=str(path), stripe_address=served.address, stripe_timeout_s=5.0, **more)
    return replace(settings, billing=billing)


class Till:
    """One house, its sync and its Stripe, in the fake's time."""

    def __init__(self, house: House, served: Served) -> None:
        self.house = house
        self.served = served
        self.account = served.account
        self.live = Live(house.settings.billing)
        self.sync = Sync(house, self.live, now=self.now)

    @property
    def api(self) -> Any:
        return self.live.current()

    @property
    def reader(self) -> Connection:
        return self.house.db.reader()

    def now(self) -> int:
        return self.account.now_ms()

    def balance(self, org_id: str) -> float:
        return ledger.balance(self.reader, org_id) / USD

    def entries(self, org_id: str) -> list[tuple[str, float, str]]:
        """Type, dollars and source of each, the oldest first."""
        rows = self.reader.execute("SELECT * FROM ledger WHERE org_id = ? ORDER BY seq", (org_id,))
        return [(row["type"], row["amount_micros"] / USD, f"{row['source_type']}:{row['source_id']}") for row in rows]

    def spend(self, org_id: str, dollars: float) -> None:
        """As a job's charge does."""
        micros = -int(dollars * USD)

        def change(conn: Connection) -> None:
            count = conn.execute("SELECT count(*) FROM ledger").fetchone()[0]
            ledger.post(
                conn,
                org_id,
                EntryType.CHARGE,
                micros,
                source=("job", f"test-{count}"),
                description="Spent",
                now=self.now(),
            )

        self.house.db.write(change)

    def customer(self, org_id: str) -> Customer:
        return customers.get_or_create(self.house.db, self.api, org_id)

    def card(self, org_id: str, like: str = "pm_card_visa") -> str:
        """A saved card, in the mirror."""
        customer = self.customer(org_id)
        card_id = self.account.save_card(customer.id, like)
        cards.refresh(self.house.db, self.api, customer, self.now())
        return card_id

    def automatic(self, org_id: str, like: str = "pm_card_visa", below: float = 10, amount: float = 50) -> str:
        """Auto top-up, from a new card. Returns the card."""
        card_id = self.card(org_id, like)
        given: dict[str, object] = {
            "enabled": True,
            "threshold_usd": below,
            "amount_usd": amount,
            "payment_method_id": card_id,
        }
        self.house.db.write(lambda conn: autotopup.change(conn, org_id, given, self.now(), actor="test"))
        return card_id

    def close(self) -> None:
        self.live.close()
