"""OpenAI's moderations by OpenAI's own SDKs for Python and Node, as they come, over loopback against the running server
with the starter weights; and what other programs send."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from appliance.accounts import organisations
from appliance.accounts.organisations import Changes
from appliance.api.openai import CATEGORIES
from appliance.demo import MEDIA
from tests import nodes
from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.surfaces import WithModels
from tests.test_api_server import Served

INSULT = "You are a worthless idiot and everybody hates you."
KIND = "Thank you for the lovely evening, the soup was wonderful."
BLOCKED = "a bestiality video"  # of the shipped blocklist
PHOTOGRAPHS = sorted(MEDIA.glob("*.jpg"))
UNREAD = {"harassment/threatening", "illicit", "illicit/violent", "self-harm/instructions", "self-harm/intent"}
"""What the starter weights have no answer for."""


def part(number: int = 0) -> Any:
    content = base64.b64encode(PHOTOGRAPHS[number].read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{content}"}}


@pytest.fixture(scope="module")
def alice(models_served: WithModels) -> Person:
    return enrol(models_served.house, "openai's", "alice")


@pytest.fixture(scope="module")
def client(models_served: WithModels, alice: Person) -> Iterator[OpenAI]:
    with client_of(models_served, alice.key) as client:
        yield client


def client_of(served: Served, key: str, path: str = "/v1", **how: Any) -> OpenAI:
    return OpenAI(api_key=key, base_url=served.url + path, **{"max_retries": 0, **how})


@pytest.mark.weights
def test_an_insult_is_flagged_and_thanks_are_not(client: OpenAI) -> None:
    answer = client.moderations.create(model="omni-moderation-2024-09-26", input=INSULT)
    assert (answer.id[:5], answer.model, len(answer.results)) == ("modr-", "omni-moderation-2024-09-26", 1)
    [insult] = answer.results
    assert insult.flagged
    assert insult.categories.harassment
    assert insult.category_scores.harassment > 0.5
    assert insult.category_applied_input_types.harassment == ["text"]
    raw = client.moderations.with_raw_response.create(input=KIND)
    [kind] = raw.parse().results
    assert (raw.parse().model, kind.flagged) == ("omni-moderation-latest", False)
    assert not any(kind.categories.model_dump().values())
    [written] = json.loads(raw.text)["results"]
    categories = tuple(written.pop("categories"))
    assert categories == CATEGORIES
    assert all(tuple(written[name]) == categories for name in ("category_scores", "category_applied_input_types"))


@pytest.mark.weights
def test_a_list_has_a_result_for_each_text_in_order(client: OpenAI) -> None:
    answer = client.moderations.create(input=[KIND, INSULT, KIND, BLOCKED])
    assert [one.flagged for one in answer.results] == [False, True, False, True]


@pytest.mark.weights
def test_parts_have_one_result_for_all_of_them(client: OpenAI) -> None:
    [seen] = client.moderations.create(input=[{"type": "text", "text": KIND}, part(0), part(1)]).results
    assert not seen.flagged
    assert seen.category_applied_input_types.sexual == ["text", "image"]
    assert seen.category_applied_input_types.harassment == ["text"]
    [insult] = client.moderations.create(input=[part(), {"type": "text", "text": INSULT}]).results
    assert insult.flagged
    assert insult.category_applied_input_types.model_dump(by_alias=True)["violence/graphic"] == ["text", "image"]


@pytest.mark.weights
def test_what_is_said_across_two_parts_is_read_as_one(client: OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "You are a worthless idiot"}, {"type": "text", "text": "and I hate you."}]
    assert client.moderations.create(input=parts).results[0].flagged


@pytest.mark.weights
def test_a_picture_alone_says_which_categories_it_was_looked_at_for(client: OpenAI) -> None:
    answer = client.moderations.with_raw_response.create(input=[part()])
    [seen] = answer.parse().results
    applied = seen.category_applied_input_types.model_dump(by_alias=True)
    assert {name for name, kinds in applied.items() if kinds} == {"sexual", "sexual/minors", "violence/graphic"}
    assert all(kinds in ([], ["image"]) for kinds in applied.values())
    assert set(answer.headers["x-customhouse-uncovered"].split(", ")) == {name for name in applied if not applied[name]}


@pytest.mark.weights
def test_categories_that_no_model_covers_are_named_and_never_a_silent_zero(client: OpenAI) -> None:
    answer = client.moderations.with_raw_response.create(input=INSULT)
    assert set(answer.headers["x-customhouse-uncovered"].split(", ")) == {*UNREAD, "sexual/minors"}
    applied = answer.parse().results[0].category_applied_input_types.model_dump(by_alias=True)
    assert {name for name, kinds in applied.items() if not kinds} == {*UNREAD, "sexual/minors"}
    [model] = [one for one in client.models.list() if one.id == "omni-moderation-latest"]
    listed: Any = model.model_dump()
    assert set(listed["uncovered"]) == UNREAD
    assert listed["coverage"]["hate"]["text"][0] == "text-heads"
    assert listed["coverage"]["hate"]["image"] == []
    assert listed["coverage"]["sexual/minors"] == {"text": [], "image": ["faces-age"]}


@pytest.mark.weights
def test_the_models_are_the_policies(models_served: WithModels, client: OpenAI) -> None:
    client.moderations.create(input=KIND)  # the first decision makes the policy
    assert [one.id for one in client.models.list()][:2] == ["omni-moderation-latest", "customhouse/community-default"]
    assert client.models.retrieve("omni-moderation-latest").owned_by == "customhouse"
    asked = client.moderations.create(model="customhouse/community-default", input=KIND)
    assert asked.model == "customhouse/community-default"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.moderations.create(model="customhouse/nobody", input=KIND)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-nothing")


@pytest.mark.weights
def test_the_alias_needs_no_guessing_whatever_the_key(models_served: WithModels) -> None:
    omnimod = enrol(models_served.house, "openai's", "omni", surface="omnimod")
    with client_of(models_served, omnimod.key, "/openai/v1") as client:
        assert client.moderations.create(input=INSULT).results[0].flagged
        assert "omni-moderation-latest" in [one.id for one in client.models.list()]


@pytest.mark.weights
def test_the_async_client_asks_many_at_once(models_served: WithModels, alice: Person) -> None:
    async def ask() -> list[bool]:
        async with AsyncOpenAI(api_key=alice.key, base_url=f"{models_served.url}/v1", max_retries=0) as client:
            asked = [client.moderations.create(input=text) for text in [KIND, INSULT] * 8]
            return [answer.results[0].flagged for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [False, True] * 8


@pytest.mark.weights
def test_what_librechat_sends_is_answered(models_served: WithModels, alice: Person) -> None:
    """OPENAI_MODERATION_REVERSE_PROXY is the whole address; it reads results[].flagged."""
    answer = httpx.post(f"{models_served.url}/v1/moderations", json={"input": INSULT}, headers=alice.headers)
    assert (answer.status_code, answer.json()["results"][0]["flagged"]) == (200, True)


@pytest.mark.weights
def test_no_text_is_logged_or_kept(models_served: WithModels, client: OpenAI, alice: Person) -> None:
    secret = "a walrus called Humphrey"
    client.moderations.create(input=[secret, secret + "!"])
    with pytest.raises(openai.BadRequestError):
        client.moderations.create(input=[{"type": "text", "text": secret}, {"type": secret}])  # type: ignore[list-item]
    assert "Humphrey" not in models_served.log()
    conn = models_served.house.db.reader()
    rows = conn.execute("SELECT * FROM moderation_event WHERE org_id = ?", (alice.org_id,)).fetchall()
    assert rows
    assert {row["origin"] for row in rows} == {"openai"}
    assert "Humphrey" not in str([tuple(row) for row in rows])


# --- refusals ---------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "no input": ({}, "input", "missing_required_parameter"),
    "null": ({"input": None}, "input", "missing_required_parameter"),
    "empty text": ({"input": ""}, "input", "empty_string"),
    "an empty text in a list": ({"input": ["a", ""]}, "input", "empty_string"),
    "empty list": ({"input": []}, "input", "empty_array"),
    "a number": ({"input": 7}, "input", "invalid_type"),
    "tokens": ({"input": [1, 2]}, "input", "invalid_type"),
    "mixed": ({"input": ["a", {"type": "text", "text": "b"}]}, "input", "invalid_type"),
    "too long": ({"input": "a" * 20_001}, "input", "string_above_max_length"),
    "too long together": ({"input": ["a" * 20_000] * 3}, "input", "string_above_max_length"),
    "too many": ({"input": ["a"] * 101}, "input", "array_above_max_length"),
    "too many pictures": ({"input": [part()] * 9}, "input", "array_above_max_length"),
    "an unknown part": ({"input": [{"type": "audio"}]}, "input[0]", "invalid_value"),
    "no picture": (
        {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        "input",
        "invalid_image",
    ),
    "bad base64": (
        {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]},
        "input",
        "invalid_image",
    ),
    "a private address": (
        {"input": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}]},
        "input",
        "invalid_image",
    ),
    "a model that is no name": ({"input": "a", "model": 4}, "model", "invalid_type"),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model process is not there."""
    served = Served(tmp_path_factory.mktemp("bare"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def bob(bare: Served) -> Person:
    return enrol(bare.house, "openai's", "bob")


@pytest.mark.parametrize("name", BAD)
def test_a_request_that_makes_no_sense_is_a_bad_request_by_its_parameter(bare: Served, bob: Person, name: str) -> None:
    body, param, code = BAD[name]
    with client_of(bare, bob.key, "/openai/v1") as client, pytest.raises(openai.BadRequestError) as refused:
        client.post("/moderations", body=body, cast_to=object)
    assert (refused.value.param, refused.value.code, refused.value.type) == (param, code, "invalid_request_error")
    assert refused.value.request_id


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", None),
        (b"[]", None),
        (b'{"input": "\xff"}', None),
        (b'{"input": "' + b"a" * 33_000_000 + b'"}', "request_too_large"),
        (b"[" * 100_000, None),
    ],
    ids=["half", "a list", "no UTF-8", "33 MB", "deep"],
)
def test_a_body_that_is_no_request_is_refused_in_openais_shape(
    bare: Served, bob: Person, content: bytes, code: str | None
) -> None:
    headers = {**bob.headers, "content-type": "application/json"}
    answer = httpx.post(f"{bare.url}/v1/moderations", content=content, headers=headers, timeout=30)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["type"]) == (code, "invalid_request_error")


