"""The OpenAPI document and its page: complete, true, and served without any outside file. test_docs.py records it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import errors
from appliance.api import refusals
from appliance.house import House
from appliance.settings import Server, Settings
from appliance.webhooks import payload
from tests.cast import UNHURRIED

Client = TestClient[Any]
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    from appliance.api.app import create_app

    with TestClient(create_app(House(Settings(home=tmp_path_factory.mktemp("home"), limits=UNHURRIED)))) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: Client) -> dict[str, Any]:
    return client.get("/schema/openapi.json").json()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (path, method, item[method])
        for path, item in document["paths"].items()
        for method in ("get", "post", "put", "delete")
        if method in item
    ]


def test_yaml_says_the_same_as_json(client: Client, document: dict[str, Any]) -> None:
    assert yaml.safe_load(client.get("/schema/openapi.yaml").text) == document


def test_the_shared_path_shows_both_bodies_and_what_each_of_its_headers_is_for(document: dict[str, Any]) -> None:
    shared = document["paths"]["/v1/moderations"]["post"]
    omnimod, openai = shared["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert omnimod["required"] == ["modality", "input"]
    assert {"type": "string"} in openai["properties"]["input"]["anyOf"]
    assert [one["name"] for one in shared["parameters"]] == ["Idempotency-Key"]
    assert {"409", "422"} <= set(shared["responses"])
    for path in ("/v1/moderations/image", "/omnimod/v1/moderations/image"):
        assert [one["name"] for one in document["paths"][path]["post"]["parameters"]] == ["x-omnimod-policy"]


def test_every_operation_is_described_with_examples_and_what_it_refuses(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        is_open = operation["security"] == [{}]
        assert is_open or operation["security"] == [{"bearer": []}], where
        wrong_key = "400" if operation["tags"] == ["Perspective"] else "401"  # Google's own status for it
        assert is_open or {wrong_key, "403", "429", "500", "503"} <= set(operation["responses"]), where
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]
            assert content["application/json"]["examples"], where
            assert "400" in operation["responses"], where
        for status, answer in operation["responses"].items():
            for media_type, content in (answer.get("content") or {}).items():
                assert media_type == "text/plain" or content["examples"], f"{where} {status}"


def test_every_refusal_is_documented_with_the_envelope_and_its_own_status(operations: list[Operation]) -> None:
    for _, _, operation in operations:
        for status, answer in operation["responses"].items():
            content = (answer.get("content") or {}).get("application/json", {})
            if content.get("schema", {}).get("$ref", "").endswith("/ErrorBody"):
                for example in content["examples"].values():
                    assert str(example["value"]["statusCode"]) == status
                    assert list(example["value"]) == ["error", "message", "statusCode", "request_id"]


def test_examples_are_whole_and_the_same_for_every_application_of_a_process(
    document: dict[str, Any], house: House
) -> None:
    """2026-11-21: nulls were dropped from the examples, and a second application's lost their names."""
    job = document["paths"]["/api/v1/job/{job_id}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert list(job["examples"]) == ["passed", "rejected", "failed"]
    assert job["examples"]["failed"]["value"]["is_prohibited"] is None
    from appliance.api.app import create_app

    with TestClient(create_app(house)) as another:
        assert another.get("/schema/openapi.json").json() == document


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in document["components"]["schemas"]


def test_submissions_are_documented_in_all_three_forms(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/moderate/image"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data", "application/x-www-form-urlencoded"}
    assert "image_file" in body["multipart/form-data"]["schema"]["properties"]
    assert "image_file" not in body["application/json"]["schema"]["properties"]


@pytest.mark.parametrize("path", ["/docs", "/schema", "/schema/"])
def test_the_page_names_every_route_and_fetches_nothing(client: Client, operations: list[Operation], path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    for route, _, operation in operations:
        assert route in response.text
        assert f"id='{operation['operationId']}'" in response.text
    for shown in ("RATE_LIMITED", "webhook-signature", "text_batch"):
        assert shown in response.text
    assert "<script" not in response.text
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", response.text)
    assert not re.search(r"@import|url\(", response.text)


def test_options_names_every_method_of_the_path(settings: Settings, client_with: Any, document: dict[str, Any]) -> None:
    """2026-11-21, found by schemathesis: GET was named where there were GET and PUT."""
    client, _ = client_with(replace(settings, server=Server(admin_on_network=True)))  # else those are not there
    for path, item in document["paths"].items():
        allowed = set(client.options(re.sub(r"{\w+}", "x", path)).headers["allow"].split(", "))
        assert allowed - {"OPTIONS", "HEAD"} == {method.upper() for method in item}, path


# --- complete --------------------------------------------------------------------------------------------------------


def _refusals(kind: type[errors.Refusal]) -> Iterator[type[errors.Refusal]]:
    for child in kind.__subclasses__():
        yield child
        yield from _refusals(child)


def test_every_refusal_there_is_can_be_documented() -> None:
    there = {kind.code: kind.status for kind in _refusals(errors.Refusal)} | {"INTERNAL_ERROR": 500}
    assert {code: status for code, (status, _) in refusals.ERRORS.items()} == there


def test_the_document_lists_every_error_once(document: dict[str, Any]) -> None:
    listed = document["components"]["responses"]
    assert set(listed) == set(refusals.ERRORS)
    for code, answer in listed.items():
        assert answer["content"]["application/json"]["examples"][code]["value"]["error"] == code


def test_every_answer_says_which_headers_come_with_it(operations: list[Operation]) -> None:
    rate = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
    for path, method, operation in operations:
        is_open = operation["security"] == [{}]
        for status, answer in operation["responses"].items():
            headers = set(answer["headers"])
            where = f"{method} {path} {status}"
            assert "x-request-id" in headers, where
            assert is_open or rate <= headers, where
            assert status != "429" or "retry-after" in headers, where
            assert status != "401" or "www-authenticate" in headers, where


def test_a_route_that_takes_an_idempotency_key_says_so_whole(operations: list[Operation]) -> None:
    taking = 0
    for path, method, operation in operations:
        names = [one["name"] for one in operation.get("parameters", []) if one["in"] == "header"]
        success = next(iter(sorted(operation["responses"])))
        if "Idempotency-Key" not in names:
            assert "Idempotent-Replayed" not in operation["responses"][success]["headers"]
            continue
        taking += 1
        assert method == "post", path
        assert {"400", "409", "422"} <= set(operation["responses"]), path
        assert "Idempotent-Replayed" in operation["responses"][success]["headers"], path
    assert taking >= 4


def test_every_link_leads_to_a_route_and_gives_it_what_it_needs(operations: list[Operation]) -> None:
    known = {operation["operationId"]: operation for _, _, operation in operations}
    for path, method, operation in operations:
        for answer in operation["responses"].values():
            for name, link in answer.get("links", {}).items():
                where = f"{method} {path} -> {name}"
                assert link["operationId"] in known, where
                wanted = known[link["operationId"]].get("parameters", [])
                given = set(link.get("parameters", {}))
                assert given <= {one["name"] for one in wanted}, where
                assert {one["name"] for one in wanted if one["required"]} <= given, where


def test_every_parameter_is_described_and_every_number_bounded(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        for one in operation.get("parameters", []):
            where = f"{method} {path} {one['name']}"
            assert one["description"], where
            if one["schema"].get("type") in ("integer", "number"):
                assert {"minimum", "maximum"} <= set(one["schema"]), where


def test_every_example_is_of_the_shape_it_stands_beside(document: dict[str, Any], operations: list[Operation]) -> None:
    components = {"components": document["components"]}
    for path, method, operation in operations:
        bodies = [operation["requestBody"]["content"]] if "requestBody" in operation else []
        for content in [*bodies, *(answer.get("content") or {} for answer in operation["responses"].values())]:
            shown = content.get("application/json", {})
            for name, example in (shown.get("examples") or {}).items():
                schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **components, **shown["schema"]}
                found = [
                    str(error.message) for error in jsonschema_rs.validator_for(schema).iter_errors(example["value"])
                ]
                assert found == [], f"{method} {path} {name}"


def test_what_is_sent_to_a_webhook_is_documented_as_it_is_sent(document: dict[str, Any]) -> None:
    """The examples are what payload renders of such jobs, in its order; their members are those of the shape."""
    from tests.test_webhooks_payload import FAILED, IMAGE, PROMPT, VIDEO

    content = document["webhooks"]["job"]["post"]["requestBody"]["content"]["application/json"]
    examples = {name: example["value"] for name, example in content["examples"].items()}
    prompt = msgspec.structs.replace(PROMPT, reason=examples["rejected"]["reason"])
    for name, job in (("rejected", prompt), ("passed", IMAGE), ("failed", FAILED)):
        assert json.dumps(examples[name], separators=(",", ":")) == payload.body(
            job, 0, include_type=True, expose_reasons=False
        )
    for webhook in document["webhooks"].values():
        content = webhook["post"]["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            assert list(jsonschema_rs.validator_for(content["schema"]).iter_errors(example["value"])) == []
    assert {member for job in (PROMPT, VIDEO, FAILED) for member in _members(job)} <= set(
        document["webhooks"]["job"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    )


def _members(job: Any) -> list[str]:
    return list(json.loads(payload.body(job, 0, include_type=True, expose_reasons=True)))
