"""Checkout, portal, saved cards and auto top-up over HTTP, against a Stripe of our own. B.1 14 to 19."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance.billing import autotopup, checkout, customers
from appliance.database import Connection
from appliance.house import House
from appliance.settings import Settings
from tests import recorded
from tests.cast import Person, enrol
from tests.fakestripe.server import Served
from tests.paying import Till, faking, leading_to

Client = TestClient[Any]

CHECKOUT = "/api/v1/billing/checkout-session"
PORTAL = "/api/v1/billing/portal-session"
CARDS = "/api/v1/billing/payment-methods"
AUTO = "/api/v1/billing/auto-topup"
OFF = {"enabled": False, "threshold_usd": None, "amount_usd": None, "payment_method_id": None, "disabled_reason": None}


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


@pytest.fixture
def alice(house: House) -> Person:
    return enrol(house, "A", "alice", granted=("billing:write",))


@pytest.fixture
def charlie(house: House) -> Person:
    return enrol(house, "C", "charlie", granted=("billing:write",))


# --- checkout -------------------------------------------------------------------------------------------------------


def test_a_top_up_is_credited_once_it_is_paid(client: Client, till: Till, alice: Person) -> None:
    answer = client.post(
        CHECKOUT, headers=alice.headers, json={"mode": "payment", "amount_usd": 25, "save_payment_method": True}
    )
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["url", "topup_intent_id", "session_id", "expires_at"]
    assert body["url"].startswith("https://checkout.stripe.com/")
    till.sync.round()
    assert till.balance(alice.org_id) == 0
    till.account.pay(body["session_id"])
    till.sync.round()
    assert till.entries(alice.org_id) == [("credit", 25.0, f"checkout:{body['session_id']}")]
    cards = client.get(CARDS, headers=alice.headers).json()["payment_methods"]
    assert [(card["card_brand"], card["card_last4"]) for card in cards] == [("visa", "4242")]


def test_what_is_asked_of_stripe_is_what_the_contract_says(client: Client, till: Till, alice: Person) -> None:
    client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": "25.50"})
    asked = next(one for one in till.served.asked if one.path == "/v1/checkout/sessions")
    said = asked.params
    topup = till.reader.execute("SELECT * FROM topup_intent").fetchone()
    assert asked.key == f"topup:{topup['id']}"
    assert asked.headers["stripe-version"] == "2026-10-28.endive"
    assert "x-stripe-client-telemetry" not in asked.headers
    assert said["mode"] == "payment"
    assert said["client_reference_id"] == topup["id"]
    assert said["metadata"]["topup_intent_id"] == topup["id"]
    assert said["payment_intent_data"] == {"metadata": said["metadata"]}
    assert said["line_items"][0]["price_data"]["unit_amount"] == "2550"
    assert said["billing_address_collection"] == "required"
    assert said["automatic_tax"] == said["tax_id_collection"] == said["invoice_creation"] == {"enabled": "true"}
    assert said["adaptive_pricing"] == {"enabled": "true"}
    assert said["customer_update"] == {"address": "auto", "name": "auto"}
    assert said["success_url"].startswith("http://127.0.0.1:8000/billing?topup=success")
    assert said["cancel_url"] == "http://127.0.0.1:8000/billing?topup=cancelled"


def test_only_who_asks_for_it_has_the_card_saved(client: Client, till: Till, alice: Person) -> None:
    client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 5, "save_payment_method": True})
    asked = next(one for one in till.served.asked if one.path == "/v1/checkout/sessions")
    assert asked.params["payment_intent_data"]["setup_future_usage"] == "off_session"


def test_a_setup_saves_a_card_and_credits_nothing(client: Client, till: Till, alice: Person) -> None:
    body = client.post(CHECKOUT, headers=alice.headers, json={"mode": "setup"}).json()
    asked = next(one for one in till.served.asked if one.path == "/v1/checkout/sessions")
    assert (asked.params["mode"], asked.params["currency"]) == ("setup", "usd")
    assert asked.params["setup_intent_data"]["metadata"]["topup_intent_id"] == body["topup_intent_id"]
    till.account.pay(body["session_id"])
    till.sync.round()
    assert till.entries(alice.org_id) == []
    assert len(client.get(CARDS, headers=alice.headers).json()["payment_methods"]) == 1
    assert till.reader.execute("SELECT status FROM topup_intent").fetchone()["status"] == "succeeded"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "amount_usd is required"),
        ({"mode": "payment"}, "amount_usd is required"),
        ({"amount_usd": None}, "amount_usd is required"),
        ({"amount_usd": 4.99}, "between 5 and 5000"),
        ({"amount_usd": 5000.01}, "between 5 and 5000"),
        ({"amount_usd": -25}, "must not be negative"),
        ({"amount_usd": "25,00"}, "must be a number of US dollars"),
        ({"amount_usd": True}, "must be a number of US dollars"),
        ({"amount_usd": 25.005}, "whole cents"),
        ({"mode": "setup", "amount_usd": 25}, "must not be given with the mode setup"),
        ({"mode": "subscription", "amount_usd": 25}, "mode must be payment or setup"),
        ({"amount_usd": 25, "save_payment_method": "yes"}, "save_payment_method must be true or false"),
        ([], "must be a JSON object"),
    ],
)
def test_another_wish_is_refused_before_stripe_hears_of_it(
    client: Client, till: Till, alice: Person, body: Any, message: str
) -> None:
    answer = client.post(CHECKOUT, headers=alice.headers, json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")
    assert message in answer.json()["message"]
    assert till.served.asked == []


def test_a_member_that_nobody_knows_is_ignored(client: Client, alice: Person) -> None:
    answer = client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 5000, "colour": "blue"})
    assert answer.status_code == 200


def test_the_same_idempotency_key_is_the_same_page(client: Client, till: Till, alice: Person) -> None:
    headers = {**alice.headers, "Idempotency-Key": "order-1"}
    first = client.post(CHECKOUT, headers=headers, json={"amount_usd": 25})
    again = client.post(CHECKOUT, headers=headers, json={"amount_usd": 25})
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len(till.account.sessions) == 1
    other = client.post(CHECKOUT, headers=headers, json={"amount_usd": 30})
    assert (other.status_code, other.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_an_answer_of_stripes_that_is_lost_is_asked_for_again(client: Client, till: Till, alice: Person) -> None:
    till.served.fail("lost", "POST /v1/customers")
    till.served.fail("lost", "POST /v1/checkout/sessions")
    assert client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 25}).status_code == 200
    assert (len(till.account.customers), len(till.account.sessions)) == (1, 1)
    assert len(till.served.replayed) == 2


@pytest.mark.parametrize("fault", ["unreached", "500", "429"])
def test_stripe_down_is_said_with_a_time_to_come_back(client: Client, till: Till, alice: Person, fault: str) -> None:
    till.served.fail(fault, "POST /v1/checkout/sessions", times=3)
    answer = client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 25})
    assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    assert client.get("/api/v1/billing/balance", headers=alice.headers).status_code == 200


def test_many_first_payments_at_once_make_one_customer(house: House, till: Till, alice: Person) -> None:
    def begin(number: int) -> str:
        wish = checkout.parse({"amount_usd": 5 + number})
        billing = house.settings.billing
        return checkout.open_(house.db, till.api, billing, alice.org_id, f"t{number}", wish, till.now()).session_id

    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(begin, range(8)))
    assert len(set(sessions)) == 8
    assert len(till.account.customers) == 1


def test_a_payment_that_looked_before_another_made_the_customer_makes_no_second(
    house: House, till: Till, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = customers.get_or_create(house.db, till.api, alice.org_id)
    look, looks = customers.of_org, iter([None])

    def too_early(conn: Connection, org_id: str, *, is_live: bool) -> customers.Customer | None:
        return next(looks, look(conn, org_id, is_live=is_live))

    monkeypatch.setattr(customers, "of_org", too_early)
    assert customers.get_or_create(house.db, till.api, alice.org_id) == first
    assert len(till.account.customers) == 1


def test_a_slow_method_is_credited_when_it_came_through(client: Client, till: Till, alice: Person) -> None:
    one, two = (client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": n}).json() for n in (25, 30))
    for body in (one, two):
        till.account.pay(body["session_id"], is_slow=True)
    till.sync.round()
    assert till.balance(alice.org_id) == 0
    till.account.come_through(one["session_id"])
    till.account.come_through(two["session_id"], is_good=False)
    till.sync.round()
    assert till.balance(alice.org_id) == 25
    states = till.reader.execute("SELECT status FROM topup_intent ORDER BY amount_micros")
    assert [row["status"] for row in states] == ["succeeded", "failed"]


def test_tax_is_paid_and_not_credited(client: Client, till: Till, alice: Person) -> None:
    till.account.tax_percent = 20
    body = client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 25}).json()
    assert till.account.pay(body["session_id"])["amount_total"] == 3000
    till.sync.round()
    assert till.balance(alice.org_id) == 25


def test_who_comes_back_from_the_page_need_not_wait_for_the_sync(client: Client, till: Till, alice: Person) -> None:
    body = client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 25}).json()
    till.account.pay(body["session_id"])
    page = client.get("/billing", params={"topup": "success", "session_id": body["session_id"]})
    assert page.status_code == 200
    assert "It is done" in page.text
    assert till.balance(alice.org_id) == 25
    till.sync.round()
    assert till.balance(alice.org_id) == 25


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({}, "as soon as"),
        ({"topup": "cancelled"}, "Nothing was paid"),
        ({"topup": "success"}, "as soon as"),
        ({"topup": "success", "session_id": "cs_of_nobody"}, "as soon as"),
        ({"topup": "success", "session_id": "<script>"}, "as soon as"),
    ],
)
def test_the_page_tells_nobody_anything_else(client: Client, till: Till, query: dict[str, str], said: str) -> None:
    page = client.get("/billing", params=query)
    assert (page.status_code, said in page.text, "script" in page.text) == (200, True, False)
    assert till.served.asked == []


def test_the_page_asks_stripe_about_one_payment_once_in_two_seconds(house: House, till: Till, alice: Person) -> None:
    wish = checkout.parse({"amount_usd": 25})
    page = checkout.open_(house.db, till.api, house.settings.billing, alice.org_id, "t1", wish, till.now())
    for _ in range(5):
        checkout.look(house.db, till.api, page.session_id, till.now())
    assert len(till.served.paths("GET /v1/checkout/sessions/")) == 1


def test_what_is_wrong_with_the_key_is_told_to_the_operator_only(
    client: Client, till: Till, house: House, alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    path = house.settings.home.parent / "stripe-key"
    path.chmod(0o644)
    unusable = client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 25})
    path.chmod(0o600)
    till.customer(alice.org_id)
    till.served.fail("403", "POST /v1/checkout")
    forbidden = client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 25})
    for answer in (unusable, forbidden):
        assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.headers["retry-after"] == "300"
        assert str(path) not in answer.text
        assert "permission" not in answer.text
        assert "customhouse stripe status" in answer.json()["message"]
    whys = [getattr(record, "why", "") for record in caplog.records]
    assert any(str(path) in why for why in whys)
    assert any("permission" in why for why in whys)


# --- portal ---------------------------------------------------------------------------------------------------------


def test_the_portal_is_opened_for_the_account_s_own_customer(client: Client, till: Till, alice: Person) -> None:
    answer = client.post(PORTAL, headers=alice.headers)
    assert answer.status_code == 200
    assert list(answer.json()) == ["url"]
    asked = next(one for one in till.served.asked if one.path == "/v1/billing_portal/sessions")
    assert asked.params["customer"] == till.customer(alice.org_id).id


def test_a_portal_without_settings_at_stripe_says_what_is_missing(client: Client, till: Till, alice: Person) -> None:
    till.account.has_portal = False
    answer = client.post(PORTAL, headers=alice.headers)
    assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
    assert "saving your customer portal settings" in answer.json()["message"]


# --- saved cards ----------------------------------------------------------------------------------------------------


def test_a_card_is_shown_by_brand_last_four_and_expiry(client: Client, till: Till, alice: Person) -> None:
    card_id = till.card(alice.org_id)
    (shown,) = client.get(CARDS, headers=alice.headers).json()["payment_methods"]
    assert list(shown) == [
        "payment_method_id",
        "card_brand",
        "card_last4",
        "card_exp_month",
        "card_exp_year",
        "is_default",
        "created_at",
    ]
    assert (shown["payment_method_id"], shown["is_default"]) == (card_id, False)


def test_the_list_is_as_stripe_has_it_and_as_last_seen_while_stripe_is_down(
    client: Client, till: Till, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.api.payments._FRESH_MS", 0)
    customer = till.customer(alice.org_id)
    till.account.save_card(customer.id)
    assert len(client.get(CARDS, headers=alice.headers).json()["payment_methods"]) == 1
    till.account.save_card(customer.id)
    till.served.fail("unreached", "GET /v1/customers", times=3)
    assert len(client.get(CARDS, headers=alice.headers).json()["payment_methods"]) == 1
    assert len(client.get(CARDS, headers=alice.headers).json()["payment_methods"]) == 2


def test_detaching_the_card_of_auto_top_up_switches_it_off(client: Client, till: Till, alice: Person) -> None:
    card_id = till.automatic(alice.org_id)
    (shown,) = client.get(CARDS, headers=alice.headers).json()["payment_methods"]
    assert shown["is_default"] is True
    answer = client.delete(f"{CARDS}/{card_id}", headers=alice.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert till.account.cards[card_id]["customer"] is None
    found = client.get(AUTO, headers=alice.headers).json()
    assert (found["enabled"], found["disabled_reason"]) == (False, "payment_method_detached")
    assert client.get(CARDS, headers=alice.headers).json() == {"payment_methods": []}
    again = client.delete(f"{CARDS}/{card_id}", headers=alice.headers)
    assert (again.status_code, again.json()["error"]) == (404, "NOT_FOUND")


def test_another_account_s_card_is_not_there(client: Client, till: Till, alice: Person, charlie: Person) -> None:
    card_id = till.card(alice.org_id)
    till.card(charlie.org_id)
    answer = client.delete(f"{CARDS}/{card_id}", headers=charlie.headers)
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")
    assert till.account.cards[card_id]["customer"] is not None
    put = client.put(AUTO, headers=charlie.headers, json={"payment_method_id": card_id})
    assert put.status_code == 400
    assert till.served.paths("POST /v1/payment_methods") == []


def test_an_unknown_card_is_not_found_and_one_that_is_too_long_refused(client: Client, alice: Person) -> None:
    answer = client.delete(f"{CARDS}/pm_unknown", headers=alice.headers)
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")
    answer = client.delete(f"{CARDS}/{'p' * 65}", headers=alice.headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")


def test_a_card_that_stripe_has_let_go_already_is_detached_here(client: Client, till: Till, alice: Person) -> None:
    card_id = till.card(alice.org_id)
    till.account.detach(card_id)
    assert client.delete(f"{CARDS}/{card_id}", headers=alice.headers).status_code == 204


# --- auto top-up ----------------------------------------------------------------------------------------------------


def test_auto_top_up_begins_off_and_is_changed_member_by_member(client: Client, till: Till, alice: Person) -> None:
    card_id = till.card(alice.org_id)
    assert client.get(AUTO, headers=alice.headers).json() == OFF
    put = client.put(AUTO, headers=alice.headers, json={"threshold_usd": 10, "amount_usd": "50"})
    assert put.json() == {**OFF, "threshold_usd": 10.0, "amount_usd": 50.0}
    put = client.put(AUTO, headers=alice.headers, json={"enabled": True, "payment_method_id": card_id})
    wanted = {
        "enabled": True,
        "threshold_usd": 10.0,
        "amount_usd": 50.0,
        "payment_method_id": card_id,
        "disabled_reason": None,
    }
    assert put.json() == wanted
    assert client.get(AUTO, headers=alice.headers).json() == wanted
    put = client.put(AUTO, headers=alice.headers, json={"enabled": False})
    assert put.json() == {**wanted, "enabled": False}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"enabled": True}, "threshold_usd is required"),
        ({"enabled": True, "threshold_usd": 10}, "amount_usd is required"),
        ({"enabled": True, "threshold_usd": 10, "amount_usd": 50}, "payment_method_id is required"),
        ({"threshold_usd": 50, "amount_usd": 50}, "threshold_usd must be less than amount_usd"),
        ({"threshold_usd": 60, "amount_usd": 50}, "threshold_usd must be less than amount_usd"),
        ({"threshold_usd": 4.99}, "between 5 and 5000"),
        ({"amount_usd": 5000.01}, "between 5 and 5000"),
        ({"amount_usd": -50}, "must not be negative"),
        ({"amount_usd": "much"}, "must be a number"),
        ({"enabled": "yes"}, "enabled must be true or false"),
        ({"enabled": None}, "enabled must be true or false"),
        ({"payment_method_id": 7}, "must be a string"),
        ({"payment_method_id": "p" * 65}, "at most 64"),
        ({"payment_method_id": "pm_unknown"}, "none of this account's saved cards"),
    ],
)
def test_what_cannot_stand_together_is_refused_and_changes_nothing(
    client: Client, alice: Person, body: Any, message: str
) -> None:
    answer = client.put(AUTO, headers=alice.headers, json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")
    assert message in answer.json()["message"]
    assert client.get(AUTO, headers=alice.headers).json() == OFF


def test_the_merged_state_is_what_is_checked(client: Client, till: Till, alice: Person) -> None:
    till.automatic(alice.org_id, below=10, amount=50)
    for body in ({"threshold_usd": 50}, {"amount_usd": 10}, {"payment_method_id": None}, {"amount_usd": None}):
        assert client.put(AUTO, headers=alice.headers, json=body).status_code == 400, body
    assert client.put(AUTO, headers=alice.headers, json={"threshold_usd": 49}).status_code == 200


def test_enabling_again_clears_the_reason(client: Client, till: Till, house: House, alice: Person) -> None:
    till.automatic(alice.org_id)
    why = autotopup.DisabledReason.ADMIN_DISABLED
    house.db.write(
        lambda conn: autotopup.disable(conn, alice.org_id, why, till.now(), actor="operator:test", reason="a call")
    )
    assert client.get(AUTO, headers=alice.headers).json()["disabled_reason"] == "admin_disabled"
    kept = client.put(AUTO, headers=alice.headers, json={"threshold_usd": 11}).json()
    assert (kept["enabled"], kept["disabled_reason"]) == (False, "admin_disabled")
    put = client.put(AUTO, headers=alice.headers, json={"enabled": True}).json()
    assert (put["enabled"], put["disabled_reason"]) == (True, None)


def test_every_change_is_in_the_audit_log_with_the_key(client: Client, till: Till, house: House, alice: Person) -> None:
    card_id = till.automatic(alice.org_id)
    client.put(AUTO, headers=alice.headers, json={"enabled": False})
    client.delete(f"{CARDS}/{card_id}", headers=alice.headers)
    actor = f"key:{alice.key[:12]}"
    rows = house.db.reader().execute("SELECT action FROM audit WHERE actor = ? ORDER BY id", (actor,))
    assert [row["action"] for row in rows] == ["auto_topup.changed", "card.detached"]


# --- bodies ---------------------------------------------------------------------------------------------------------


def fixed(answer: Any) -> str:
    """The body, with what differs from run to run replaced."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "00000000-0000-4000-8000-000000000001", answer.text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "2026-05-19T12:00:00.000Z", text)
    return recorded.pretty(json.loads(text))


