"""The shared subset, against two servers: our fake, and localstripe as an independent judge of it.

localstripe is GPL: it runs in a process of its own, is never imported, and is no part of what we ship. It is found by
CUSTOMHOUSE_TEST_LOCALSTRIPE (its executable; ./install.sh test sets it). It would listen on every address of the
machine: a start-up file of ours makes that the loopback. It also writes /tmp/localstripe.pickle, read by nobody here.
What it lacks, and is therefore tried against the fake alone: checkout, the portal, idempotency keys, `types[]` and
`ending_before` of events, lists of payments by customer and of charges, subscriptions by price. It knows no
`automatic_payment_methods` either, since it has none that redirect: that parameter is kept from it.
"""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import stripe as package

from appliance.billing import stripe
from appliance.billing.stripe import Live, Stripe
from appliance.errors import CardDeclined, StripeRefused
from appliance.settings import Billing
from tests.paying import faking

PROGRAM = os.environ.get("CUSTOMHOUSE_TEST_LOCALSTRIPE")
KEY = "sk_test_51Qn2eLkdIwHu7ix"

_LOOPBACK = """
import socket

bind = socket.socket.bind
socket.socket.bind = lambda self, address: bind(self, ("::1", *address[1:]) if address[0] == "::" else address)
"""

NUMBERS = {"pm_card_visa": "4242424242424242", "pm_card_chargeDeclined": "4000000000000341"}
"""Stripe's test cards; the second can be saved, and is declined when it is charged."""


class Judge(msgspec.Struct):
    """A server that is Stripe to us."""

    name: str
    api: Stripe
    address: str
    save_card: Callable[[str, str], str]
    refund: Callable[[str, int], object]


@contextmanager
def opened(address: str, tmp_path: Path) -> Iterator[Stripe]:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    live = Live(Billing(stripe_key_file=str(path), stripe_address=address))
    yield live.current()
    live.close()