def test_a_wrong_key_is_an_authentication_error(bare: Served) -> None:
    for key in ("stars_" + "x" * 40, "sk-whatever"):
        with client_of(bare, key) as client:
            for ask in (lambda: client.moderations.create(input=KIND), lambda: client.models.list()):
                with pytest.raises(openai.AuthenticationError) as refused:
                    ask()
                assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")


def test_a_key_without_the_scope_is_a_permission_error(bare: Served) -> None:
    reader = enrol(bare.house, "openai's", "reader", granted=("job:read",))
    looker = enrol(bare.house, "openai's", "looker", granted=("moderate:prompt",))
    with client_of(bare, reader.key) as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.moderations.create(input=KIND)
    assert refused.value.code == "insufficient_permissions"
    with client_of(bare, looker.key) as client, pytest.raises(openai.PermissionDeniedError):
        client.moderations.create(input=[part()])


def test_no_model_process_is_an_error_of_this_side_and_never_not_flagged(bare: Served, bob: Person) -> None:
    with client_of(bare, bob.key) as client, pytest.raises(openai.InternalServerError) as down:
        client.moderations.create(input=KIND)
    assert (down.value.status_code, down.value.type) == (503, "server_error")
    assert int(down.value.response.headers["retry-after"]) >= 1


def test_the_rate_limit_is_waited_for_as_told(bare: Served) -> None:
    hasty = enrol(bare.house, "hasty's", "hasty")
    bare.house.db.write(
        lambda conn: organisations.change(
            conn, hasty.org_id, Changes(burst_per_second=1), actor="operator:test", reason="a test"
        )
    )

    def ask_thrice(client: OpenAI) -> None:
        for _ in range(3):  # two of them may fall into two seconds
            client.models.list()

    with client_of(bare, hasty.key) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            ask_thrice(client)
        assert (limited.value.code, limited.value.type) == ("rate_limit_exceeded", "requests")
        assert "x-should-retry" not in limited.value.response.headers
        ask_thrice(client.with_options(max_retries=4))


