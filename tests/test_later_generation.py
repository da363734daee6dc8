"""What clients of the vendor's later generation meet: aliases, and routes that are not here; and each line of the
contract on moderation-config, by name."""

from typing import Any

import pytest
from litestar.testing import TestClient

from appliance.house import House
from appliance.jobs import rows
from appliance.webhooks import endpoints
from tests.cast import Person

Client = TestClient[Any]

CONFIG = "/api/v1/me/moderation-config"
PUBLIC = "http://93.184.216.34/photo.jpg"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")
FORM = {"multipart": "files", "urlencoded": "data", "json": "json"}


@pytest.mark.parametrize("path", ["audio", "chat"])
@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_audio_and_chat_are_not_found_rather_than_not_implemented(
    client: Client, alice: Person, path: str, method: str
) -> None:
    missing = getattr(client, method)(f"/api/v1/moderate/{path}", headers=alice.headers)
    assert (missing.status_code, missing.json()["error"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("form", FORM)
@pytest.mark.parametrize(
    ("path", "field", "value", "kind"),
    [
        ("text", "text", "hello", "prompt"),
        ("image", "image", PUBLIC, "image"),
        ("video", "video", PUBLIC, "video"),
    ],
)
def test_the_later_names_of_fields_are_read_in_every_form(
    client: Client, house: House, alice: Person, path: str, field: str, value: str, kind: str, form: str
) -> None:
    body: dict[str, Any] = {FORM[form]: {field: (None, value) if form == "multipart" else value}}
    accepted = client.post(f"/api/v1/moderate/{path}", headers=alice.headers, **body)
    assert accepted.status_code == 202, accepted.text
    job = rows.job(house.db.reader(), accepted.json()["job_id"])
    assert job is not None
    assert job.kind.wire == kind


@pytest.mark.parametrize("field", ["image_file", "file", "image"])
def test_a_file_is_read_under_each_of_its_names(client: Client, alice: Person, field: str) -> None:
    accepted = client.post("/api/v1/moderate/image", headers=alice.headers, files={field: ("a.png", PNG, "image/png")})
    assert accepted.status_code == 202, accepted.text


# --- B.1 21 and 22 ---------------------------------------------------------------------------------------------------


def test_the_catalogue_always_has_the_four_checks_with_their_labels_and_icons(client: Client, alice: Person) -> None:
    client.put(CONFIG, headers=alice.headers, json={"nsfw": False, "text": False})
    catalogue = client.get(CONFIG, headers=alice.headers).json()["catalogue"]
    assert {slug: entry["label"] for slug, entry in catalogue.items()} == {
        "nsfw": "NSFW",
        "ai_adult_general": "AI Adult General",
        "underage": "Underage",
        "text": "Text",
    }
    for entry in catalogue.values():
        assert list(entry) == ["label", "description", "icon"]
        assert all(isinstance(value, str) and value for value in entry.values())


def test_true_is_accepted_and_not_kept(client: Client, alice: Person) -> None:
    put = client.put(CONFIG, headers=alice.headers, json={"nsfw": True, "underage": True, "text": False})
    assert put.json()["enabled_categories"] == {"text": False}


def test_an_empty_object_turns_every_check_on(client: Client, alice: Person) -> None:
    client.put(CONFIG, headers=alice.headers, json={"nsfw": False, "ai_adult_general": False, "underage": False})
    assert client.put(CONFIG, headers=alice.headers, json={}).json()["enabled_categories"] == {}


def test_a_change_counts_for_jobs_submitted_later_and_for_none_before(
    client: Client, house: House, alice: Person
) -> None:
    def submitted() -> list[str]:
        made = client.post("/api/v1/moderate/image", headers=alice.headers, json={"image_url": PUBLIC})
        job = rows.job(house.db.reader(), made.json()["job_id"])
        assert job is not None
        return job.plan.checks

    assert "nsfw" in submitted()
    client.put(CONFIG, headers=alice.headers, json={"nsfw": False})
    assert "nsfw" not in submitted()
    (first, _) = house.db.reader().execute("SELECT plan FROM job ORDER BY seq").fetchall()
    assert '"nsfw"' in first["plan"]


def test_turning_underage_off_is_audited_each_time_it_is_turned_off(
    client: Client, house: House, alice: Person
) -> None:
    for body in ({"underage": False}, {"underage": False}, {}, {"underage": False}):
        client.put(CONFIG, headers=alice.headers, json=body)
    lines = house.db.reader().execute("SELECT actor, org_id FROM audit WHERE action = 'checks.underage_off'").fetchall()
    assert [tuple(line) for line in lines] == [(f"key:{alice.key[:12]}", alice.org_id)] * 2


def test_with_every_check_off_a_job_completes_at_once_and_its_webhook_is_sent(
    client: Client, house: House, alice: Person
) -> None:
    client.put(
        CONFIG, headers=alice.headers, json=dict.fromkeys(("nsfw", "ai_adult_general", "underage", "text"), False)
    )
    client.post("/api/v1/webhook/register", headers=alice.headers, json={"url": PUBLIC})
    for path, body in (
        ("prompt", {"prompt": "hello"}),
        ("image", {"image_url": PUBLIC}),
        ("video", {"video_url": PUBLIC}),
    ):
        made = client.post(f"/api/v1/moderate/{path}", headers=alice.headers, json=body).json()["job_id"]
        job = client.get(f"/api/v1/job/{made}", headers=alice.headers).json()
        assert (job["status"], job["is_prohibited"], job["categories"]) == ("completed", False, {"custom": {}})
    assert house.db.reader().execute("SELECT count(*) FROM delivery").fetchone()[0] == 3


# --- B.1 23 ----------------------------------------------------------------------------------------------------------


def test_a_webhook_may_be_plain_http(client: Client, house: House, alice: Person) -> None:
    registered = client.post("/api/v1/webhook/register", headers=alice.headers, json={"url": PUBLIC})
    assert (registered.status_code, registered.json()["url"]) == (200, PUBLIC)
    assert endpoints.get(house.db.reader(), alice.org_id) is not None


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://169.254.169.254/x", "http://[::1]/x"])
@pytest.mark.parametrize(("path", "field"), [("prompt", "prompt"), ("image", "image_url"), ("video", "video_url")])
def test_a_jobs_own_webhook_to_a_private_address_is_refused(
    client: Client, house: House, alice: Person, path: str, field: str, url: str
) -> None:
    body = {field: PUBLIC, "webhook_url": url}
    refused = client.post(f"/api/v1/moderate/{path}", headers=alice.headers, json=body)
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_REQUEST")
    assert "webhook_url leads to a private or internal network" in refused.json()["message"]
    assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 0
