"""Perspective by its own clients, as they come: google-api-python-client and `perspective`, over loopback against the
running server; and every error that C.2 names. The clients that hold the host fast are listed in README."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from tests.cast import Person, enrol
from tests.surfaces import WithModels

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
    return discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey=key,
        discoveryServiceUrl=f"{served.url}/$discovery/rest?version=v1alpha1",
        static_discovery=False,
    )


@pytest.fixture(scope="module")
def google(served: WithModels, alice: Person) -> Any:
    """The client that Perspective's own documentation shows."""
    return built(served, alice.key)


def analyzed(google: Any, text: str, *names: str, **more: Any) -> dict[str, Any]:
    body = {"comment": {"text": text}, "requestedAttributes": {name: {} for name in names}, **more}
    return google.comments().analyze(body=body).execute()


def refused(google: Any, **body: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(HttpError) as caught:
        google.comments().analyze(body=body).execute(num_retries=0)
    return caught.value.status_code, json.loads(caught.value.content)["error"]


@pytest.mark.weights
def test_googles_client_scores_an_insult_high_and_thanks_low(google: Any) -> None:
    names = ("TOXICITY", "SEVERE_TOXICITY", "INSULT", "IDENTITY_ATTACK", "THREAT", "SEXUALLY_EXPLICIT")
    bad, good = (analyzed(google, text, *names, languages=["en"]) for text in (INSULT, KIND))
    assert set(bad["attributeScores"]) == set(names)
    for name in ("TOXICITY", "SEVERE_TOXICITY", "INSULT"):
        told, fine = (one["attributeScores"][name]["summaryScore"] for one in (bad, good))
        assert told["value"] > 0.7 > 0.3 > fine["value"]
        assert told["type"] == "PROBABILITY"
    whole = bad["attributeScores"]["TOXICITY"]
    assert whole["spanScores"] == [{"begin": 0, "end": len(INSULT), "score": whole["summaryScore"]}]
    assert bad["languages"] == ["en"]
    assert "detectedLanguages" not in bad