@pytest.mark.weights
def test_a_used_up_quota_is_not_tried_again(models_served: WithModels) -> None:
    poor = enrol(models_served.house, "poor's", "poor")
    on_plan(models_served.house, poor, "free", 2)
    with client_of(models_served, poor.key, max_retries=5) as client:
        client.moderations.create(input=[KIND, INSULT])
        with pytest.raises(openai.RateLimitError) as refused:
            client.moderations.create(input=KIND)
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert refused.value.request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.weights
def test_hostile_texts_are_answered(client: OpenAI) -> None:
    hostile = ["\x00", "e" + "\u0301" * 1_999, "\u202e" * 50, "\ufdfa" * 100, "(" * 2_000, " "]
    assert len(client.moderations.create(input=hostile).results) == len(hostile)


@pytest.mark.weights
def test_a_lone_surrogate_is_answered(models_served: WithModels, alice: Person) -> None:
    headers = {**alice.headers, "content-type": "application/json"}
    answer = httpx.post(f"{models_served.url}/v1/moderations", content=b'{"input": "\\ud800"}', headers=headers)
    assert answer.status_code in (200, 400)
    assert "results" in answer.json() or answer.json()["error"]["type"] == "invalid_request_error"


# --- Node -------------------------------------------------------------------------------------------------------------


@pytest.mark.weights
def test_the_node_sdk_reads_verdicts_and_errors_alike(models_served: WithModels, alice: Person, bare: Served) -> None:
    poor = enrol(models_served.house, "node's", "node")
    on_plan(models_served.house, poor, "free", 2)
    with client_of(models_served, poor.key) as client:
        client.moderations.create(input=[KIND, INSULT])
    told = nodes.run(
        "openai.mjs",
        base=f"{models_served.url}/v1",
        bare=f"{bare.url}/v1",
        key=alice.key,
        poor=poor.key,
        bare_key=enrol(bare.house, "openai's", "node").key,
        kind=KIND,
        insult=INSULT,
        picture=part()["image_url"]["url"],
    )
    assert told["flagged"] == [False, True]
    assert told["list"] == [True, False]
    assert told["parts"] == {"results": 1, "flagged": True, "sexual": ["text", "image"]}
    assert "omni-moderation-latest" in told["models"]
    assert told["wrong_key"] == ["AuthenticationError", 401, "invalid_api_key", None]
    assert told["no_input"] == ["BadRequestError", 400, "empty_string", "input"]
    assert told["no_model"] == ["NotFoundError", 404, "model_not_found", "model"]
    assert told["no_quota"] == ["RateLimitError", 429, "insufficient_quota", None]
    assert told["down"] == ["InternalServerError", 503, None, None]
