"""Who may ask what: keys, scopes, accounts, and a walk over every documented route for what tenants see."""

import re
import time
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance import clock
from appliance.accounts import keys, organisations, scopes
from appliance.accounts.organisations import Standing
from appliance.house import House
from tests.cast import Person, enrol

Client = TestClient[Any]

PROMPT = "/api/v1/moderate/prompt"
METHODS = ("get", "post", "put", "delete")

KEYED = [
    ("post", "/api/v1/moderate/prompt", "moderate:prompt"),
    ("post", "/api/v1/moderate/text", "moderate:prompt"),
    ("post", "/api/v1/moderate/image", "moderate:image"),
    ("post", "/api/v1/moderate/video", "moderate:video"),
    ("post", "/api/v1/moderate/text/batch", "moderate:prompt"),
    ("get", "/api/v1/moderate/text/batch/{batch_id}", "job:read"),
    ("get", "/api/v1/job/{job_id}", "job:read"),
    ("get", "/api/v1/job/{job_id}/progress", "job:read"),
    ("get", "/api/v1/jobs", "job:read"),
    ("get", "/api/v1/jobs/export", "job:read"),
    ("get", "/api/v1/usage", "usage:read"),
    ("get", "/api/v1/usage/volume", "usage:read"),
    ("get", "/api/v1/usage/cost", "usage:read"),
    ("get", "/api/v1/usage/rejections", "usage:read"),
    ("get", "/api/v1/me/moderation-config", None),
    ("put", "/api/v1/me/moderation-config", None),
    ("get", "/api/v1/me/default-categories", None),
    ("get", "/api/v1/me/custom-categories", "account:config"),
    ("post", "/api/v1/me/custom-categories", "account:config"),
    ("put", "/api/v1/me/custom-categories/{category_id}", "account:config"),
    ("delete", "/api/v1/me/custom-categories/{category_id}", "account:config"),
    ("get", "/api/v1/me/custom-categories/{category_id}/versions", "account:config"),
    ("post", "/api/v1/me/custom-categories/try", "account:config"),
    ("post", "/api/v1/me/custom-categories/{category_id}/try", "account:config"),
    ("get", "/api/v1/me/prompt-steps", "account:config"),
    ("put", "/api/v1/me/prompt-steps", "account:config"),
    ("post", "/api/v1/webhook/register", None),
    ("delete", "/api/v1/webhook/register", None),
    ("get", "/api/v1/me/webhook-secrets", "webhook:manage"),
    ("post", "/api/v1/me/webhook-secrets/reveal", "webhook:manage"),
    ("post", "/api/v1/me/webhook-secrets/rotate", "webhook:manage"),
    ("get", "/api/v1/billing/balance", None),
    ("get", "/api/v1/billing/records", None),
    ("get", "/api/v1/billing/payment-methods", "billing:write"),
    ("delete", "/api/v1/billing/payment-methods/{payment_method_id}", "billing:write"),
    ("get", "/api/v1/billing/auto-topup", "billing:write"),
    ("put", "/api/v1/billing/auto-topup", "billing:write"),
    ("post", "/api/v1/billing/checkout-session", "billing:write"),
    ("post", "/api/v1/billing/portal-session", "billing:write"),
]
"""Every route of the Stars API that a tenant's key opens, with its scope: the contract's table. The walk below holds it
complete; the administrator's routes have their own tests, the surfaces of other services theirs (test_orgs.py,
test_surfaces_refuse.py), and what another tenant sees is in test_isolation.py."""

OPEN = [("get", "/health"), ("get", "/health/live"), ("get", "/metrics")]

NOBODYS = "00000000-0000-4000-8000-000000000000"


def call(client: Client, method: str, path: str, headers: dict[str, str]) -> Any:
    return client.request(method, re.sub("{[a-z_]+}", NOBODYS, path), headers=headers)


def _is_stars(path: str) -> bool:
    return path.startswith("/api/v1/") and not path.startswith("/api/v1/admin")


def test_the_tables_above_are_the_documented_routes(client: Client) -> None:
    paths = client.get("/schema/openapi.json").json()["paths"]
    documented = {
        (method, path)
        for path, item in paths.items()
        for method in METHODS
        if method in item and ((method, path) in OPEN or _is_stars(path))
    }
    assert documented == {(method, path) for method, path, _ in KEYED} | set(OPEN)
    for method, path, scope in KEYED:
        operation = paths[path][method]
        assert operation["security"] == [{"bearer": []}]
        assert scope is None or f"Scope: `{scope}`" in operation["description"]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "^API key missing"),
        ({"Authorization": ""}, "^The Authorization header must be"),
        ({"Authorization": "Bearer"}, "^The Authorization header must be"),
        ({"Authorization": "Bearer "}, "^(The Authorization header must be|Invalid)"),
        ({"Authorization": "Basic YTpi"}, "^The Authorization header must be"),
        ({"Authorization": "stars_" + "a" * 40}, "^The Authorization header must be"),
        ({"Authorization": "Bearer nonsense"}, "^Invalid API key$"),
        ({"Authorization": "Bearer stars_" + "a" * 40}, "^Invalid API key$"),
        ({"x-api-key": "{key}"}, "^API key missing"),
        ({"api-key": "{key}"}, "^API key missing"),
    ],
)
def test_without_a_good_key_in_the_header_there_is_no_entry(
    client: Client, alice: Person, headers: dict[str, str], message: str
) -> None:
    given = {name: value.replace("{key}", alice.key) for name, value in headers.items()}
    response = client.post(PROMPT, headers=given, data={"prompt": "hi"})
    assert (response.status_code, response.json()["error"]) == (401, "UNAUTHORIZED")
    assert re.search(message, response.json()["message"])
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"] == response.json()["request_id"]