@pytest.fixture(params=["fake", "localstripe"])
def judge(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Judge]:
    if request.param == "fake":
        with faking(monkeypatch) as served, opened(served.address, tmp_path) as api:
            account = served.account
            yield Judge(
                "fake",
                api,
                served.address,
                lambda customer, like: account.save_card(customer, like),
                lambda intent, cents: account.refund(intent, cents),
            )
        return
    address = request.getfixturevalue("localstripe")
    urllib.request.urlopen(urllib.request.Request(f"{address}/_config/data", method="DELETE")).close()

    def post(path: str, **data: Any) -> Any:
        asked = urllib.request.Request(
            f"{address}{path}",
            data=urllib.parse.urlencode(data).encode(),
            headers={"Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(asked) as answer:
            return msgspec.json.decode(answer.read())

    def save_card(customer: str, like: str) -> str:
        card = {"card[number]": NUMBERS[like], "card[exp_month]": 12, "card[exp_year]": 2040, "card[cvc]": 123}
        made = post("/v1/payment_methods", type="card", **card)["id"]
        return post(f"/v1/payment_methods/{made}/attach", customer=customer)["id"]

    create = package.PaymentIntentService.create

    def create_plainly(self: package.PaymentIntentService, params: Any, options: Any = None) -> Any:
        known: Any = {name: params[name] for name in params if name != "automatic_payment_methods"}
        return create(self, known, options)

    monkeypatch.setattr(package.PaymentIntentService, "create", create_plainly)
    with opened(address, tmp_path) as api:
        yield Judge(
            "localstripe",
            api,
            address,
            save_card,
            lambda intent, cents: post("/v1/refunds", payment_intent=intent, amount=cents),
        )


@pytest.fixture(scope="module")
def localstripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("CUSTOMHOUSE_TEST_LOCALSTRIPE is not set; ./install.sh test sets it")
    folder = tmp_path_factory.mktemp("localstripe")
    (folder / "sitecustomize.py").write_text(_LOOPBACK)
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [PROGRAM, "--from-scratch", "--port", str(port)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        _await(port, process)
        yield f"http://[::1]:{port}"
    finally:
        process.kill()
        process.wait()


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        with socket.socket(socket.AF_INET6) as probe:
            if probe.connect_ex(("::1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"localstripe did not start ({process.poll()})")


def listing(judge: Judge) -> Any:
    """The package itself: for lists that localstripe takes in other forms than we ask for."""
    return package.StripeClient(KEY, base_addresses={"api": judge.address}).v1


def test_localstripe_listens_on_the_loopback_only(localstripe: str) -> None:
    port = int(localstripe.rsplit(":", 1)[1])
    lines = [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    listening = [line[1] for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")]
    assert [place.split(":")[0] for place in listening] == ["00000000000000000000000001000000"]


def test_a_customer_is_made_and_read(judge: Judge) -> None:
    made = judge.api.create_customer({"client_id": "c1", "appliance_id": "a1"}, "k1")
    found = judge.api.customer(made.id)
    assert (found.id, found.deleted, found.default_card) == (made.id, False, None)
    with pytest.raises(StripeRefused) as refused:
        judge.api.customer("cus_unknown")
    assert stripe.is_missing(refused.value) or judge.name == "localstripe"  # which gives no code


def test_cards_are_listed_by_customer_and_detached(judge: Judge) -> None:
    one, other = (judge.api.create_customer({"client_id": name}, f"k-{name}") for name in ("one", "other"))
    first, second = (judge.save_card(one.id, "pm_card_visa") for _ in range(2))
    judge.save_card(other.id, "pm_card_visa")
    found = judge.api.cards(one.id)
    assert {card.id for card in found} == {first, second}
    assert {(card.card.brand, card.card.last4, card.card.exp_year) for card in found} == {("visa", "4242", 2040)}
    judge.api.detach(first)
    assert [card.id for card in judge.api.cards(one.id)] == [second]


def test_a_saved_card_is_charged_with_nobody_there(judge: Judge) -> None:
    customer = judge.api.create_customer({}, "k1")
    card = judge.save_card(customer.id, "pm_card_visa")
    said = {"topup_intent_id": "t1", "attempt": "1"}
    made = judge.api.charge(customer.id, card, 50_500_000, said, "k2")
    assert (made.status, made.amount, made.customer, made.metadata) == ("succeeded", 5050, customer.id, said)
    found = judge.api.intent(made.id)
    assert (found.status, found.metadata, found.customer) == ("succeeded", said, customer.id)


def test_a_declined_card_is_an_error_and_leaves_its_payment_open(judge: Judge) -> None:
    customer = judge.api.create_customer({}, "k1")
    card = judge.save_card(customer.id, "pm_card_chargeDeclined")
    with pytest.raises(CardDeclined) as declined:
        judge.api.charge(customer.id, card, 5_000_000, {"attempt": "1"}, "k2")
    assert declined.value.code == "card_declined"
    (intent,) = listing(judge).payment_intents.list({"limit": 1}).data
    assert (intent.status, intent.metadata.to_dict()) == ("requires_payment_method", {"attempt": "1"})
    assert declined.value.payment_intent == (intent.id if judge.name == "fake" else "")  # Stripe names it


def test_refunds_are_listed_by_payment(judge: Judge) -> None:
    customer = judge.api.create_customer({}, "k1")
    card = judge.save_card(customer.id, "pm_card_visa")
    made = judge.api.charge(customer.id, card, 50_000_000, {}, "k2")
    assert judge.api.refunds(made.id) == []
    for cents in (1000, 500):
        judge.refund(made.id, cents)
    found = judge.api.refunds(made.id)
    assert sorted((refund.amount, refund.status) for refund in found) == [(500, "succeeded"), (1000, "succeeded")]


def test_events_are_of_the_shape_that_we_read(judge: Judge) -> None:
    customer = judge.api.create_customer({"client_id": "c1"}, "k1")
    card = judge.save_card(customer.id, "pm_card_visa")
    judge.api.charge(customer.id, card, 50_000_000, {"topup_intent_id": "t1"}, "k2")
    listed = listing(judge).events.list({"type": "payment_intent.succeeded", "limit": 10})
    (event,) = [msgspec.convert(one.to_dict(), stripe.Event) for one in listed.data]
    assert event.type == "payment_intent.succeeded"
    assert event.object["metadata"] == {"topup_intent_id": "t1"}
    assert event.object["customer"] == customer.id
