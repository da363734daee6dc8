"""Azure AI Content Safety by its own Python client, as it comes, over loopback against the running server and its
models; the Node client is in test_azure_node."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from azure.ai.contentsafety import BlocklistClient, ContentSafetyClient
from azure.ai.contentsafety.aio import ContentSafetyClient as AsyncContentSafetyClient
from azure.ai.contentsafety.models import (
    AddOrUpdateTextBlocklistItemsOptions,
    AnalyzeImageOptions,
    AnalyzeTextOptions,
    ImageData,
    RemoveTextBlocklistItemsOptions,
    TextBlocklist,
    TextBlocklistItem,
    TextCategory,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncioRequestsTransport

from tests import nodes
from tests.cast import Person, enrol
from tests.surfaces import WithModels

pytestmark = pytest.mark.weights

VIOLENT = "You should all be shot, you people, and I will burn your houses down."
KIND = "Thank you for the lovely evening, the soup was wonderful."
PICTURE = cv2.imencode(".png", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()
CATEGORIES = ["Hate", "SelfHarm", "Sexual", "Violence"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithModels]:
    served = WithModels(tmp_path_factory.mktemp("azure"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def alice(served: WithModels) -> Person:
    return enrol(served.house, "A", "alice")


@pytest.fixture(scope="module")
def azure(served: WithModels, alice: Person) -> Iterator[ContentSafetyClient]:
    with ContentSafetyClient(served.url, AzureKeyCredential(alice.key)) as client:
        yield client


@pytest.fixture(scope="module")
def lists(served: WithModels, alice: Person) -> Iterator[BlocklistClient]:
    with BlocklistClient(served.url, AzureKeyCredential(alice.key)) as client:
        yield client


def severities(answer: Any) -> dict[str, int | None]:
    return {str(one.category): one.severity for one in answer.categories_analysis}


def refused(call: Callable[[], Any]) -> tuple[int | None, str, HttpResponseError]:
    with pytest.raises(HttpResponseError) as caught:
        call()
    error = caught.value
    assert error.error is not None
    response: Any = error.response
    assert response.headers["x-ms-error-code"] == error.error.code
    return error.status_code, str(error.error.code), error


# --- texts -----------------------------------------------------------------------------------------------------------


def test_a_text_has_its_four_severities(azure: ContentSafetyClient) -> None:
    bad, good = (azure.analyze_text(AnalyzeTextOptions(text=text)) for text in (VIOLENT, KIND))
    assert list(severities(bad)) == CATEGORIES
    assert severities(bad)["Violence"] in (4, 6)
    assert severities(good) == dict.fromkeys(CATEGORIES, 0)
    assert bad.blocklists_match == []


def test_eight_levels_and_a_part_of_the_categories(azure: ContentSafetyClient) -> None:
    asked = AnalyzeTextOptions(
        text=VIOLENT, categories=[TextCategory.VIOLENCE, TextCategory.HATE], output_type="EightSeverityLevels"
    )
    found = severities(azure.analyze_text(asked))
    assert list(found) == ["Violence", "Hate"]
    assert found["Violence"] in (5, 6, 7)


def test_both_versions_and_both_ways_to_send_a_key(served: WithModels, alice: Person) -> None:
    for version in ("2023-10-01", "2024-09-01"):
        for headers in ({"Ocp-Apim-Subscription-Key": alice.key}, alice.headers):
            answer = httpx.post(
                f"{served.url}/contentsafety/text:analyze?api-version={version}", headers=headers, json={"text": KIND}
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-customhouse-uncovered"] == ""


def test_the_asynchronous_client_is_answered_too(served: WithModels, alice: Person) -> None:
    async def ask() -> Any:
        transport = AsyncioRequestsTransport()  # the one of its transports that needs no aiohttp
        key = AzureKeyCredential(alice.key)
        async with AsyncContentSafetyClient(served.url, key, transport=transport) as client:
            return await client.analyze_text(AnalyzeTextOptions(text=KIND))

    assert severities(asyncio.run(ask())) == dict.fromkeys(CATEGORIES, 0)


def test_ten_thousand_characters_however_they_are_escaped(served: WithModels, alice: Person) -> None:
    address = f"{served.url}/contentsafety/text:analyze?api-version=2023-10-01"
    content = json.dumps({"text": "🙂" * 10_000}).encode()
    headers = {**alice.headers, "content-type": "application/json"}
    assert httpx.post(address, headers=headers, content=content, timeout=30).status_code == 200


def test_the_event_names_its_surface_and_the_text_is_not_kept(served: WithModels, azure: ContentSafetyClient) -> None:
    azure.analyze_text(AnalyzeTextOptions(text="Nothing but quinces in here."))
    row = served.house.db.reader().execute("SELECT * FROM moderation_event ORDER BY seq DESC LIMIT 1").fetchone()
    assert row["origin"] == "azure"
    for path in served.house.settings.home.glob("customhouse.db*"):
        assert b"quinces" not in path.read_bytes()


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": "a" * 10_001}, "text"),
        ({"text": 7}, "text"),
        ({"text": KIND, "categories": ["Spam"]}, "categories"),
        ({"text": KIND, "outputType": "SixLevels"}, "outputType"),
        ({"text": KIND, "blocklistNames": "one"}, "blocklistNames"),
        ({"text": KIND, "blocklistNames": ["nowhere"]}, "blocklistNames"),
        ({"text": KIND, "haltOnBlocklistHit": "yes"}, "haltOnBlocklistHit"),
    ],
)
def test_a_wrong_body_is_named(azure: ContentSafetyClient, body: dict[str, Any], target: str) -> None:
    status, code, error = refused(lambda: azure.analyze_text(body))
    assert (status, code) == (400, "InvalidRequestBody")
    assert error.error is not None
    assert error.error.target == target


def test_a_wrong_key_is_401(served: WithModels) -> None:
    with (
        ContentSafetyClient(served.url, AzureKeyCredential("wrong")) as client,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        client.analyze_text(AnalyzeTextOptions(text=KIND))
    assert caught.value.error is not None
    assert caught.value.error.code == "401"
    assert "invalid subscription key" in str(caught.value.message)


@pytest.mark.parametrize(
    ("query", "code"), [("", "MissingApiVersionParameter"), ("?api-version=2019-01-01", "UnsupportedApiVersionValue")]
)
def test_a_version_is_needed_and_known(served: WithModels, alice: Person, query: str, code: str) -> None:
    for method, path in (("POST", "text:analyze"), ("GET", "text/blocklists"), ("POST", "image:analyze")):
        answer = httpx.request(method, f"{served.url}/contentsafety/{path}{query}", headers=alice.headers, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert answer.headers["x-ms-error-code"] == code


def test_over_the_limit_is_too_many_requests(served: WithModels) -> None:
    hasty = enrol(served.house, "Hasty", "h")
    served.house.db.write(
        lambda conn: conn.execute("UPDATE organisation SET requests_per_minute = 1 WHERE id = ?", (hasty.org_id,))
    )
    with ContentSafetyClient(served.url, AzureKeyCredential(hasty.key), retry_total=0) as client:
        client.analyze_text(AnalyzeTextOptions(text=KIND))
        status, code, _ = refused(lambda: client.analyze_text(AnalyzeTextOptions(text=KIND)))
    assert (status, code) == (429, "TooManyRequests")


# --- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture_is_answered_for_what_the_models_cover(served: WithModels, azure: ContentSafetyClient) -> None:
    seen: list[Any] = []
    picture = AnalyzeImageOptions(image=ImageData(content=PICTURE))
    found = azure.analyze_image(picture, raw_response_hook=seen.append)
    # as Azure's quickstart reads it: every category is there; without a severity where nothing covers it
    assert severities(found) == {"Hate": None, "SelfHarm": None, "Sexual": 0, "Violence": 0}
    assert seen[0].http_response.headers["x-customhouse-uncovered"] == "Hate, SelfHarm"
    job = served.house.db.reader().execute("SELECT origin, kind FROM job ORDER BY rowid DESC LIMIT 1").fetchone()
    assert (job["origin"], job["kind"]) == ("azure", "IMAGE_MODERATION")


def test_a_category_that_nothing_covers_is_refused_by_name(azure: ContentSafetyClient) -> None:
    picture = ImageData(content=PICTURE)
    found = azure.analyze_image(AnalyzeImageOptions(image=picture, categories=["Sexual"]))
    assert severities(found) == {"Sexual": 0}
    status, code, error = refused(
        lambda: azure.analyze_image(AnalyzeImageOptions(image=picture, categories=["Hate", "Sexual"]))
    )
    assert (status, code) == (400, "InvalidRequestBody")
    assert "covers Hate" in str(error.message)


@pytest.mark.parametrize(
    "image",
    [
        {},
        {"content": "###"},
        {"content": ""},
        {"content": base64.b64encode(b"not a picture").decode()},
        {"content": "aaaa", "blobUrl": "https://a.example/b.png"},
        {"blobUrl": "ftp://a.example/b.png"},
        {"blobUrl": "http://127.0.0.1/b.png"},
    ],
)
def test_what_is_no_picture_is_refused(azure: ContentSafetyClient, image: dict[str, str]) -> None:
    status, code, _ = refused(lambda: azure.analyze_image({"image": image}))
    assert (status, code) in ((400, "InvalidRequestBody"), (415, "InvalidRequestBody"))


# --- blocklists ------------------------------------------------------------------------------------------------------


def put(lists: BlocklistClient, name: str, *terms: str) -> list[TextBlocklistItem]:
    lists.create_or_update_text_blocklist(name, TextBlocklist(blocklist_name=name, description="for a test"))
    if not terms:
        return []
    items = [TextBlocklistItem(text=term) for term in terms]
    asked = AddOrUpdateTextBlocklistItemsOptions(blocklist_items=items)
    return list(lists.add_or_update_blocklist_items(name, asked).blocklist_items)


def test_a_blocklist_lives_and_dies(lists: BlocklistClient) -> None:
    made_now = lists.create_or_update_text_blocklist(
        "rivals", TextBlocklist(blocklist_name="rivals", description="other shops")
    )
    assert (made_now.blocklist_name, made_now.description) == ("rivals", "other shops")
    assert lists.get_text_blocklist("rivals").description == "other shops"
    assert "rivals" in [one.blocklist_name for one in lists.list_text_blocklists()]
    [item] = put(lists, "rivals", "Acme Corner Shop")
    assert lists.get_text_blocklist_item("rivals", item.blocklist_item_id).text == "Acme Corner Shop"
    [same] = put(lists, "rivals", "Acme Corner Shop")
    assert same.blocklist_item_id == item.blocklist_item_id
    removed = RemoveTextBlocklistItemsOptions(blocklist_item_ids=[item.blocklist_item_id])
    lists.remove_blocklist_items("rivals", removed)
    assert list(lists.list_text_blocklist_items("rivals")) == []
    lists.delete_text_blocklist("rivals")
    with pytest.raises(ResourceNotFoundError) as caught:
        lists.get_text_blocklist("rivals")
    assert caught.value.error is not None
    assert caught.value.error.code == "ResourceNotFound"


def test_terms_are_found_however_they_are_disguised(azure: ContentSafetyClient, lists: BlocklistClient) -> None:
    terms = put(lists, "shops", "flibberstore", "corner market")
    put(lists, "other", "wonderful")
    text = "Buy at f.l.i.b.b.e.r.s.t.o.r.e or the c0rner market, flibberstores are no word of it."
    found = azure.analyze_text(AnalyzeTextOptions(text=text, blocklist_names=["shops", "other"]))
    assert found.blocklists_match is not None
    told = {(one.blocklist_name, one.blocklist_item_id, one.blocklist_item_text) for one in found.blocklists_match}
    assert told == {("shops", one.blocklist_item_id, one.text) for one in terms}
    assert list(severities(found)) == CATEGORIES
    halted = azure.analyze_text(AnalyzeTextOptions(text=text, blocklist_names=["shops"], halt_on_blocklist_hit=True))
    assert halted.categories_analysis == []
    assert halted.blocklists_match is not None
    assert len(halted.blocklists_match) == 2
    passed = azure.analyze_text(AnalyzeTextOptions(text=KIND, blocklist_names=["shops"], halt_on_blocklist_hit=True))
    assert list(severities(passed)) == CATEGORIES


def test_a_changed_list_counts_at_once(azure: ContentSafetyClient, lists: BlocklistClient) -> None:
    asked = AnalyzeTextOptions(text="The zibbelnut is ripe.", blocklist_names=["fruit"])
    put(lists, "fruit", "marrowpear")
    assert azure.analyze_text(asked).blocklists_match == []
    [item] = put(lists, "fruit", "zibbelnut")
    assert len(azure.analyze_text(asked).blocklists_match or []) == 1
    lists.remove_blocklist_items("fruit", RemoveTextBlocklistItemsOptions(blocklist_item_ids=[item.blocklist_item_id]))
    assert azure.analyze_text(asked).blocklists_match == []


def test_long_lists_come_in_pages(lists: BlocklistClient) -> None:
    terms = [f"term number {number}" for number in range(230)]
    for begin in range(0, len(terms), 100):
        put(lists, "long", *terms[begin : begin + 100])
    assert [one.text for one in lists.list_text_blocklist_items("long")] == terms
    assert [one.text for one in lists.list_text_blocklist_items("long", maxpagesize=7, skip=20)] == terms[20:]
    assert [one.text for one in lists.list_text_blocklist_items("long", top=25, maxpagesize=10)] == terms[:25]
    paged: Any = lists.list_text_blocklist_items("long", top=25, maxpagesize=10)
    pages = [list(page) for page in paged.by_page()]
    assert [len(page) for page in pages] == [10, 10, 5]


def test_another_organisation_sees_none_of_it(
    served: WithModels, azure: ContentSafetyClient, lists: BlocklistClient
) -> None:
    [item] = put(lists, "private", "secretword")
    charlie = enrol(served.house, "C", "charlie")
    with BlocklistClient(served.url, AzureKeyCredential(charlie.key)) as other:
        assert list(other.list_text_blocklists()) == []
        for call in (
            lambda: other.get_text_blocklist("private"),
            lambda: other.get_text_blocklist_item("private", item.blocklist_item_id),
            lambda: list(other.list_text_blocklist_items("private")),
            lambda: other.add_or_update_blocklist_items("private", {"blocklistItems": [{"text": "x"}]}),
            lambda: other.remove_blocklist_items("private", {"blocklistItemIds": [item.blocklist_item_id]}),
        ):
            assert refused(call)[:2] == (404, "ResourceNotFound")
        other.delete_text_blocklist("private")
    assert lists.get_text_blocklist("private").blocklist_name == "private"


def test_limits_and_names_are_azures(served: WithModels, lists: BlocklistClient) -> None:
    put(lists, "limits")
    many = {"blocklistItems": [{"text": f"t{number}"} for number in range(101)]}
    unseen = {"blocklistItems": [{"text": "\u200b\u202e"}]}  # nothing would ever be found by it
    long = {"blocklistItems": [{"text": "a" * 129}]}
    for body in (many, {"blocklistItems": []}, long, unseen, {"blocklistItems": [{}]}, {}):
        status, code, _ = refused(lambda body=body: lists.add_or_update_blocklist_items("limits", body))
        assert (status, code) == (400, "InvalidRequestBody")
    for name in ("a" * 65, "no spaces"):
        asked = TextBlocklist(blocklist_name=name)
        status, code, _ = refused(lambda name=name, asked=asked: lists.create_or_update_text_blocklist(name, asked))
        assert (status, code) == (400, "InvalidResourceName")
    other = {"blocklistName": "another"}
    assert refused(lambda: lists.create_or_update_text_blocklist("limits", other))[:2] == (400, "InvalidRequestBody")


def test_a_list_is_full_at_ten_thousand_items(served: WithModels, alice: Person, lists: BlocklistClient) -> None:
    put(lists, "full")
    served.house.db.write(
        lambda conn: conn.executemany(
            """
            INSERT INTO named_blocklist_item (id, org_id, list_id, text)
            SELECT ?, org_id, id, ? FROM named_blocklist WHERE name = 'full'
            """,
            [(f"id-{number}", f"word{number}") for number in range(9_999)],
        )
    )
    assert len(put(lists, "full", "the last")) == 1
    status, code, _ = refused(lambda: put(lists, "full", "one more"))
    assert (status, code) == (400, "InvalidRequestBody")
    assert len(list(lists.list_text_blocklist_items("full", skip=9_990))) == 10
    assert len(put(lists, "full", "the last")) == 1


def test_every_change_of_a_list_is_audited(served: WithModels, alice: Person, lists: BlocklistClient) -> None:
    [item] = put(lists, "audited", "one")
    lists.remove_blocklist_items("audited", {"blocklistItemIds": [item.blocklist_item_id]})
    lists.delete_text_blocklist("audited")
    rows = served.house.db.reader().execute("SELECT action FROM audit WHERE subject = 'audited' ORDER BY id").fetchall()
    assert [row["action"] for row in rows] == [
        "named_list.create", "named_list.add_items", "named_list.remove_items", "named_list.delete",
    ]  # fmt: skip


def test_a_verb_that_there_is_not_is_not_found(served: WithModels, alice: Person) -> None:
    address = f"{served.url}/contentsafety/text/blocklists/limits:praise?api-version=2023-10-01"
    answer = httpx.post(address, headers=alice.headers, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")
    unknown = httpx.get(f"{served.url}/contentsafety/nothing", headers=alice.headers)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "ResourceNotFound")


# --- Node ------------------------------------------------------------------------------------------------------------


def test_the_node_client_reads_answers_pages_and_errors_alike(served: WithModels, alice: Person) -> None:
    told = nodes.run(
        "azure.mjs",
        base=served.url,
        key=alice.key,
        violent=VIOLENT,
        kind=KIND,
        picture=base64.b64encode(PICTURE).decode(),
    )
    assert told["violent"]["Violence"] in (5, 6, 7)
    assert told["kind"] == dict.fromkeys(CATEGORIES, 0)
    assert told["picture"] == {"Hate": None, "SelfHarm": None, "Sexual": 0, "Violence": 0}
    assert told["statuses"] == ["201", "200", "200", "204", "204"]
    assert (told["items"], told["pages"]) == (["flibberstore", "corner market", "quincery"], True)
    assert told["matched"] == ["corner market"]
    assert told["no_text"] == ["400", "InvalidRequestBody", "InvalidRequestBody", "text"]
    assert told["no_list"] == ["404", "ResourceNotFound", "ResourceNotFound", None]
    assert told["wrong_key"] == ["401", "401", "401", None]
    assert told["wrong_version"] == [
        "400", "UnsupportedApiVersionValue", "UnsupportedApiVersionValue", "api-version",
    ]  # fmt: skip
