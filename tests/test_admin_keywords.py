"""The blocklist over HTTP: terms added, changed, switched off and removed, for everybody or for one client."""

from pathlib import Path
from typing import Any

import pytest

from appliance.settings import Settings
from appliance.text import keywords
from appliance.text.lexicons import Lexicons
from tests.desk import NOBODYS, ClientWith, Desk


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> Desk:
    return Desk(client_with, settings, _migrated)


def add(desk: Desk, **body: Any) -> dict[str, Any]:
    return desk.done("post", "/keywords", {"keyword": "teapot", **body}, status=201)


def test_a_term_has_the_shape_of_the_contract(desk: Desk) -> None:
    made = add(desk, category="underage", reason="seen twice")
    assert list(made) == ["id", "keyword", "match", "category", "enabled", "created_at", "client_id"]
    assert (made["keyword"], made["match"], made["category"], made["enabled"]) == ("teapot", "word", "underage", True)
    assert desk.done("get", "/keywords") == {"keywords": [made], "total": 1, "limit": 50, "offset": 0}
    line = desk.lines(action="blocklist.add")[0]
    assert (line.actor, line.subject, line.reason) == (desk.actor, made["id"], "seen twice")


def test_a_term_is_looked_for_from_the_next_prompt_on(desk: Desk) -> None:
    lexicons = Lexicons(desk.house)
    assert lexicons.match(desk.alice.org_id, "a teapot") is None
    made = add(desk)
    assert lexicons.match(desk.alice.org_id, "a teapot") is not None
    desk.done("put", f"/keywords/{made['id']}", {"enabled": False, "reason": "too many"})
    assert lexicons.match(desk.alice.org_id, "a teapot") is None
    desk.done("put", f"/keywords/{made['id']}", {"enabled": True, "match": "substring"})
    assert lexicons.match(desk.alice.org_id, "teapots") is not None
    desk.done("delete", f"/keywords/{made['id']}?reason=not%20needed", status=204)
    assert lexicons.match(desk.alice.org_id, "a teapot") is None
    assert [line.action for line in desk.lines(subject=made["id"])] == [
        "blocklist.remove",
        "blocklist.change",
        "blocklist.change",
        "blocklist.add",
    ]
    assert desk.lines(action="blocklist.remove")[0].reason == "not needed"


def test_a_clients_own_list_is_its_own(desk: Desk) -> None:
    own = add(desk, client_id=desk.alice.org_id)
    shared = add(desk)
    assert [one["id"] for one in desk.done("get", "/keywords")["keywords"]] == [shared["id"]]
    assert desk.done("get", f"/keywords?client_id={desk.alice.org_id}")["keywords"] == [own]
    assert desk.refused("get", f"/keywords?client_id={NOBODYS}", status=404)
    assert desk.refused("post", "/keywords", {"keyword": "x", "client_id": NOBODYS}, status=404)
    desk.done("delete", f"/keywords/{own['id']}", {"reason": "x"}, status=204)
    assert desk.done("get", "/keywords")["total"] == 1


def test_a_long_list_is_paged(desk: Desk) -> None:
    desk.house.db.write(
        lambda conn: keywords.import_lines(conn, [f"term{n:03}" for n in range(120)], org_id=None, actor="x")
    )
    page = desk.done("get", "/keywords?limit=50&offset=100")
    assert (page["keywords"][0]["keyword"], len(page["keywords"]), page["total"]) == (
        "term100",
        20,
        120,
    )


def test_an_expression_is_a_term_too(desk: Desk) -> None:
    made = add(desk, keyword="(a+)+b", match="regex")
    assert made["match"] == "regex"
    assert Lexicons(desk.house).match(desk.alice.org_id, "an aaab") is not None
    assert "missing )" in desk.refused("post", "/keywords", {"keyword": "(a", "match": "regex"}, status=400)
    other = add(desk, keyword="tea)")
    assert "unexpected )" in desk.refused("put", f"/keywords/{other['id']}", {"match": "regex"}, status=400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "keyword is required"),
        ({"keyword": 7}, "keyword must be a string"),
        ({"keyword": ""}, "at least one character"),
        ({"keyword": "\u200b"}, "at least one character"),
        ({"keyword": "x" * 201}, "at most 200 characters"),
        ({"keyword": "x", "match": "prefix"}, "it must be word, substring or regex"),
        ({"keyword": "x", "category": "Not One"}, "is not usable"),
    ],
)
def test_a_term_that_cannot_be_looked_for_is_refused(desk: Desk, body: dict[str, Any], message: str) -> None:
    assert message in desk.refused("post", "/keywords", body, status=400)
    assert desk.done("get", "/keywords")["total"] == 0


def test_a_term_stands_on_a_list_once(desk: Desk) -> None:
    add(desk)
    other = add(desk, match="substring")
    assert "already" in desk.refused("post", "/keywords", {"keyword": " teapot "}, status=409)
    assert "already" in desk.refused("put", f"/keywords/{other['id']}", {"match": "word"}, status=409)
    assert [one["match"] for one in desk.done("get", "/keywords")["keywords"]] == ["substring", "word"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"enabled": "no"}, "enabled must be true or false"),
        ({"enabled": None}, "enabled must be true or false"),
        ({"match": None}, "match is required"),
        ({"match": 7}, "match must be a string"),
        ({"category": 1}, "category must be a string"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(desk: Desk, body: dict[str, Any], message: str) -> None:
    made = add(desk)
    assert message in desk.refused("put", f"/keywords/{made['id']}", body, status=400)
    assert desk.done("get", "/keywords")["keywords"] == [made]


def test_a_category_goes_with_null(desk: Desk) -> None:
    made = add(desk, category="underage")
    assert desk.done("put", f"/keywords/{made['id']}", {"category": None})["category"] is None