def test_the_bodies_are_those_that_were_read_and_called_right(client: Client, till: Till, alice: Person) -> None:
    recorded.check("auto_topup_off.json", fixed(client.get(AUTO, headers=alice.headers)))
    till.automatic(alice.org_id)
    recorded.check("auto_topup.json", fixed(client.get(AUTO, headers=alice.headers)))
    recorded.check("payment_methods.json", fixed(client.get(CARDS, headers=alice.headers)))
    recorded.check(
        "checkout_session.json", fixed(client.post(CHECKOUT, headers=alice.headers, json={"amount_usd": 25}))
    )
    recorded.check("portal_session.json", fixed(client.post(PORTAL, headers=alice.headers)))


# --- scope and no key -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", CARDS), ("DELETE", f"{CARDS}/pm_1"), ("GET", AUTO), ("PUT", AUTO), ("POST", CHECKOUT), ("POST", PORTAL)],
)
def test_every_route_needs_billing_write(client: Client, house: House, method: str, path: str) -> None:
    dave = enrol(house, "A", "dave")
    answer = client.request(method, path, headers=dave.headers, json={} if method in ("PUT", "POST") else None)
    assert (answer.status_code, answer.json()["message"]) == (403, "Missing required scope: billing:write")


class TestWithoutAKey:
    @pytest.fixture
    def settings(self, tmp_path: Any) -> Settings:
        return Settings(home=tmp_path / "home")

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", CARDS, None),
            ("DELETE", f"{CARDS}/pm_1", None),
            ("PUT", AUTO, {"threshold_usd": 10, "amount_usd": 50, "payment_method_id": "pm_1", "enabled": True}),
            ("POST", CHECKOUT, {"amount_usd": 25}),
            ("POST", PORTAL, None),
        ],
    )
    def test_what_needs_stripe_says_that_there_is_none(
        self, client: Client, alice: Person, method: str, path: str, body: Any
    ) -> None:
        answer = client.request(method, path, headers=alice.headers, json=body)
        assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
        assert "not set up here" in answer.json()["message"]

    def test_what_does_not_need_it_works(self, client: Client, alice: Person) -> None:
        assert client.get(AUTO, headers=alice.headers).json() == OFF
        assert client.put(AUTO, headers=alice.headers, json={"enabled": False}).json() == OFF
        assert client.get("/api/v1/billing/balance", headers=alice.headers).json()["balance_usd"] == 0
