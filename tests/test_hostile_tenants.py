"""What test_isolation.py walks, in every other way in: routes that no document names, every parameter of every list,
other methods, ids spelled otherwise or put where another kind of id belongs. Charlie learns nothing of Alice's."""

import re
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import pytest

from tests.test_isolation import ADMIN, ORGS, UNKNOWN, WALK, Scene
from tests.test_isolation import scene as scene

UNDOCUMENTED = {
    "post /api/v1/me/custom-categories/generate-prompt": 503,  # as there is nobody to write one
    "get /billing": 200,
    "get /docs": 200,
    "get /schema": 200,
    "get /schema/openapi.json": 200,
    "get /schema/openapi.yml": 200,
    "get /schema/openapi.yaml": 200,
    "get /schema/{path}": 404,
}
"""Routes that the document leaves out, and what they answer. A new one needs a line."""

OWN = frozenset(
    [
        "limit",
        "offset",
        "type",
        "decision",
        "status",
        "from",
        "to",
        "billing_period",
        "period",
        "language",
        "origin",
        "version",
        "api-version",
        "top",
        "skip",
        "maxpagesize",
        "block_at",
        "reply",
        "url",
    ]
)
"""Parameters that name nothing of anybody's."""

NAMING = {"search": "job_id", "external_id": "comment", "policy": "policy", "cursor": "cursor"}
"""Parameters that may name something of another's, and which of Alice's things they are given."""


def tenants(scene: Scene) -> Iterator[tuple[str, dict[str, Any]]]:
    for route, operation in scene.routes.items():
        if ADMIN not in route and ORGS not in route:
            yield route, operation


def asked(scene: Scene, method: str, path: str, **how: Any) -> Any:
    headers = {**scene.charlie.headers, "x-request-id": "same"}
    return scene.client.request(method, path, headers=headers, **how)


