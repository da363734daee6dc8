"""Perspective by its own clients, as they come: google-api-python-client and `perspective`, over loopback against the
running server and its models. The clients that hold the host fast are listed in README."""

import json
import urllib.error
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError
from perspective import PerspectiveAPI

from tests.cast import Person, enrol
from tests.surfaces import WithModels

pytestmark = pytest.mark.weights

INSULT = "You are a worthless idiot and everybody hates you."
KIND = "Thank you for the lovely evening, the soup was wonderful."


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithModels]:
    served = WithModels(tmp_path_factory.mktemp("perspective"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def alice(served: WithModels) -> Person:
    return enrol(served.house, "A", "alice")


def built(served: WithModels, key: str) -> Any:
    """The client as Perspective's own documentation has one make it, with another address."""
    return discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey=key,
        discoveryServiceUrl=f"{served.url}/$discovery/rest?version=v1alpha1",
        static_discovery=False,
    )


@pytest.fixture(scope="module")
def google(served: WithModels, alice: Person) -> Iterator[Any]:
    with built(served, alice.key) as client:
        yield client


def analyzed(google: Any, text: str, *names: str, **more: Any) -> dict[str, Any]:
    body = {"comment": {"text": text}, "requestedAttributes": {name: {} for name in names}, **more}
    return google.comments().analyze(body=body).execute()


def refused(google: Any, **body: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(HttpError) as caught:
        google.comments().analyze(body=body).execute(num_retries=0)
    return caught.value.status_code, json.loads(caught.value.content)["error"]


def value(answer: dict[str, Any], name: str) -> float:
    return answer["attributeScores"][name]["summaryScore"]["value"]


def events(served: WithModels) -> list[dict[str, Any]]:
    found = served.house.db.reader().execute("SELECT * FROM moderation_event ORDER BY seq").fetchall()
    return [dict(row) for row in found]


# --- google-api-python-client ----------------------------------------------------------------------------------------


def test_an_insult_scores_high_and_thanks_low(google: Any) -> None:
    names = ("TOXICITY", "SEVERE_TOXICITY", "INSULT", "IDENTITY_ATTACK", "THREAT", "SEXUALLY_EXPLICIT")
    bad, good = (analyzed(google, text, *names, languages=["en"]) for text in (INSULT, KIND))
    assert set(bad["attributeScores"]) == set(names)
    for name in ("TOXICITY", "SEVERE_TOXICITY", "INSULT"):
        assert value(bad, name) > 0.7 > 0.3 > value(good, name)
    whole = bad["attributeScores"]["TOXICITY"]
    assert whole["summaryScore"]["type"] == "PROBABILITY"
    assert whole["spanScores"] == [{"begin": 0, "end": len(INSULT), "score": whole["summaryScore"]}]
    assert bad["languages"] == ["en"]
    assert "detectedLanguages" not in bad


def test_the_language_is_detected_where_none_is_given(google: Any) -> None:
    told = analyzed(google, KIND, "TOXICITY")
    assert told["languages"] == told["detectedLanguages"] == ["en"]
    short = analyzed(google, "hmm", "TOXICITY")
    assert (short["languages"], short["detectedLanguages"]) in ((["en"], ["und"]), (["en"], ["en"]))
    assert "TOXICITY" in short["attributeScores"]


def test_every_form_of_a_name_is_answered_as_it_was_asked(google: Any) -> None:
    names = ("TOXICITY", "TOXICITY@6", "TOXICITY_FAST", "TOXICITY_EXPERIMENTAL", "INSULT_EXPERIMENTAL@2")
    told = analyzed(google, INSULT, *names, languages=["en-US"])
    assert set(told["attributeScores"]) == set(names)
    assert len({value(told, name) for name in names[:4]}) == 1
    assert told["languages"] == ["en-US"]


def test_each_sentence_has_its_own_scores(google: Any) -> None:
    text = f"  {KIND} 🙂 Really!  {INSULT}\n"
    told = analyzed(google, text, "TOXICITY", languages=["en"], spanAnnotations=True)
    spans = told["attributeScores"]["TOXICITY"]["spanScores"]
    said = [text[span["begin"] : span["end"]] for span in spans]
    assert said == [KIND, "🙂 Really!", INSULT]
    assert spans[2]["score"]["value"] > 0.7 > 0.3 > spans[0]["score"]["value"]


def test_tags_are_passed_over_and_offsets_stay_true(google: Any) -> None:
    text = f"<p class='a'>{KIND}</p><p>You are a <b>worthless</b> idiot &amp; everybody hates you.</p>"
    comment = {"text": text, "type": "HTML"}
    told = analyzed(google, text, "TOXICITY", comment=comment, languages=["en"], spanAnnotations=True)
    spans = told["attributeScores"]["TOXICITY"]["spanScores"]
    assert [text[span["begin"] : span["end"]] for span in spans] == [
        KIND,
        "You are a <b>worthless</b> idiot &amp; everybody hates you.",
    ]
    assert spans[1]["score"]["value"] > 0.7


def test_a_score_below_its_threshold_is_left_out(google: Any) -> None:
    wanted = {"TOXICITY": {"scoreThreshold": 0.5, "scoreType": "PROBABILITY"}, "INSULT": {}}
    told = analyzed(google, KIND, requestedAttributes=wanted, languages=["en"])
    assert set(told["attributeScores"]) == {"INSULT"}


def test_the_lists_answer_profanity_without_a_model(google: Any) -> None:
    told = analyzed(google, "What a damn shame, you bastard.", "PROFANITY", languages=["en"])
    fine = analyzed(google, KIND, "PROFANITY", languages=["en"])
    assert value(told, "PROFANITY") > 0.3
    assert value(fine, "PROFANITY") == 0


def test_the_tokens_are_answered_and_kept_and_the_text_is_not(served: WithModels, google: Any) -> None:
    text = "Sentence of nobody else, about marmalade."
    told = analyzed(
        google, text, "TOXICITY", languages=["en"], clientToken="c-17", sessionId="s-1", communityId="forum.example/a",
        context={"entries": [{"text": "about breakfast"}]},
    )  # fmt: skip
    assert told["clientToken"] == "c-17"
    event = events(served)[-1]
    assert (event["origin"], event["external_id"]) == ("perspective", "c-17")
    assert {"s-1", "forum.example/a"} <= set(json.loads(event["body"])["metadata"].values())
    told = analyzed(google, text, "TOXICITY", languages=["en"], clientToken="c-18", doNotStore=True)
    assert told["clientToken"] == "c-18"
    assert events(served)[-1]["external_id"] is None
    for path in served.house.settings.home.glob("customhouse.db*"):
        assert b"marmalade" not in path.read_bytes()


def test_a_suggested_score_is_kept_with_a_hash_of_the_text(served: WithModels, google: Any) -> None:
    body = {
        "comment": {"text": "What a lovely day, said the gherkin"},
        "attributeScores": {
            "TOXICITY": {
                "summaryScore": {"value": 0},
                "spanScores": [{"begin": 0, "end": 4, "score": {"value": 1.0, "type": "PROBABILITY"}}],
            }
        },
        "clientToken": "comment-17",
        "communityId": "forum.example",
        "languages": ["en"],
    }
    told = google.comments().suggestscore(body=body).execute()
    assert told == {"clientToken": "comment-17", "requestedLanguages": ["en"]}
    google.comments().suggestscore(body={**body, "doNotStore": True}).execute()
    [row] = served.house.db.reader().execute("SELECT * FROM suggested_score").fetchall()
    assert json.loads(row["scores"]) == {"TOXICITY": {"summary": 0.0, "spans": [[0, 4, 1.0]]}}
    assert (row["client_token"], row["community_id"], len(row["content_hash"])) == ("comment-17", "forum.example", 32)
    for path in served.house.settings.home.glob("customhouse.db*"):
        assert b"gherkin" not in path.read_bytes()


@pytest.mark.parametrize("place", ["query", "header", "bearer"])
def test_the_key_may_stand_in_each_of_its_places(served: WithModels, alice: Person, place: str) -> None:
    headers = {"header": {"x-goog-api-key": alice.key}, "bearer": alice.headers}.get(place, {})
    answer = httpx.post(
        f"{served.url}/v1alpha1/comments:analyze",
        params={"key": alice.key} if place == "query" else {},
        headers=headers,
        json={"comment": {"text": KIND}, "requested_attributes": {"TOXICITY": {}}, "languages": ["en"]},
    )
    assert answer.status_code == 200, answer.text


# --- errors ----------------------------------------------------------------------------------------------------------

COMMENT = {"text": KIND}
ASKED = {"TOXICITY": {}}


@pytest.mark.parametrize(
    ("body", "message", "word"),
    [
        ({"comment": {"text": ""}, "requestedAttributes": ASKED}, "Comment must be non-empty.", "COMMENT_EMPTY"),
        ({"comment": {"text": " \n"}, "requestedAttributes": ASKED}, "Comment must be non-empty.", "COMMENT_EMPTY"),
        ({"requestedAttributes": ASKED}, "Comment must be non-empty.", "COMMENT_EMPTY"),
        (
            {"comment": {"text": "<p></p>", "type": "HTML"}, "requestedAttributes": ASKED},
            "Comment must be non-empty.",
            "COMMENT_EMPTY",
        ),
        ({"comment": {"text": "é" * 10_241}, "requestedAttributes": {}}, "Comment text too long.", "COMMENT_TOO_LONG"),
        ({"comment": COMMENT}, "Missing requested_attributes", "NO_REQUESTED_ATTRIBUTES"),
        ({"comment": COMMENT, "requestedAttributes": {}}, "Missing requested_attributes", "NO_REQUESTED_ATTRIBUTES"),
        (
            {"comment": COMMENT, "requestedAttributes": {"SARCASM": {}}},
            "Unknown requested attribute: SARCASM",
            "INVALID_REQUEST",
        ),
        (
            {"comment": COMMENT, "requestedAttributes": {"TOXICITY": {"scoreType": "PERCENTILE"}}},
            "Requested score type PERCENTILE is not supported by attribute TOXICITY",
            "INVALID_REQUEST",
        ),
        (
            {"comment": {"text": KIND, "type": "MARKDOWN"}, "requestedAttributes": ASKED},
            "Unknown text type",
            "INVALID_REQUEST",
        ),
        (
            {"comment": COMMENT, "requestedAttributes": ASKED, "languages": ["en", "ja"]},
            "Attribute TOXICITY does not support request languages: en, ja",
            "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
        ),
        (
            {"comment": COMMENT, "requestedAttributes": {"FLIRTATION": {}}, "languages": ["en"]},
            "Attribute FLIRTATION does not support request languages: en",
            "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
        ),
        (
            {"comment": {"text": "12345 !!! 6"}, "requestedAttributes": ASKED},
            "Unable to detect language",
            "LANGUAGE_DETECTION_FAILED",
        ),
        (
            {"comment": COMMENT, "context": {"entries": [{}], "articleAndParentComment": {"article": {}}}},
            "Context can have either entries or article_and_parent_comment, but both fields were populated.",
            "INVALID_REQUEST",
        ),
    ],
)  # fmt: skip
def test_each_wrong_request_is_answered_in_perspectives_words(
    google: Any, body: dict[str, Any], message: str, word: str
) -> None:
    status, error = refused(google, **body)
    assert (status, error["code"], error["status"], error["message"]) == (400, 400, "INVALID_ARGUMENT", message)
    assert error["details"][0]["errorType"] == word
    assert error["details"][0]["@type"] == "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"


def test_a_language_that_is_not_answered_names_the_attribute(google: Any) -> None:
    _, error = refused(google, comment={"text": "これは日本語の文です。とても長いです。"}, requestedAttributes=ASKED)
    about = error["details"][0]["languageNotSupportedByAttributeError"]
    assert about == {"attribute": "TOXICITY", "requestedLanguages": ["ja"], "detectedLanguages": ["ja"]}


def test_what_is_not_answered_may_be_dropped_instead(google: Any) -> None:
    names = ("TOXICITY", "FLIRTATION", "CURIOSITY_EXPERIMENTAL", "LIKELY_TO_REJECT")
    told = analyzed(google, KIND, *names, languages=["en"], dropUnsupportedAttributes=True)
    assert set(told["attributeScores"]) == {"TOXICITY"}


@pytest.mark.parametrize("key", ["", "nonsense", "stars_" + "a" * 40])
def test_a_wrong_key_is_told_as_google_tells_it(served: WithModels, key: str) -> None:
    with built(served, key or "-") as client:
        status, error = refused(client, comment=COMMENT, requestedAttributes=ASKED)
    assert (status, error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["message"] == "API key not valid. Please pass a valid API key."
    assert error["details"][0]["reason"] == "API_KEY_INVALID"


def test_over_the_limit_is_resource_exhausted(served: WithModels) -> None:
    hasty = enrol(served.house, "Hasty", "h")
    served.house.db.write(
        lambda conn: conn.execute("UPDATE organisation SET requests_per_minute = 1 WHERE id = ?", (hasty.org_id,))
    )
    with built(served, hasty.key) as client:
        analyzed(client, KIND, "TOXICITY", languages=["en"])
        with pytest.raises(HttpError) as caught:
            analyzed(client, KIND, "TOXICITY", languages=["en"])
    assert caught.value.status_code == 429
    assert json.loads(caught.value.content)["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert int(caught.value.resp["retry-after"]) >= 1


def test_what_no_json_is_and_what_is_too_large_are_invalid_arguments(served: WithModels, alice: Person) -> None:
    address = f"{served.url}/v1alpha1/comments:analyze"
    headers = {**alice.headers, "content-type": "application/json"}
    for content in (b"", b"{", b"[]", b'{"comment":{"text":"\\ud800"}}', b'{"comment":"' + b"a" * 1_100_000 + b'"}'):
        error = httpx.post(address, headers=headers, content=content)
        assert (error.status_code, error.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    unknown = httpx.post(f"{served.url}/v1alpha1/comments:praise", headers=headers, content=b"{}")
    assert (unknown.status_code, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")


# --- the PyPI package `perspective` ----------------------------------------------------------------------------------


@pytest.fixture
def package(served: WithModels, alice: Person) -> PerspectiveAPI:
    client = PerspectiveAPI(alice.key)
    client.api_client.url = f"{served.url}/v1alpha1/{{endpoint}}"
    return client


def test_the_package_scores_and_suggests(package: PerspectiveAPI) -> None:
    assert package.score(INSULT, tests=["TOXICITY", "INSULT"])["TOXICITY"] > 0.7
    told = package.analyze_comment(KIND, requested_attributes={"INSULT": {}}, languages=["en"], client_token="t")
    assert told["clientToken"] == "t"
    assert told["attributeScores"]["INSULT"]["summaryScore"]["value"] < 0.3
    scores: Any = {"TOXICITY": {"summaryScore": {"value": 0.0, "type": "PROBABILITY"}}}
    assert package.suggest_score(KIND, scores, client_token="t")["clientToken"] == "t"


def test_the_package_raises_what_perspective_refuses(package: PerspectiveAPI) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        package.analyze_comment("", validate=False)
    assert caught.value.code == 400
    assert json.loads(caught.value.read())["error"]["details"][0]["errorType"] == "COMMENT_EMPTY"
    caught.value.close()


# --- the discovery document ------------------------------------------------------------------------------------------


def test_the_discovery_document_names_the_address_that_it_is_asked_at(served: WithModels) -> None:
    address = f"{served.url}/$discovery/rest?version=v1alpha1"
    assert httpx.get(address).json()["rootUrl"] == f"{served.url}/"
    behind = {"host": "perspective.example", "x-forwarded-proto": "https"}
    assert httpx.get(address, headers=behind).json()["rootUrl"] == "https://perspective.example/"


def test_the_discovery_document_says_what_each_attribute_is_here(served: WithModels) -> None:
    told = httpx.get(f"{served.url}/$discovery/rest?version=v1alpha1").json()["description"]
    assert "TOXICITY: A rude" in told
    assert "SEVERE_TOXICITY: Toxic, and at the same time" in told
    assert "the lower of toxicity and hate;" in told
    assert "refused: ATTACK_ON_AUTHOR" in told
