"""Who may administer: nobody on the network unless the settings say so, then keys with the scope; and every route's
ways to say no."""

import re
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance.accounts import organisations
from appliance.house import House
from appliance.settings import Settings
from tests.cast import enrol
from tests.desk import ADMIN, NOBODYS, ClientWith, Desk

Client = TestClient[Any]

ROUTES = [
    ("get", "/audit", None),
    ("get", "/clients", None),
    ("post", "/clients", None),
    ("get", "/clients/{client_id}", None),
    ("put", "/clients/{client_id}", {"name": "B"}),
    ("post", "/clients/{client_id}/ban", {}),
    ("post", "/clients/{client_id}/unban", {}),
    ("post", "/clients/{client_id}/credit", {"amount_usd": 5}),
    ("get", "/clients/{client_id}/keys", None),
    ("post", "/clients/{client_id}/keys", None),
    ("post", "/keys/{key_id}/rotate", {}),
    ("post", "/keys/{key_id}/revoke", {}),
    ("get", "/keywords", None),
    ("post", "/keywords", None),
    ("put", "/keywords/{keyword_id}", None),
    ("delete", "/keywords/{keyword_id}", {}),
    ("get", "/models/{provider}", None),
    ("delete", "/models/{provider}/cache", None),
    ("get", "/plans", None),
    ("post", "/plans", None),
    ("get", "/plans/{slug}", None),
    ("put", "/plans/{slug}", {"name": "B"}),
    ("delete", "/plans/{slug}", {}),
    ("get", "/prompts", None),
    ("post", "/prompts/test", None),
    ("get", "/prompts/{slug}", None),
    ("put", "/prompts/{slug}", None),
    ("get", "/prompts/{slug}/versions", None),
    ("post", "/prompts/{slug}/rollback", None),
]
"""Every administrator's route; and where a reason is required, a body that lacks only that."""


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> Desk:
    return Desk(client_with, settings, _migrated)


def with_ids(path: str, known: dict[str, str] | None = None) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: (known or {}).get(found[1], NOBODYS), path)


def test_the_table_above_is_every_documented_route_of_the_administrator(client: Client) -> None:
    paths = client.get("/schema/openapi.json").json()["paths"]
    documented = {
        (method, path.removeprefix(ADMIN))
        for path, item in paths.items()
        for method in item
        if path.startswith(ADMIN) and method != "parameters"
    }
    assert documented == {(method, path) for method, path, _ in ROUTES}
    for method, path, _ in ROUTES:
        operation = paths[f"{ADMIN}{path}"][method]
        assert operation["tags"] == ["Admin"]
        assert "Scope: `admin:config`" in operation["description"]
        assert {"401", "403", "404"} <= set(operation["responses"])


def test_on_the_network_nothing_is_found_by_default(client: Client, house: House) -> None:
    staff = enrol(house, "Staff", "sam", granted=("admin:config",))
    nothing = client.get(f"{ADMIN}/nothing").json()["message"]
    for method, path, _ in ROUTES:
        for headers in ({}, staff.headers):
            answer = client.request(method, f"{ADMIN}{with_ids(path)}", headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND"), path
            assert answer.json()["message"] == nothing


def test_nor_does_another_method_or_a_doubled_slash_tell_that_a_path_is_there(client: Client) -> None:
    nothing = client.get(f"{ADMIN}/nothing").json()["message"]
    for path in {with_ids(path) for _, path, _ in ROUTES}:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
            for shape in (f"{ADMIN}{path}", f"{ADMIN}{path}/", f"/{ADMIN}{path}", f"{ADMIN}/{path}"):
                answer = client.request(method, f"http://testserver{shape}")
                assert answer.status_code == 404, (method, shape)
                assert "allow" not in answer.headers
                assert method == "HEAD" or answer.json()["message"] == nothing


def test_a_key_without_the_scope_is_refused(desk: Desk) -> None:
    for method, path, _ in ROUTES:
        assert desk.refused(method, with_ids(path), by=desk.alice, status=403) == "Missing required scope: admin:config"
        answer = desk.client.request(method, f"{ADMIN}{with_ids(path)}")
        assert (answer.status_code, answer.json()["error"]) == (401, "UNAUTHORIZED")


def test_an_id_that_nobody_has_is_not_found(desk: Desk) -> None:
    body = {"reason": "because", "amount_usd": 5, "name": "x", "content": "Is it?", "version": 0}
    for method, path, _ in ROUTES:
        if "{" in path:
            answer = desk.ask(method, with_ids(path), None if method == "get" else body)
            assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND"), path


@pytest.mark.parametrize("reason", [None, "", "  ", 7, "x" * 1001])
def test_without_a_reason_nothing_is_changed(desk: Desk, reason: object) -> None:
    known = {"client_id": desk.alice.org_id, "key_id": desk.alice.key_id, "slug": "standard"}
    known["keyword_id"] = desk.done("post", "/keywords", {"keyword": "teapot"}, status=201)["id"]
    before = len(desk.lines())
    for method, path, body in ROUTES:
        if body is not None:
            given = body if reason is None else {**body, "reason": reason}
            assert "reason" in desk.refused(method, with_ids(path, known), given, status=400), path
    assert len(desk.lines()) == before
    assert organisations.get(desk.house.db.reader(), desk.alice.org_id).name == "A"


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'"x"'])
def test_a_body_that_is_no_object_is_refused(desk: Desk, body: bytes) -> None:
    for path in ("/clients", "/keywords", "/plans", f"/clients/{desk.alice.org_id}/ban"):
        headers = {**desk.staff.headers, "content-type": "application/json"}
        answer = desk.client.post(f"{ADMIN}{path}", headers=headers, content=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")


def test_a_body_that_is_too_large_or_no_json_is_refused(desk: Desk) -> None:
    assert desk.refused("post", "/clients", {"name": "x" * 200_000}, status=413)
    answer = desk.client.post(f"{ADMIN}/clients", headers=desk.staff.headers, data={"name": "x"})
    assert (answer.status_code, answer.json()["error"]) == (415, "UNSUPPORTED_MEDIA")


@pytest.mark.parametrize("path", ["/clients", "/keywords"])
@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=", "offset=-1", "offset=1e3"])
def test_a_page_that_is_none_is_refused(desk: Desk, path: str, query: str) -> None:
    name = query.partition("=")[0]
    assert f"{name} must be a whole number" in desk.refused("get", f"{path}?{query}", status=400)


def test_a_member_of_staff_who_is_banned_administers_nothing(desk: Desk) -> None:
    desk.done("post", f"/clients/{desk.staff.org_id}/ban", {"reason": "left"})
    answer = desk.ask("get", "/clients")
    assert (answer.status_code, answer.json()["error"]) == (403, "ACCOUNT_TERMINATED")


def test_members_that_are_not_known_are_passed_over(desk: Desk) -> None:
    assert desk.done("post", "/clients", {"name": "new", "colour": "blue"}, status=201)["name"] == "new"
