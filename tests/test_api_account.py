"""moderation-config over HTTP, to the letter of seed 002; and the registered webhook of seed 003."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance.accounts import custom
from appliance.house import House
from appliance.settings import Inference, Settings, Webhooks
from appliance.webhooks import endpoints
from tests import recorded
from tests.cast import Person, enrol
from tests.recorded import pretty

Client = TestClient[Any]

CONFIG = "/api/v1/me/moderation-config"
HOOK = "/api/v1/webhook/register"
PUBLIC = "https://93.184.216.34/hook"


def test_the_config_holds_only_what_is_off_and_a_catalogue_of_all_four(client: Client, alice: Person) -> None:
    assert client.get(CONFIG, headers=alice.headers).json()["enabled_categories"] == {}
    put = client.put(CONFIG, headers=alice.headers, json={"nsfw": False, "text": True})
    assert put.status_code == 200
    recorded.check("moderation_config.json", pretty(json.loads(put.content)))
    assert client.get(CONFIG, headers=alice.headers).content == put.content


def test_a_put_is_the_whole_new_state(client: Client, alice: Person, bob: Person, charlie: Person) -> None:
    client.put(CONFIG, headers=alice.headers, json={"nsfw": False, "ai_adult_general": False})
    client.put(CONFIG, headers=bob.headers, json={"underage": False})
    assert client.get(CONFIG, headers=alice.headers).json()["enabled_categories"] == {"underage": False}
    assert client.get(CONFIG, headers=charlie.headers).json()["enabled_categories"] == {}
    assert client.put(CONFIG, headers=alice.headers, json={}).json()["enabled_categories"] == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"nsfw"', "must be a JSON object"),
        (b'{"nfsw": false}', "Allowed keys are nsfw, ai_adult_general, underage, text"),
        (b'{"nsfw": 0}', "nsfw must be true or false"),
        (b'{"nsfw": null}', "nsfw must be true or false"),
        (b'{"custom": false}', "Allowed keys are"),
    ],
)
def test_another_body_is_refused_and_changes_nothing(client: Client, alice: Person, body: bytes, message: str) -> None:
    client.put(CONFIG, headers=alice.headers, json={"text": False})
    response = client.put(CONFIG, headers={**alice.headers, "content-type": "application/json"}, content=body)
    assert (response.status_code, response.json()["error"]) == (400, "INVALID_REQUEST")
    assert message in response.json()["message"]
    assert client.get(CONFIG, headers=alice.headers).json()["enabled_categories"] == {"text": False}


def test_a_body_that_is_too_large_or_of_another_type_is_refused(client: Client, alice: Person) -> None:
    big = client.put(CONFIG, headers=alice.headers, json={"x": "y" * 100_000})
    assert (big.status_code, big.json()["error"]) == (413, "PAYLOAD_TOO_LARGE")
    form = client.put(CONFIG, headers=alice.headers, data={"nsfw": "false"})
    assert (form.status_code, form.json()["error"]) == (415, "UNSUPPORTED_MEDIA")


def test_turning_underage_off_is_in_the_audit_log_with_the_key_that_did_it(
    client: Client, house: House, alice: Person
) -> None:
    client.put(CONFIG, headers=alice.headers, json={"underage": False})
    row = house.db.reader().execute("SELECT * FROM audit").fetchone()
    assert (row["action"], row["actor"], row["org_id"]) == (
        "checks.underage_off",
        f"key:{alice.key[:12]}",
        alice.org_id,
    )


def test_custom_categories_stand_apart_in_the_catalogue(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, inference=Inference(vision_judge="judge")))
    alice, charlie = enrol(house, "A", "alice"), enrol(house, "C", "charlie")
    house.db.write(
        lambda conn: custom.add(conn, house.settings, alice.org_id, "dogs", "Dogs", "Is there a dog?", actor="x")
    )
    catalogue = client.get(CONFIG, headers=alice.headers).json()["catalogue"]
    assert catalogue["custom"] == {"dogs": {"label": "Dogs", "description": "Is there a dog?", "icon": "tag"}}
    assert "custom" not in client.get(CONFIG, headers=charlie.headers).json()["catalogue"]


# --- the registered webhook -----------------------------------------------------------------------------------------


def test_registering_answers_the_secret_once_and_replaces(client: Client, house: House, alice: Person) -> None:
    first = client.post(HOOK, headers=alice.headers, json={"url": PUBLIC})
    assert first.status_code == 200
    assert list(first.json()) == ["url", "updated_at", "secret"]
    assert first.json()["secret"].startswith("whsec_")
    second = client.post(HOOK, headers=alice.headers, json={"url": PUBLIC + "2"})
    assert list(second.json()) == ["url", "updated_at"]
    endpoint = endpoints.get(house.db.reader(), alice.org_id)
    assert endpoint is not None
    assert endpoint.url == PUBLIC + "2"


def test_without_signing_there_is_no_secret(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, webhooks=Webhooks(sign=False)))
    alice = enrol(house, "A", "alice")
    assert list(client.post(HOOK, headers=alice.headers, json={"url": PUBLIC}).json()) == ["url", "updated_at"]


def test_deleting_is_safe_to_repeat_and_touches_no_other_account(
    client: Client, house: House, alice: Person, charlie: Person
) -> None:
    for person in (alice, charlie):
        client.post(HOOK, headers=person.headers, json={"url": PUBLIC})
    for _ in range(2):
        response = client.delete(HOOK, headers=alice.headers)
        assert (response.status_code, response.content) == (204, b"")
    assert endpoints.get(house.db.reader(), alice.org_id) is None
    assert endpoints.get(house.db.reader(), charlie.org_id) is not None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "url is required"),
        ({"url": None}, "url is required"),
        ({"url": 1}, "url must be a string"),
        ({"url": ""}, "url must be an absolute http or https address"),
        ({"url": "ftp://93.184.216.34/x"}, "url must be an absolute http or https address"),
        ({"url": "https://a:b@93.184.216.34/x"}, "user name or password"),
        ({"url": "https://93.184.216.34/" + "x" * 2048}, "longer than 2048"),
        ({"url": "http://127.0.0.1:8000/x"}, "leads to a private or internal network"),
        ({"url": "http://[::ffff:10.0.0.1]/x"}, "leads to a private or internal network"),
        (["url"], "must be a JSON object"),
    ],
)
def test_an_address_that_cannot_be_sent_to_is_refused(
    client: Client, house: House, alice: Person, body: Any, message: str
) -> None:
    response = client.post(HOOK, headers=alice.headers, json=body)
    assert (response.status_code, response.json()["error"]) == (400, "INVALID_REQUEST")
    assert message in response.json()["message"]
    assert endpoints.get(house.db.reader(), alice.org_id) is None
