"""Every request of both clients, and every member that they read, stands in the document that the server gives out."""

import inspect as signatures
import json
from collections.abc import Callable
from datetime import date
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from litestar.testing import TestClient

from customhouse_sdk import answers, calls
from customhouse_sdk.exchange import Call
from tests.sdks import Asked, Document

SINCE, UNTIL = "2026-05-01", date(2026, 6, 1)
QUESTION = "Is there a boat?"
HOOK = "https://example.com/hook"

CALLS: dict[str, list[Call[Any]]] = {
    "submit_text": [calls.submit_text("hello", webhook_url=HOOK)],
    "submit_image": [
        calls.submit_image("https://example.com/a.jpg", webhook_url=HOOK),
        calls.submit_image(b"bytes", webhook_url=HOOK),
    ],
    "submit_video": [calls.submit_video("https://example.com/a.mp4"), calls.submit_video(b"bytes")],
    "get_job": [calls.get_job("j")],
    "follow_job": [calls.follow_job("j", after="3")],
    "list_jobs": [
        calls.list_jobs(
            offset=1, type="image", decision="pass", status=["queued"], search="a", since=SINCE, until=UNTIL
        )
    ],
    "export_jobs": [calls.export_jobs(SINCE, UNTIL)],
    "submit_batch": [calls.submit_batch({"a": "hello"}, webhook_url=HOOK)],
    "get_batch": [calls.get_batch("b")],
    "moderate_text": [
        calls.moderate_text("hello", policy="p", language="en", force_fresh=True, metadata={"external_id": "1"})
    ],
    "moderate_image": [calls.moderate_image(b"bytes", policy="p")],
    "list_events": [
        calls.list_events(
            cursor="c",
            decision="flag",
            policy="p",
            external_id="1",
            language="en",
            origin="omnimod",
            since=SINCE,
            until=UNTIL,
        )
    ],
    "get_event": [calls.get_event("mev_1")],
    "list_policies": [calls.list_policies()],
    "get_policy": [calls.get_policy("p")],
    "list_policy_versions": [calls.list_policy_versions("p")],
    "get_moderation_usage": [calls.get_moderation_usage("2026-05")],
    "get_quota": [calls.get_quota()],
    "list_plans": [calls.list_plans()],
    "get_organisation": [calls.get_organisation()],
    "get_overview": [calls.get_overview()],
    "get_usage": [calls.get_usage(UNTIL)],
    "get_volume": [calls.get_volume("day")],
    "get_cost": [calls.get_cost("day")],
    "get_rejections": [calls.get_rejections("day")],
    "get_config": [calls.get_config()],
    "set_config": [calls.set_config(nsfw=False, ai_adult_general=False, underage=False, text=False)],
    "get_prompt_steps": [calls.get_prompt_steps()],
    "set_prompt_steps": [calls.set_prompt_steps({"spam": 0.8})],
    "list_default_categories": [calls.list_default_categories()],
    "list_categories": [calls.list_categories()],
    "create_category": [
        calls.create_category("n", QUESTION, slug="s", description="d", enabled=True, applies_to=["image"])
    ],
    "change_category": [
        calls.change_category(
            "c", name="n", system_prompt=QUESTION, description="d", enabled=True, applies_to=["image"]
        )
    ],
    "remove_category": [calls.remove_category("c")],
    "list_category_versions": [calls.list_category_versions("c")],
    "try_question": [calls.try_question(QUESTION, text="t"), calls.try_question(QUESTION, image=b"bytes")],
    "try_category": [
        calls.try_category("c", system_prompt=QUESTION, image="https://example.com/a.jpg"),
        calls.try_category("c", image=b"bytes"),
    ],
    "register_webhook": [calls.register_webhook(HOOK)],
    "unregister_webhook": [calls.unregister_webhook()],
    "list_webhook_secrets": [calls.list_webhook_secrets()],
    "reveal_webhook_secret": [calls.reveal_webhook_secret()],
    "rotate_webhook_secret": [calls.rotate_webhook_secret()],
    "get_health": [calls.get_health()],
}
"""Each with every parameter that it has."""


@pytest.fixture
def document(client: TestClient[Any]) -> Document:
    return Document(client.get("/schema/openapi.json").json())


def asked_of(name: str, call: Call[Any]) -> Asked:
    parts = None if call.upload is None else [*(call.form or {}), call.upload.part]
    headers = [header.lower() for header in call.headers]
    given = None if call.json is None else dict(call.json)
    return Asked(name, call.verb, call.path, list(call.query), headers, given, parts)


def all_of_python() -> list[Asked]:
    return [asked_of(name, call) for name, made in CALLS.items() for call in made]


def test_every_call_of_the_python_client_is_compared() -> None:
    functions = signatures.getmembers(calls, signatures.isfunction)
    public = {name for name, one in functions if one.__module__ == calls.__name__ and not name.startswith("_")}
    assert public == CALLS.keys()


def test_what_the_python_client_sends_is_documented(document: Document) -> None:
    assert [fault for asked in all_of_python() for fault in document.faults(asked)] == []


def test_what_the_python_client_reads_is_documented(document: Document) -> None:
    wrong: list[str] = []
    for name, [call, *_] in CALLS.items():
        function: Callable[..., object] = getattr(calls, name)
        [kind] = get_args(get_type_hints(function)["return"])
        schema = document.answer(asked_of(name, call))
        if kind in (bytes, type(None)):
            assert schema is None, name
        else:
            assert schema is not None, name
            wrong += document.misread(schema, msgspec.inspect.type_info(kind), kind.__name__)
    assert wrong == []


def test_the_python_client_leaves_out_no_route_of_the_groups_that_it_claims(document: Document) -> None:
    assert document.unasked(all_of_python()) == set()


def test_what_a_webhook_brings_is_read_whole(client: TestClient[Any]) -> None:
    whole = client.get("/schema/openapi.json").json()
    document = Document(whole)
    for name, kind in (("job", answers.JobNotice), ("text_batch", answers.BatchNotice)):
        schema = whole["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert list(document.misread(schema, msgspec.inspect.type_info(kind), name)) == []


def test_the_comparison_sees_what_is_wrong(document: Document) -> None:
    """A check that could not fail would prove nothing."""

    class Wrong(msgspec.Struct):
        job_id: int
        status: str
        invented: str

    schema = document.answer(asked_of("get_job", calls.get_job("j")))
    assert schema is not None
    wrong = list(document.misread(schema, msgspec.inspect.type_info(Wrong), "Job"))
    assert len(wrong) == 2, wrong
    asked = Asked("x", "POST", "/api/v1/moderate/text", ["page"], [], json.loads('{"txt": "hello"}'))
    assert len(list(document.faults(asked))) == 4
    assert list(document.faults(Asked("x", "GET", "/api/v1/moderate/text"))) != []
