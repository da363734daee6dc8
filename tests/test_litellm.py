"""LiteLLM's guardrails by LiteLLM's own classes, as they are installed, over loopback against the running server: the
generic guardrail, and its openai_moderation over the OpenAI surface. And the shapes that those classes send, as they
stand in the 1.109.1 wheel, where no LiteLLM is needed."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.demo import MEDIA
from tests.cast import Person, enrol
from tests.surfaces import WithModels
from tests.test_api_server import Served

PATH = "/beta/litellm_basic_guardrail_api"
KIND = "Thank you for the lovely evening, the soup was wonderful."
INSULT = "You are a worthless idiot and everybody hates you."
BLOCKED = "a bestiality video"  # of the shipped blocklist
BEGUN = "Stopped by the policy community-default: "
PHOTOGRAPH = base64.b64encode(sorted(MEDIA.glob("*.jpg"))[0].read_bytes()).decode()

SENT: dict[str, Any] = {
    "input_type": "request",
    "litellm_call_id": "5a3f",
    "litellm_trace_id": None,
    "litellm_version": "1.109.1",
    "model": "gpt-4o",
    "texts": [KIND],
    "images": None,
    "tools": None,
    "tool_calls": None,
    "structured_messages": [{"role": "user", "content": KIND}],
    "request_headers": {"user-agent": "openai", "authorization": "[present]"},
    "request_data": {"user_api_key_hash": "ab12", "user_api_key_alias": "team"},
    "additional_provider_specific_params": {},
}
"""What GenericGuardrailAPI sends for one message."""


def litellm(*asked: dict[str, Any]) -> list[dict[str, Any]]:
    python = os.environ.get("CUSTOMHOUSE_TEST_LITELLM")
    if python is None:
        pytest.skip("CUSTOMHOUSE_TEST_LITELLM names no Python with LiteLLM; ./install.sh test sets it")
    done = subprocess.run(
        [python, Path(__file__).parent / "litellm_client.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_stopped(reason: str) -> bool:
    """It names analyzers, and nothing of what was said."""
    return reason.startswith(BEGUN) and set(reason.removeprefix(BEGUN).split(", ")) <= {"nsfw", "sexual", "blocklist"}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model process is not there."""
    served = Served(tmp_path_factory.mktemp("bare"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def alice(models_served: WithModels) -> Person:
    return enrol(models_served.house, "litellm's", "alice")


@pytest.fixture(scope="module")
def bob(bare: Served) -> Person:
    return enrol(bare.house, "litellm's", "bob")


@pytest.mark.weights
def test_litellms_generic_guardrail_passes_blocks_and_fails_closed(
    models_served: WithModels, alice: Person, bare: Served, bob: Person
) -> None:
    def of(inputs: dict[str, Any], base: str = models_served.url, key: str = alice.key, **how: Any) -> dict[str, Any]:
        return {"class": "generic", "base": base, "key": key, "inputs": inputs, "how": how}

    lenient: dict[str, Any] = {"additional_provider_specific_params": {"block_at": "warn"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": BLOCKED}]}]
    calls = [{"id": "1", "type": "function", "function": {"name": "draw", "arguments": json.dumps({"of": BLOCKED})}}]
    kind, blocked, strict, whole, called, pictured, wrong_key, unknown_policy, looked_down, open_anyway = litellm(
        of({"texts": [KIND]}),
        of({"texts": [KIND, BLOCKED]}),
        of({"texts": [INSULT]}, **lenient),
        of({"texts": [], "structured_messages": messages}),
        of({"texts": [], "tool_calls": calls}),
        of({"texts": [KIND], "images": [f"data:image/jpeg;base64,{PHOTOGRAPH}", PHOTOGRAPH]}),
        of({"texts": [KIND]}, key="stars_nobody"),
        of({"texts": [KIND]}, additional_provider_specific_params={"policy": "nobody"}),
        of({"texts": [KIND], "images": [PHOTOGRAPH + "?"]}),
        of({"texts": [KIND], "images": ["http://10.0.0.1/a.png"]}, fail_on_error=False),
    )
    assert kind == {"passed": {"texts": [KIND]}}
    assert is_stopped(blocked["blocked"])
    assert "harassment" in strict["blocked"]
    assert is_stopped(whole["blocked"])
    assert is_stopped(called["blocked"])
    assert pictured["passed"]["texts"] == [KIND]
    assert "401" in wrong_key["detail"]
    assert "404" in unknown_policy["detail"]
    assert "400" in looked_down["detail"]
    assert open_anyway["passed"]["texts"] == [KIND]


@pytest.mark.weights
def test_litellms_openai_moderation_reads_the_openai_surface(models_served: WithModels, alice: Person) -> None:
    base = f"{models_served.url}/v1"
    kind, insult, wrong_key = litellm(
        {"class": "openai_moderation", "base": base, "key": alice.key, "inputs": {"texts": [KIND]}},
        {"class": "openai_moderation", "base": base, "key": alice.key, "inputs": {"texts": [INSULT]}},
        {"class": "openai_moderation", "base": base, "key": "sk-nobody", "inputs": {"texts": [KIND]}},
    )
    assert kind["passed"]["texts"] == [KIND]
    assert "harassment" in insult["detail"]
    assert "error" in wrong_key


@pytest.mark.weights
def test_what_litellm_sends_is_answered_with_either_header(models_served: WithModels, alice: Person) -> None:
    for headers in ({"x-api-key": alice.key}, alice.headers):
        answer = httpx.post(models_served.url + PATH, json=SENT, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"action": "NONE"})
    answer = httpx.post(models_served.url + PATH, json={**SENT, "texts": [BLOCKED]}, headers=alice.headers)
    assert answer.json()["action"] == "BLOCKED"
    assert is_stopped(answer.json()["blocked_reason"])


@pytest.mark.weights
def test_a_text_that_comes_twice_is_decided_once(models_served: WithModels) -> None:
    dora = enrol(models_served.house, "dora's", "dora")
    body = {**SENT, "texts": [KIND, KIND, ""]}  # and it stands in structured_messages too
    assert httpx.post(models_served.url + PATH, json=body, headers=dora.headers).json() == {"action": "NONE"}
    conn = models_served.house.db.reader()
    events = conn.execute("SELECT origin FROM moderation_event WHERE org_id = ?", (dora.org_id,)).fetchall()
    assert [row["origin"] for row in events] == ["litellm"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"texts": "a"}, "texts"),
        ({"texts": [1]}, "texts"),
        ({"texts": ["a" * 50_001]}, "texts"),
        ({"texts": [str(n) for n in range(201)]}, "texts"),
        ({"images": ["?"]}, "images"),
        ({"images": ["AAAA"] * 9}, "images"),
        ({"images": [""]}, "images"),
        ({"input_type": {}}, "input_type"),
        ({"tool_calls": [None]}, "tool_calls"),
        ({"structured_messages": {"content": "x"}}, "structured_messages"),
        ({"additional_provider_specific_params": []}, "additional_provider_specific_params"),
        ({"additional_provider_specific_params": {"block_at": "always"}}, "block_at"),
        ({"additional_provider_specific_params": {"policy": 7}}, "policy"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_member(
    bare: Served, bob: Person, change: dict[str, Any], field: str
) -> None:
    body = {**SENT, "texts": [], "structured_messages": None, **change}
    answer = httpx.post(bare.url + PATH, json=body, headers={"x-api-key": bob.key})
    assert answer.status_code == 400
    assert answer.json()["details"][0]["field"] == field


def test_without_the_models_that_the_policy_asks_nothing_passes_but_what_is_stopped_is_stopped(
    bare: Served, bob: Person
) -> None:
    answer = httpx.post(bare.url + PATH, json=SENT, headers=bob.headers)
    assert (answer.status_code, int(answer.headers["retry-after"])) == (503, 5)
    answer = httpx.post(bare.url + PATH, json={**SENT, "texts": [BLOCKED]}, headers=bob.headers)
    assert answer.json()["action"] == "BLOCKED"
    assert is_stopped(answer.json()["blocked_reason"])


def test_nothing_to_screen_passes(bare: Served, bob: Person) -> None:
    body = {**SENT, "texts": [], "structured_messages": []}
    assert httpx.post(bare.url + PATH, json=body, headers=bob.headers).json() == {"action": "NONE"}


def test_without_a_key_or_its_scope_nothing_is_answered(bare: Served) -> None:
    reader = enrol(bare.house, "litellm's", "reader", granted=("job:read",))
    assert httpx.post(bare.url + PATH, json=SENT).status_code == 401
    assert httpx.post(bare.url + PATH, json=SENT, headers=reader.headers).status_code == 403