def test_a_key_in_the_query_or_the_body_is_not_read(client: Client, alice: Person) -> None:
    for response in (
        client.post(f"{PROMPT}?key={alice.key}&api_key={alice.key}", data={"prompt": "hi"}),
        client.post(PROMPT, data={"prompt": "hi", "key": alice.key, "api_key": alice.key}),
        client.post(PROMPT, json={"prompt": "hi", "Authorization": f"Bearer {alice.key}"}),
    ):
        assert response.status_code == 401


def test_the_schemes_name_may_be_written_in_any_case(client: Client, alice: Person) -> None:
    response = client.post(PROMPT, headers={"authorization": f"bearer  {alice.key} "}, data={"prompt": "hi"})
    assert response.status_code == 202


def test_a_revoked_and_an_expired_key_are_told_so(client: Client, house: House, alice: Person) -> None:
    house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test"))
    expired = enrol(house, "A", "old", expires_at=clock.now_ms() - 1)
    for person, message in ((alice, "API key has been revoked"), (expired, "API key has expired")):
        response = client.get("/api/v1/me/moderation-config", headers=person.headers)
        assert (response.status_code, response.json()["error"]) == (401, "UNAUTHORIZED")
        assert response.json()["message"] == message


@pytest.mark.parametrize(("method", "path", "scope"), [row for row in KEYED if row[2]])
def test_each_route_needs_its_scope(client: Client, house: House, method: str, path: str, scope: str) -> None:
    others = tuple(one for one in scopes.ALL if one not in (scope, "admin:config"))
    response = call(client, method, path, enrol(house, "A", "k", granted=others).headers)
    assert (response.status_code, response.json()["error"]) == (403, "FORBIDDEN")
    assert response.json()["message"] == f"Missing required scope: {scope}"


@pytest.mark.parametrize(("method", "path", "scope"), KEYED)
def test_every_other_route_takes_any_valid_key_and_none_goes_without(
    client: Client, house: House, method: str, path: str, scope: str | None
) -> None:
    assert call(client, method, path, {}).status_code == 401
    if scope is None:
        least = enrol(house, "A", "least", granted=("usage:read",))
        assert call(client, method, path, least.headers).status_code not in (401, 403)


@pytest.mark.parametrize(("method", "path", "scope"), KEYED)
@pytest.mark.parametrize(
    ("standing", "code"), [(Standing.TERMINATED, "ACCOUNT_TERMINATED"), (Standing.DISABLED, "FORBIDDEN")]
)
def test_a_closed_account_is_refused_on_every_route(
    client: Client, house: House, alice: Person, method: str, path: str, scope: str, standing: Standing, code: str
) -> None:
    house.db.write(
        lambda conn: organisations.set_status(conn, alice.org_id, standing, actor="operator:test", reason="why")
    )
    response = call(client, method, path, alice.headers)
    assert (response.status_code, response.json()["error"]) == (403, code)


def test_the_key_is_checked_before_the_body_is_read(client: Client) -> None:
    response = client.post("/api/v1/moderate/video", content=b"x" * 5_000_000)
    assert response.status_code == 401


def test_use_of_a_key_is_noted_once_a_minute(client: Client, house: House, alice: Person) -> None:
    def noted() -> int | None:
        return keys.find(house.db.reader(), alice.key_id).last_used_at

    assert noted() is None
    client.get("/api/v1/me/moderation-config", headers=alice.headers)
    until = time.monotonic() + 10
    while (first := noted()) is None and time.monotonic() < until:
        time.sleep(0.01)  # it is written beside the answer, not before it
    assert first is not None
    for _ in range(3):
        client.get("/api/v1/me/moderation-config", headers=alice.headers)
        client.put("/api/v1/me/moderation-config", headers=alice.headers, json={})  # a write behind any other
    assert noted() == first


# --- request ids, unknown paths, other methods -----------------------------------------------------------------------


@pytest.mark.parametrize("given", ["mine", "a.b_c-D9", "x" * 128])
def test_a_valid_request_id_comes_back(client: Client, given: str) -> None:
    assert client.get("/health/live", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "new\\nline", "<b>", "naïve"])
def test_another_is_replaced_by_one_of_ours(client: Client, given: str) -> None:
    answered = client.get("/health/live", headers={"x-request-id": given.encode()}).headers  # type: ignore[dict-item]
    assert re.fullmatch(r"req_[0-9a-f-]{36}", answered["x-request-id"])


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/nothing", "/api/v1/moderate/audio", "/api/v1/moderate/chat", "/schema/x"]
)
def test_an_unknown_path_is_not_found_in_the_envelope(client: Client, alice: Person, path: str) -> None:
    response = client.get(path, headers=alice.headers)
    body = response.json()
    assert (response.status_code, body["error"], body["statusCode"]) == (404, "NOT_FOUND", 404)
    assert response.headers["x-request-id"] == body["request_id"]


def test_another_method_is_told_which_are_allowed(client: Client) -> None:
    response = client.get(PROMPT)
    assert (response.status_code, response.json()["error"]) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in response.headers["allow"]
    assert response.headers["x-request-id"] == response.json()["request_id"]
