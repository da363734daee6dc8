"""Stripe's room: the key, errors in our words, and parameters that Stripe's own types know. And the fake, by itself."""

import json
import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe as package
from msgspec.structs import replace

from appliance.billing.stripe import API_VERSION, Key, Live, Stripe, read_key
from appliance.errors import CardDeclined, Misconfigured, StripeDown, StripeOff, StripeRefused
from appliance.settings import Billing, Settings, load
from tests.fakestripe import known
from tests.fakestripe.account import DAY
from tests.fakestripe.server import Served, decode
from tests.paying import KEY, faking, leading_to


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with faking(monkeypatch) as served:
        yield served


@pytest.fixture
def billing(settings: Settings, served: Served) -> Billing:
    return leading_to(settings, served).billing


@pytest.fixture
def api(billing: Billing) -> Iterator[Stripe]:
    live = Live(billing)
    yield live.current()
    live.close()


# --- the key --------------------------------------------------------------------------------------------------------


def key_file(folder: Path, raw: str = KEY, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(raw)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        read_key(path)


@pytest.mark.parametrize("raw", ["", "pk_test_123", "hello", "rk_test_1 2", "rk_test_ä"])
def test_what_is_no_secret_key_is_refused_and_not_quoted(tmp_path: Path, raw: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_key(key_file(tmp_path, raw))
    assert not raw or raw not in refused.value.message


def test_a_key_prints_as_its_kind_only() -> None:
    key = Key("rk_live_0123456789")
    assert "0123" not in f"{key} {key!r} {[key]}"
    assert (key.is_live, key.is_restricted) == (True, True)
    assert not Key("sk_test_0123456789").is_live


def test_a_key_never_reaches_the_log(api: Stripe, served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.fail("500", times=3)
    with caplog.at_level(logging.DEBUG), pytest.raises(StripeDown):
        api.customer("cus_1")
    assert KEY not in caplog.text


def test_without_a_file_there_is_no_stripe_and_its_package_is_not_loaded() -> None:
    live = Live(Billing())
    with pytest.raises(StripeOff):
        live.current()
    code = "import sys, appliance.api.app, appliance.billing.sync; print('stripe' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StripeRefused, match="not usable"):
        Live(Billing(stripe_key_file=str(tmp_path / "none"))).current()


def test_a_rolled_key_is_used_from_the_next_request_on(billing: Billing, served: Served) -> None:
    live = Live(billing)
    first = live.current()
    assert live.current() is first
    for raw in ("rk_test_second", "rk_test_thirdone"):
        Path(billing.stripe_key_file).write_text(raw)
        live.current().create_customer({}, raw)
        assert served.asked[-1].headers["authorization"] == f"Bearer {raw}"
    live.close()


def test_systemd_hands_the_key_over_unless_a_file_is_named(tmp_path: Path) -> None:
    key_file(tmp_path).rename(tmp_path / "stripe-key")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(environ=environ).billing.stripe_key_file == str(tmp_path / "stripe-key")
    named = {**environ, "CUSTOMHOUSE_BILLING_STRIPE_KEY_FILE": "/elsewhere"}
    assert load(environ=named).billing.stripe_key_file == "/elsewhere"
    (tmp_path / "stripe-key").unlink()
    assert load(environ=environ).billing.stripe_key_file == ""


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("STRIPE_ADDRESS", "http://relay.example", "must be https"),
        ("STRIPE_ADDRESS", "relay", "must be an http or https address"),
        ("STRIPE_PROXY", "socks://x", "must be an http or https address"),
        ("PUBLIC_URL", "", "must be an http or https address"),
        ("PUBLIC_URL", "https://a.example/?x=1", "must be an http or https address"),
        ("SYNC_S", "1", "at least 5"),
        ("AUTO_TOPUPS_A_DAY", "-1", "at least 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(name: str, value: str, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        load(environ={f"CUSTOMHOUSE_BILLING_{name}": value})


# --- the wire -------------------------------------------------------------------------------------------------------


def test_the_version_is_the_one_that_the_package_is_made_for() -> None:
    assert package.api_version == API_VERSION


def test_requests_carry_the_version_and_no_telemetry(api: Stripe, served: Served) -> None:
    for _ in range(3):
        api.create_customer({"client_id": "x"}, "")
    asked = served.asked[-1]
    assert asked.headers["stripe-version"] == API_VERSION
    assert "x-stripe-client-telemetry" not in asked.headers
    assert "platform" not in json.loads(asked.headers["x-stripe-client-user-agent"])
    assert asked.params == {"metadata": {"client_id": "x"}}


def test_the_environments_proxies_are_not_used(billing: Billing, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    live = Live(billing)
    assert live.current().create_customer({}, "k").id
    live.close()


def test_a_named_proxy_is_used(billing: Billing, served: Served) -> None:
    live = Live(replace(billing, stripe_address="http://127.0.0.1:9", stripe_proxy=served.address))
    with pytest.raises(StripeRefused):  # the fake takes the proxy's form of a path for one that it does not know
        live.current().customer("cus_1")
    assert served.asked[-1].path.startswith("http://127.0.0.1:9/")
    live.close()


@pytest.mark.parametrize("fault", ["500", "503", "unreached", "lost", "429"])
def test_a_stripe_that_is_down_is_passing(api: Stripe, served: Served, fault: str) -> None:
    served.fail(fault, times=3)
    with pytest.raises(StripeDown) as down:
        api.create_customer({}, "k1")
    served.faults.clear()  # 429 is not tried again at once
    assert down.value.status == 503
    assert api.create_customer({}, "k1").id
    assert len(served.account.customers) == 1


def test_a_passing_fault_is_tried_again_under_the_same_key(api: Stripe, served: Served) -> None:
    served.fail("500")
    served.fail("lost")
    assert api.create_customer({}, "k1").id
    assert [one.key for one in served.asked] == ["k1"] * 3
    assert len(served.account.customers) == 1


def test_a_key_sent_with_something_else_is_refused(api: Stripe) -> None:
    api.create_customer({"a": "1"}, "k1")
    with pytest.raises(StripeRefused) as refused:
        api.create_customer({"a": "2"}, "k1")
    assert refused.value.stripe_code == "idempotency_error"


def test_what_is_not_there_is_refused_with_stripes_code(api: Stripe) -> None:
    for ask in (api.customer, api.session, api.intent, api.dispute, api.subscription):
        with pytest.raises(StripeRefused) as refused:
            ask("x_1")
        assert refused.value.stripe_code == "resource_missing"
    with pytest.raises(StripeRefused) as refused:
        api.events_after("evt_none", [])
    assert refused.value.stripe_code == "resource_missing"


def test_a_declined_card_says_why(api: Stripe, served: Served) -> None:
    customer = api.create_customer({}, "k1")
    card = served.account.save_card(customer.id, "pm_card_chargeDeclinedLostCard")
    with pytest.raises(CardDeclined) as declined:
        api.charge(customer.id, card, 5_000_000, {}, "k2")
    assert (declined.value.code, declined.value.decline_code) == ("card_declined", "lost_card")
    assert declined.value.advice == "do_not_try_again"
    assert declined.value.payment_intent in served.account.intents


def test_an_object_of_another_shape_is_not_taken_for_ours(api: Stripe, served: Served) -> None:
    customer = api.create_customer({}, "k1")
    served.account.save_card(customer.id)
    next(iter(served.account.cards.values()))["card"] = None
    with pytest.raises(StripeRefused, match="not as we know it"):
        api.cards(customer.id)


# --- parameters -----------------------------------------------------------------------------------------------------


def test_the_fake_knows_a_parameter_from_a_slip_of_the_pen() -> None:
    kind = known.route("POST", "/v1/checkout/sessions")
    good: dict[str, Any] = {
        "mode": "payment",
        "metadata": {"anything": "goes"},
        "line_items": [{"price_data": {"currency": "usd", "product_data": {"name": "x"}}, "quantity": "1"}],
        "customer_update": {"address": "auto"},
    }
    assert known.unknown(good, kind) == []
    bad = {
        **good,
        "amount_usd": "25",
        "line_items": [{"price_data": {"colour": "red"}}],
        "customer_update": {"email": "auto"},
        "mode": {"payment": "1"},
    }
    assert known.unknown(bad, kind) == [
        "mode",
        "line_items[0][price_data][colour]",
        "customer_update[email]",
        "amount_usd",
    ]


def test_an_option_of_the_package_is_no_parameter() -> None:
    kind = known.route("POST", "/v1/customers")
    assert known.unknown({"idempotency_key": "x", "api_key": "y"}, kind) == ["idempotency_key", "api_key"]


def test_an_unknown_parameter_is_refused_on_the_wire(served: Served) -> None:
    request = urllib.request.Request(
        f"{served.address}/v1/customers", data=b"nmae=x", headers={"Authorization": f"Bearer {KEY}"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert (answer.code, json.loads(answer.read())["error"]["code"]) == (400, "parameter_unknown")


def test_brackets_are_read_as_stripe_reads_them() -> None:
    assert decode("a[b]=1&a[c][d]=2&t[0]=x&t[1]=y&l[0][q]=1&e=") == {
        "a": {"b": "1", "c": {"d": "2"}},
        "t": ["x", "y"],
        "l": [{"q": "1"}],
        "e": "",
    }


# --- the fake's events ----------------------------------------------------------------------------------------------


def test_events_are_listed_newest_first_and_a_cursor_gives_the_page_next_to_it(api: Stripe, served: Served) -> None:
    made = [served.account.tell("customer.deleted", {"id": f"cus_{n}"})["id"] for n in range(250)]
    page = api.events_after(made[9], ["customer.deleted"])
    assert ([event.id for event in page.events], page.has_more) == (made[109:9:-1], True)
    page = api.events_after(made[209], ["customer.deleted"])
    assert ([event.id for event in page.events], page.has_more) == (made[249:209:-1], False)
    page = api.events_since(0, ["customer.deleted"], before=made[100])
    assert ([event.id for event in page.events], page.has_more) == (made[99::-1], False)
    assert api.events_after(made[9], ["charge.refunded"]).events == []


def test_events_are_gone_after_thirty_days(api: Stripe, served: Served) -> None:
    event = served.account.tell("customer.deleted", {"id": "cus_1"})["id"]
    served.account.turn(seconds=30 * DAY - 5)
    assert api.events_after(event, []).events == []
    served.account.turn(seconds=10)
    with pytest.raises(StripeRefused):
        api.events_after(event, [])


def test_more_than_twenty_types_are_refused(api: Stripe) -> None:
    with pytest.raises(StripeRefused, match="at most 20"):
        api.events_since(0, [f"type.{n}" for n in range(21)])


def test_a_page_can_be_paid_from_another_process(api: Stripe, served: Served) -> None:
    customer = api.create_customer({}, "k1")
    made = api.create_session(
        {"mode": "setup", "currency": "usd", "customer": customer.id, "success_url": "http://127.0.0.1/"}, "k2"
    )
    request = urllib.request.Request(f"{served.address}/_pay/{made.id}?outcome=complete", method="POST")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    assert api.session(made.id).status == "complete"
    assert os.getpid()