def said(answer: Any, *own_words: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers, without what was asked and what counts down by itself."""
    text = answer.text
    for word in own_words:
        for form in (word, quote(word), word.replace("%", "%25")):
            text = text.replace(form, "…")
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in ("x-ratelimit-remaining", "content-length", "link", "location")
    }
    return answer.status_code, text, headers


def leaks(scene: Scene, answer: Any, *own_words: str) -> list[str]:
    """What of Alice's stands in it, but for what Charlie said himself."""
    text = answer.text + str(dict(answer.headers))
    return [trace for trace in scene.traces if trace in text and not any(trace in word for word in own_words)]


def test_every_route_of_the_application_is_known(scene: Scene) -> None:
    there = {
        f"{method.lower()} {re.sub(r':[a-z]+}', '}', route.path)}"
        for route in cast(Any, scene.client.app).routes
        for method in getattr(route, "methods", [])
        if method not in ("HEAD", "OPTIONS")
    }
    assert there - set(scene.routes) == set(UNDOCUMENTED)


@pytest.mark.parametrize("route", UNDOCUMENTED)
def test_what_no_document_names_says_nothing(scene: Scene, route: str) -> None:
    method, path = route.split(" ")
    body = {"name": "a", "description": "b"} if method == "post" else None
    for headers in (scene.charlie.headers, {}):
        answer = scene.client.request(
            method, path.replace("{path}", scene.theirs["job_id"]), headers=headers, json=body
        )
        assert answer.status_code in (UNDOCUMENTED[route], 400, 401, 404), answer.text
        assert leaks(scene, answer, scene.theirs["job_id"]) == []


def test_every_parameter_of_every_route_is_known(scene: Scene) -> None:
    names = {
        parameter["name"]
        for _, operation in tenants(scene)
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    }
    assert names == OWN | set(NAMING)


def test_a_parameter_that_names_anothers_thing_is_answered_as_one_that_names_nothing(scene: Scene) -> None:
    walked = 0
    for route, operation in tenants(scene):
        method, path = route.split(" ")
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query" or parameter["name"] not in NAMING or method != "get" or "{" in path:
                continue
            name = parameter["name"]
            theirs = {**scene.theirs, "comment": "alices-comment", "cursor": _cursor(scene, path)}[NAMING[name]]
            unknown = {**UNKNOWN, "comment": "nobodys-comment", "cursor": "nothing"}[NAMING[name]]
            answers = [asked(scene, method, path, params={name: value}) for value in (theirs, unknown)]
            assert [leaks(scene, one, theirs) for one in answers] == [[], []], f"{route} {name}"
            if name == "cursor":  # a place in a list: in another's list it is no place, or the same one
                assert all(one.status_code in (200, 400) for one in answers), answers[0].text
            else:
                assert said(answers[0], theirs) == said(answers[1], unknown), f"{route} {name}"
            walked += 1
    assert walked >= 5
    assert scene.rows_of(scene.alice) == scene.rows_before


def _cursor(scene: Scene, path: str) -> str:
    """Where Alice's own list goes on."""
    page = scene.client.get(path, params={"limit": 1}, headers=scene.alice.headers)
    found = page.json().get("next_cursor") if page.status_code == 200 and isinstance(page.json(), dict) else None
    return found or "none"


def spelled(value: str) -> dict[str, str]:
    """An id as somebody may write it who hopes that it is compared more kindly than it was stored."""
    return {
        "as it is": value,
        "in capitals": value.upper(),
        "in percent": "".join(f"%{byte:02X}" for byte in value.encode()),
        "with a space": value + "%20",
        "with a NUL": value + "%00",
        "with a slash": value + "/",
        "with dots": f"x%2f..%2f{value}",
        "with a star": value[:8] + "%25",
        "twice": f"{value},{value}",
    }


@pytest.mark.parametrize("route", [route for route in WALK if "{" in route])
def test_an_id_is_nobodys_however_it_is_spelled_and_whichever_method_asks(scene: Scene, route: str) -> None:
    method, path = route.split(" ")
    names = re.findall(r"{([a-z_]+)}", path)
    given = WALK[route]
    how: dict[str, Any] = {"params": {name: value for name, value in given.query.items() if "{" not in value}}
    theirs = {name: spelled(scene.theirs[name]) for name in names}
    unknown = {name: spelled(UNKNOWN[name]) for name in names}
    for form in spelled("x"):
        for asking in (method, "head", "options"):
            answers = []
            for ids in (theirs, unknown):
                filled = path
                for name in names:
                    filled = filled.replace(f"{{{name}}}", ids[name][form])
                answers.append(asked(scene, asking, filled, **how))
            words = [[ids[name][form] for name in names] + [ids[name]["as it is"] for name in names] for ids in (theirs, unknown)]  # noqa: E501  # fmt: skip
            assert said(answers[0], *words[0])[:2] == said(answers[1], *words[1])[:2], (form, asking)
            assert leaks(scene, answers[0], *words[0]) == [], (form, asking)
    assert scene.rows_of(scene.alice) == scene.rows_before


@pytest.mark.parametrize("route", [route for route in WALK if "{" in route])
def test_an_id_of_another_kind_is_nobodys(scene: Scene, route: str) -> None:
    """A job's where a category's belongs, an event's where a job's does, and so on."""
    method, path = route.split(" ")
    names = re.findall(r"{([a-z_]+)}", path)
    kinds = [name for name in UNKNOWN if name not in ("mark", "from", "to")]
    for kind in kinds:
        answers = []
        for ids in (scene.theirs, UNKNOWN):
            filled = path
            for name in names:
                filled = filled.replace(f"{{{name}}}", quote(ids[kind], safe=""))
            answers.append(asked(scene, method, filled, params=dict(WALK[route].query) if "{" not in str(WALK[route].query) else {}))  # noqa: E501  # fmt: skip
        assert answers[0].status_code == answers[1].status_code, kind
        assert leaks(scene, answers[0], scene.theirs[kind]) == [], kind
    assert scene.rows_of(scene.alice) == scene.rows_before
