"""GET job: the contract's body at every stage of a job, and that nobody sees another's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import clock
from appliance.house import House
from appliance.jobs import rows
from appliance.settings import Jobs, Settings
from tests import recorded
from tests.cast import Person, enrol
from tests.recorded import pretty

Client = TestClient[Any]

REASON = "The prompt requests sexual content involving a minor."


def submit(client: Client, person: Person, kind: str = "prompt") -> str:
    field = {"prompt": "prompt", "image": "image_url", "video": "video_url"}[kind]
    value = "hi" if kind == "prompt" else "http://93.184.216.34/x"
    answer = client.post(f"/api/v1/moderate/{kind}", headers=person.headers, data={field: value})
    return str(answer.json()["job_id"])


def close(house: House, job_id: str, **end: Any) -> None:
    """Give the job an end, as the worker would."""
    given = {"is_prohibited": None, "categories": {"custom": {}}, "reason": None, "error_code": None, "error": None}
    given |= {"gpu_ms": 0, "tokens": 0}
    house.db.write(lambda conn: rows.close(conn, job_id, **{**given, **end}, now=clock.now_ms()))


def fixed(body: dict[str, Any]) -> dict[str, Any]:
    """The body with what varies replaced, its order kept."""
    same = {
        "job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "created_at": "2026-05-19T12:00:00.000Z",
        "completed_at": "2026-05-19T12:00:01.500Z",
        "api_key_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    }
    return {name: same[name] if name in same and value is not None else value for name, value in body.items()}


def read(client: Client, person: Person, job_id: str) -> dict[str, Any]:
    response = client.get(f"/api/v1/job/{job_id}", headers=person.headers)
    assert response.status_code == 200
    assert response.json()["job_id"] == job_id
    return fixed(json.loads(response.content))


CLEAR = {"ai_adult_general": False, "underage": False, "nsfw": False, "custom": {}}


@pytest.mark.parametrize(
    ("name", "kind", "end"),
    [
        ("job_queued", "prompt", None),
        ("job_prompt_passed", "prompt", {"is_prohibited": False}),
        ("job_prompt_rejected", "prompt", {"is_prohibited": True, "reason": REASON}),
        ("job_image_passed", "image", {"is_prohibited": False, "categories": CLEAR}),
        ("job_video_rejected", "video", {"is_prohibited": True, "categories": {**CLEAR, "nsfw": True}, "reason": "x"}),
        ("job_failed", "video", {"error_code": "MEDIA_UNREACHABLE", "error": "the host answered 404"}),
    ],
)
def test_a_job_is_answered_as_the_contract_shows_it(
    client: Client, house: House, alice: Person, name: str, kind: str, end: dict[str, Any] | None
) -> None:
    job_id = submit(client, alice, kind)
    if end is not None:
        close(house, job_id, **end)
    recorded.check(f"{name}.json", pretty(read(client, alice, job_id)))


def test_categories_come_in_the_seeds_order_whatever_order_they_are_kept_in(
    client: Client, house: House, alice: Person
) -> None:
    job_id = submit(client, alice, "image")
    close(house, job_id, is_prohibited=True, categories={"custom": {"dogs": True}, "nsfw": False, "underage": False})
    body = read(client, alice, job_id)
    assert list(body["categories"]) == ["underage", "nsfw", "custom"]
    assert body["categories"]["custom"] == {"dogs": True}


def test_a_pictures_reason_is_told_only_when_the_operator_says_so(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, jobs=Jobs(expose_reasons=True)))
    alice = enrol(house, "A", "alice")
    job_id = submit(client, alice, "image")
    close(
        house, job_id, is_prohibited=True, categories={**CLEAR, "nsfw": True}, reason="The image was flagged as NSFW."
    )
    assert read(client, alice, job_id)["reason"] == "The image was flagged as NSFW."


def test_a_failed_job_never_reads_as_allowed(client: Client, house: House, alice: Person) -> None:
    job_id = submit(client, alice, "image")
    close(house, job_id, is_prohibited=False, categories=CLEAR, error_code="CHILD_FAILED")
    body = read(client, alice, job_id)
    assert body["is_prohibited"] is None
    assert body["categories"] == {"custom": {}}


def test_an_id_is_found_however_it_is_written(client: Client, alice: Person) -> None:
    job_id = submit(client, alice)
    assert client.get(f"/api/v1/job/{job_id.upper()}", headers=alice.headers).json()["job_id"] == job_id


@pytest.mark.parametrize(
    "job_id", ["00000000-0000-4000-8000-000000000000", "nonsense", "1", "%00", "' OR 1=1 --", "a" * 500, "🙈"]
)
@pytest.mark.parametrize("rest", ["", "/progress"])
def test_an_unknown_or_malformed_id_is_not_found_in_the_same_words(
    client: Client, alice: Person, job_id: str, rest: str
) -> None:
    response = client.get(f"/api/v1/job/{job_id}{rest}", headers={**alice.headers, "x-request-id": "req_1"})
    assert response.status_code == 404
    recorded.check("error_job_not_found.json", pretty(json.loads(response.content)))


def test_bob_shares_what_alice_submitted_and_charlie_cannot_tell_that_it_exists(
    client: Client, alice: Person, bob: Person, charlie: Person
) -> None:
    job_id = submit(client, alice)
    assert read(client, bob, job_id)["status"] == "queued"
    for rest in ("", "/progress"):
        theirs = client.get(f"/api/v1/job/{job_id}{rest}", headers={**charlie.headers, "x-request-id": "same"})
        nobodys = client.get(
            f"/api/v1/job/00000000-0000-4000-8000-000000000000{rest}",
            headers={**charlie.headers, "x-request-id": "same"},
        )
        assert theirs.status_code == 404
        assert theirs.content == nobodys.content
