"""What Perspective and Azure answer when nothing can be decided, the quota is used up, the organisation is disabled, or
the body is out of all bounds: in their own words, within a moment, and never a zero."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from azure.ai.contentsafety import ContentSafetyClient
from azure.ai.contentsafety.models import AnalyzeTextOptions
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.test_api_server import Served

PERSPECTIVE = "/v1alpha1/comments:analyze"
AZURE = "/contentsafety/text:analyze?api-version=2024-09-01"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server beside which no model process runs."""
    served = Served(tmp_path_factory.mktemp("bare"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def alice(bare: Served) -> Person:
    return enrol(bare.house, "A", "alice")


def comment(text: str, name: str = "TOXICITY") -> dict[str, Any]:
    return {"comment": {"text": text}, "requestedAttributes": {name: {}}, "languages": ["en"]}


def asked(bare: Served, who: Person, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {**who.headers, "content-type": "application/json"}
    return httpx.post(f"{bare.url}{path}", headers=headers, content=content, timeout=30)


def test_without_the_models_there_is_no_score(bare: Served, alice: Person) -> None:
    answer = asked(bare, alice, PERSPECTIVE, comment("a lighthouse"))
    assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    with (
        ContentSafetyClient(bare.url, AzureKeyCredential(alice.key), retry_total=0) as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.analyze_text(AnalyzeTextOptions(text="a lighthouse"))
    assert caught.value.error is not None
    assert (caught.value.status_code, caught.value.error.code) == (503, "ServerBusy")
    count = "SELECT count(*) FROM moderation_event WHERE org_id = ?"
    assert bare.house.db.reader().execute(count, (alice.org_id,)).fetchone()[0] == 0


def test_what_the_lists_answer_needs_no_model(bare: Served, alice: Person) -> None:
    told = asked(bare, alice, PERSPECTIVE, comment("a lighthouse", "PROFANITY")).json()
    assert told["attributeScores"]["PROFANITY"]["summaryScore"] == {"value": 0.0, "type": "PROBABILITY"}


def test_a_quota_that_is_used_up_is_told_so_that_no_client_waits_for_days(bare: Served) -> None:
    poor = enrol(bare.house, "Poor", "poor")
    on_plan(bare.house, poor, "free", 1)
    assert asked(bare, poor, PERSPECTIVE, comment("a", "PROFANITY")).status_code == 200
    answer = asked(bare, poor, PERSPECTIVE, comment("b", "PROFANITY"))
    assert (answer.status_code, answer.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    began = time.monotonic()
    with (
        ContentSafetyClient(bare.url, AzureKeyCredential(poor.key)) as client,  # with its retries, as it comes
        pytest.raises(HttpResponseError) as caught,
    ):
        client.analyze_text(AnalyzeTextOptions(text="a lighthouse"))
    assert time.monotonic() - began < 20  # Azure's client sleeps as long as Retry-After says
    assert caught.value.status_code == 403
    assert "quota" in str(caught.value.message)


def test_a_disabled_organisation_and_a_missing_scope_are_forbidden(bare: Served) -> None:
    gone = enrol(bare.house, "Gone", "gone")
    reader = enrol(bare.house, "Reader", "reader", granted=("job:read",))
    bare.house.db.write(
        lambda conn: conn.execute("UPDATE organisation SET status = 'disabled' WHERE id = ?", (gone.org_id,))
    )
    for who in (gone, reader):
        perspective = asked(bare, who, PERSPECTIVE, comment("a"))
        assert (perspective.status_code, perspective.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
        azure = asked(bare, who, AZURE, {"text": "a"})
        assert (azure.status_code, azure.json()["error"]["code"]) == (403, "403")


@pytest.mark.parametrize(
    "text",
    [
        "e" + "\u0301" * 9_999,
        "\u202e" * 10_000,
        "\x00" * 10_000,
        "(a+)+$" * 1_600,
        "\u200b" * 5_000 + "a",
        "ﷺ" * 6_000,
        "<" * 10_000,
    ],
)
def test_no_text_is_answered_by_a_fault(bare: Served, alice: Person, text: str) -> None:
    answer = asked(bare, alice, PERSPECTIVE, {**comment(text, "PROFANITY"), "spanAnnotations": True})
    assert answer.status_code in (200, 400)
    assert answer.status_code == 200 or answer.json()["error"]["details"][0]["errorType"] in (
        "COMMENT_TOO_LONG",
        "COMMENT_EMPTY",
    )
    assert asked(bare, alice, AZURE, {"text": text}).status_code in (400, 503)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"text":"\\ud800"}', b"\xff\xfe", b"[" * 100_000, b'{"text":"' + b"a" * 2_000_000],
)
def test_no_body_is_answered_by_a_fault(bare: Served, alice: Person, body: bytes) -> None:
    perspective, azure = asked(bare, alice, PERSPECTIVE, body), asked(bare, alice, AZURE, body)
    assert (perspective.status_code, perspective.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert (azure.status_code, azure.json()["error"]["code"]) == (400, "InvalidRequestBody")
    assert azure.headers["x-ms-error-code"] == "InvalidRequestBody"


def test_nothing_of_it_was_a_fault_of_ours(bare: Served) -> None:
    assert '"level":"error"' not in bare.log()
    assert "Traceback" not in bare.log()
