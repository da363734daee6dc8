"""Dify's moderation extension. Dify is a service and no package: what is sent here is what its documentation and its
requestor send (POST, JSON, Bearer, 200 or an error), over loopback against the running server."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.surfaces import WithModels
from tests.test_api_server import Served

KIND = "What is the weather like in Bergen?"
BLOCKED = "a bestiality video"  # of the shipped blocklist
PASSED = {"flagged": False, "preset_response": "", "action": "direct_output"}


@pytest.fixture(scope="module")
def alice(models_served: WithModels) -> Person:
    return enrol(models_served.house, "dify's", "alice")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model process is not there."""
    served = Served(tmp_path_factory.mktemp("bare"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def bob(bare: Served) -> Person:
    return enrol(bare.house, "dify's", "bob")


def ask(served: Served, who: Person, point: Any, params: Any = None, **query: str) -> httpx.Response:
    body = {"point": point} if params is None else {"point": point, "params": params}
    return httpx.post(f"{served.url}/compat/dify", params=query, json=body, headers=who.headers, timeout=30)


def test_a_ping_is_answered_as_the_extension_is_saved(bare: Served, bob: Person) -> None:
    assert ask(bare, bob, "ping", {}).json() == {"result": "pong"}


@pytest.mark.weights
def test_input_and_output_are_read(models_served: WithModels, alice: Person) -> None:
    told = {"app_id": "61248ab4", "inputs": {"city": "Bergen", "days": 3}, "query": KIND}
    assert ask(models_served, alice, "app.moderation.input", told).json() == PASSED
    for params in ({**told, "query": BLOCKED}, {**told, "inputs": {"city": ["Bergen", {"of": BLOCKED}]}, "query": ""}):
        flagged = ask(models_served, alice, "app.moderation.input", params).json()
        assert (flagged["flagged"], flagged["action"]) == (True, "direct_output")
        assert flagged["preset_response"] == "This cannot be answered here."
    said = {"app_id": "61248ab4", "text": f"Of course: {BLOCKED}"}
    assert ask(models_served, alice, "app.moderation.output", said).json()["flagged"] is True
    assert ask(models_served, alice, "app.moderation.output", {**said, "text": KIND}).json() == PASSED


@pytest.mark.weights
def test_the_address_says_by_which_policy_and_how(models_served: WithModels, alice: Person) -> None:
    insult = {"query": "You are a worthless idiot and everybody hates you."}
    told = ask(models_served, alice, "app.moderation.input", insult, block_at="warn", reply="No.").json()
    assert (told["flagged"], told["preset_response"]) == (True, "No.")
    assert ask(models_served, alice, "app.moderation.input", insult, policy="nobody").status_code == 404
    found = ask(models_served, alice, "app.moderation.input", insult, policy="community-default")
    assert found.status_code == 200


@pytest.mark.weights
def test_a_used_up_quota_is_an_error_and_never_not_flagged(models_served: WithModels) -> None:
    poor = enrol(models_served.house, "dify's poor", "poor")
    on_plan(models_served.house, poor, "free", 2)
    answers = [ask(models_served, poor, "app.moderation.output", {"text": f"{KIND} {n}"}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


@pytest.mark.parametrize(
    ("point", "params", "field"),
    [
        ("app.moderation.other", {}, "point"),
        (None, {}, "point"),
        ("app.moderation.input", [], "params"),
        ("app.moderation.output", {"text": "a" * 50_001}, "texts"),
    ],
)
def test_what_makes_no_sense_is_refused(bare: Served, bob: Person, point: Any, params: Any, field: str) -> None:
    answer = ask(bare, bob, point, params)
    assert answer.status_code == 400
    assert answer.json()["details"][0]["field"] == field


def test_the_end_of_the_longest_text_is_read(bare: Served, bob: Person) -> None:
    """2026-11-21: texts of 100,000 characters were taken, and of each 50,000 were read."""
    text = "The weather was lovely. " * 4_000
    for length, flagged in ((50_000, True), (50_001, None)):
        answer = ask(bare, bob, "app.moderation.output", {"text": text[: length - len(BLOCKED)] + BLOCKED})
        assert answer.json().get("flagged") is flagged


def test_bad_words_in_the_address_are_refused(bare: Served, bob: Person) -> None:
    for query in ({"block_at": "never"}, {"reply": "a" * 501}):
        assert ask(bare, bob, "app.moderation.input", {"query": "a"}, **query).status_code == 400


def test_without_the_models_that_the_policy_asks_it_is_an_error_and_never_not_flagged(
    bare: Served, bob: Person
) -> None:
    assert ask(bare, bob, "app.moderation.output", {"text": KIND}).status_code == 503


def test_nothing_said_is_not_flagged(bare: Served, bob: Person) -> None:
    assert ask(bare, bob, "app.moderation.input", {"inputs": {}, "query": ""}).json() == PASSED


def test_a_wrong_key_is_an_error(bare: Served, bob: Person) -> None:
    stranger = Person(bob.org_id, bob.key_id, "stars_nobody")
    assert ask(bare, stranger, "ping").status_code == 401
