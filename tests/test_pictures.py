"""Pictures on OmniMod's surface, end to end: `customhouse serve`, its worker and the starter models, over loopback."""

import json
import time
from typing import Any

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from appliance.api import pictures
from appliance.demo import MEDIA
from appliance.house import House
from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.surfaces import WithModels
from tests.test_omnimod import golden, same_shape

PHOTOGRAPHS = sorted(MEDIA.glob("*.jpg"))
PATHS = ("/v1/moderations/image", "/omnimod/v1/moderations/image")


@pytest.fixture(scope="module")
def alice(models_served: WithModels) -> Person:
    who = enrol(models_served.house, "pictures", "alice", surface="omnimod")
    on_plan(models_served.house, who, "flex", None)
    return who


def post(served: WithModels, who: Person, content: bytes, path: str = PATHS[0], **headers: str) -> httpx.Response:
    return httpx.post(served.url + path, content=content, headers={**who.headers, **headers}, timeout=60)


@pytest.mark.weights
@pytest.mark.parametrize("path", PATHS)
def test_a_photograph_is_decided_at_once_in_the_seeds_shape(
    models_served: WithModels, alice: Person, path: str
) -> None:
    answer = post(models_served, alice, PHOTOGRAPHS[0].read_bytes(), path, **{"content-type": "image/jpeg"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    same_shape({**golden("response"), "modality": "image", "scores": {}}, body)
    assert (body["modality"], body["decision"], body["engine_action"]) == ("image", "allow", "allow")
    assert set(body["scores"]) == {"nsfw", "ai_adult_general", "underage"}
    assert all(0 <= score <= 1 for score in body["scores"].values())
    assert (body["cache"]["status"], body["provider_usage"]) == ("miss", {"text_llm_credits": 0})
    house = models_served.house
    row = house.db.reader().execute("SELECT * FROM moderation_event WHERE id = ?", (body["id"],)).fetchone()
    assert (row["org_id"], row["modality"], row["origin"]) == (alice.org_id, "image", "omnimod")
    job = house.db.reader().execute("SELECT status, origin FROM job WHERE id = ?", (row["job_id"],)).fetchone()
    assert tuple(job) == ("completed", "omnimod")
    used = house.db.reader().execute("SELECT sum(requests) FROM moderation_use WHERE org_id = ?", (alice.org_id,))
    assert used.fetchone()[0] >= 1


@pytest.mark.weights
def test_the_policy_of_the_header_decides_by_its_own_thresholds(models_served: WithModels, alice: Person) -> None:
    content = PHOTOGRAPHS[1].read_bytes()
    assert post(models_served, alice, content).json()["policy"]["version"] == 1
    house = models_served.house
    body = json.loads(
        house.db.reader().execute("SELECT body FROM policy_version WHERE org_id = ?", (alice.org_id,)).fetchone()[0]
    )
    body["analyzers"] = {"nsfw": {"enabled": True, "thresholds": {"block": 0.0}}}
    row = {"org": alice.org_id, "body": msgspec.json.encode(body).decode()}

    def change(conn: Any) -> None:
        conn.execute(
            "INSERT INTO policy (id, org_id, slug, name, is_default, active, created_at, updated_at) "
            "VALUES ('strict-id', :org, 'strict', 'Strict', 0, 1, 0, 0)",
            row,
        )
        conn.execute(
            "INSERT INTO policy_version (id, policy_id, org_id, number, body, made_by, created_at) "
            "VALUES ('strict-1', 'strict-id', :org, 1, :body, 'test', 0)",
            row,
        )

    house.db.write(change)
    made = post(models_served, alice, content, **{"x-omnimod-policy": "strict"}).json()
    assert (made["decision"], made["policy"]["id"], made["routing"]["reason"]) == ("block", "strict-id", "rules_block")
    assert next(one for one in made["analyzer_results"] if one["analyzer"] == "nsfw")["flagged"]
    unknown = post(models_served, alice, content, **{"x-omnimod-policy": "nope"})
    assert (unknown.status_code, unknown.json()["detail"]["code"]) == (404, "policy_not_found")


@pytest.mark.weights
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_request"),
        (b"no picture at all", 400, "invalid_request"),
        (PHOTOGRAPHS[0].read_bytes()[:300], 400, "invalid_request"),
        (b"\xff\xd8" + bytes(4_000_000), 413, "payload_too_large"),
    ],
)
def test_what_is_no_picture_is_refused_and_leaves_nothing(
    models_served: WithModels, alice: Person, content: bytes, status: int, code: str
) -> None:
    def count() -> int:
        return int(models_served.house.db.reader().execute("SELECT count(*) FROM moderation_event").fetchone()[0])

    before = count()
    answer = post(models_served, alice, content)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (status, code), answer.text
    assert count() == before
    until = time.monotonic() + 10
    while any(models_served.house.settings.media_dir.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(models_served.house.settings.media_dir.iterdir()) == []


def test_a_form_is_told_that_the_picture_itself_is_the_body(client: TestClient[Any], house: House) -> None:
    who = enrol(house, "A", "alice", surface="omnimod")
    form = {"image_file": ("a.jpg", PHOTOGRAPHS[0].read_bytes(), "image/jpeg")}
    answer = client.post("/v1/moderations/image", files=form, headers=who.headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"]["message"] == "The body must be the picture itself, not a form"


def test_what_is_not_decided_in_time_is_unavailable_and_never_allowed(
    client: TestClient[Any], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = enrol(house, "A", "alice", surface="omnimod")
    monkeypatch.setattr(pictures, "DEADLINE_S", 0.2)  # no worker runs beside this application
    answer = client.post("/v1/moderations/image", content=PHOTOGRAPHS[0].read_bytes(), headers=who.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "service_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert house.db.reader().execute("SELECT count(*) FROM moderation_event").fetchone()[0] == 0


def test_an_exhausted_quota_is_told_before_the_picture_is_read(client: TestClient[Any], house: House) -> None:
    who = enrol(house, "A", "alice", surface="omnimod")
    on_plan(house, who, "free", 0)
    answer = client.post("/v1/moderations/image", content=b"x" * 100, headers=who.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (429, "quota_exceeded")
    assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 0


_DATA = "data:image/png;base64,iVBORw0KGgo="
_WITH_PICTURE: dict[str, tuple[str, str, Any, int]] = {
    "openai": ("post", "/openai/v1/moderations", {"input": [{"type": "image_url", "image_url": {"url": _DATA}}]}, 429),
    "azure": ("post", "/contentsafety/image:analyze?api-version=2024-09-01", {"image": {"content": "aGVsbG8="}}, 403),
    "litellm": ("post", "/beta/litellm_basic_guardrail_api", {"input_type": "request", "images": [_DATA]}, 429),
    "pictrs": ("post", "/compat/pictrs/{key}", b"a picture", 429),
    "pleroma": ("get", "/compat/pleroma/{key}?url=http://93.184.216.34/a.png", None, 429),
}
"""How a picture is put to each surface, and what it answers when the month is used up."""


@pytest.mark.parametrize("surface", _WITH_PICTURE)
def test_a_picture_counts_against_the_month_on_every_surface(
    client: TestClient[Any], house: House, surface: str
) -> None:
    # 2026-11-21: only OmniMod's own did, so an exhausted quota let all others through
    who = enrol(house, "used-up", "alice", granted=("moderate:prompt", "moderate:image"))
    on_plan(house, who, "free", 0)
    method, path, body, status = _WITH_PICTURE[surface]
    what: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body} if body else {}
    kind = {"content-type": "image/png"} if isinstance(body, bytes) else {}
    answer = client.request(method, path.format(key=who.key), headers={**who.headers, **kind}, **what)
    assert answer.status_code == status, answer.text
    assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 0


@pytest.mark.weights
def test_the_heads_of_callers_that_ask_at_once_are_read_in_batches(models_served: WithModels, alice: Person) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from appliance.inference.client import Models

    models = Models(models_served.house.settings.inference_socket, 10)

    def batches() -> dict[str, int]:
        return next(one.batches for one in models.status().models if one.name == "text-heads")

    def ask(number: int) -> str:
        said = f"The weather is lovely today and the soup was wonderful, number {number}"
        answer = httpx.post(
            f"{models_served.url}/omnimod/v1/moderations",
            json={"modality": "text", "input": said},
            headers=alice.headers,
            timeout=30,
        )
        return str(answer.json()["provider_status"])

    ask(-1)
    before = batches()
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(ask, range(96)))
    after = batches()
    models.close()
    assert set(told) == {"complete"}
    larger = sum(count - before.get(size, 0) for size, count in after.items() if int(size) > 1)
    assert larger > 0
