"""GET /api/v1/jobs over HTTP: its shape, its parameters, and what they refuse."""

from typing import Any

import pytest
from litestar.testing import TestClient

from appliance.house import House
from tests import made
from tests.cast import Person
from tests.made import DAY

Client = TestClient[Any]

T0 = 1_779_192_000_000  # 2026-05-19T12:00Z


def listed(client: Client, person: Person, **query: Any) -> dict[str, Any]:
    response = client.get("/api/v1/jobs", params=query, headers=person.headers)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_page_has_the_contracts_members_in_its_order(client: Client, house: House, alice: Person) -> None:
    made.insert(
        house,
        [
            made.job(alice.org_id, T0, id="a1b2c3d4-e5f6-4890-abcd-ef1234567890", key_id=alice.key_id),
            made.job(alice.org_id, T0 - 1, status="failed", is_prohibited=0, batch_id="b", batch_key="k"),
            made.job(alice.org_id, T0 - 2, kind="VIDEO_MODERATION", status="queued", completed_at=None),
        ],
    )
    body = listed(client, alice)
    assert list(body) == ["jobs", "total", "limit", "offset"]
    assert (body["total"], body["limit"], body["offset"]) == (3, 50, 0)
    first, failed, queued = body["jobs"]
    assert list(first.items()) == [
        ("job_id", "a1b2c3d4-e5f6-4890-abcd-ef1234567890"),
        ("type", "prompt"),
        ("status", "completed"),
        ("is_prohibited", False),
        ("created_at", "2026-05-19T12:00:00.000Z"),
        ("completed_at", "2026-05-19T12:00:01.500Z"),
        ("api_key_id", alice.key_id),
        ("api_key_name", "alice"),
    ]
    assert failed["is_prohibited"] is None, "a failed job never reads as allowed"
    assert (failed["batch_id"], failed["batch_key"]) == ("b", "k")
    assert "api_key_id" not in failed
    assert (queued["type"], queued["completed_at"]) == ("video", None)


def test_an_account_without_jobs_has_an_empty_list(client: Client, alice: Person) -> None:
    assert listed(client, alice) == {"jobs": [], "total": 0, "limit": 50, "offset": 0}


def test_bob_sees_what_alice_submitted_and_charlie_only_his_own(
    client: Client, house: House, alice: Person, bob: Person, charlie: Person
) -> None:
    made.insert(house, [made.job(alice.org_id, T0), made.job(charlie.org_id, T0)])
    assert listed(client, bob)["jobs"] == listed(client, alice)["jobs"]
    theirs = listed(client, charlie)
    assert theirs["total"] == 1
    assert theirs["jobs"] != listed(client, alice)["jobs"]
    mine = listed(client, alice)["jobs"][0]["job_id"]
    for length in (1, 2, 3, 8, 36):
        assert mine not in str(listed(client, charlie, search=mine[:length]))


def test_every_parameter_narrows_the_list(client: Client, house: House, alice: Person) -> None:
    jobs = made.random_jobs(alice.org_id, 120, T0 - 2 * DAY, T0, seed=5)
    made.insert(house, jobs)

    def count(**want: Any) -> int:
        return sum(all(job[name] in values for name, values in want.items()) for job in jobs)

    assert listed(client, alice, limit=100)["total"] == 120
    assert listed(client, alice, type="video")["total"] == count(kind=["VIDEO_MODERATION"])
    assert listed(client, alice, status="queued,failed")["total"] == count(status=["queued", "failed"])
    assert listed(client, alice, decision="reject")["total"] == count(status=["completed"], is_prohibited=[1])
    assert listed(client, alice, decision="pass")["total"] == count(status=["completed"], is_prohibited=[0])
    assert listed(client, alice, decision="pass", status="failed")["total"] == 0
    since = sum(job["created_at"] >= T0 - DAY for job in jobs)
    assert listed(client, alice, **{"from": "2026-05-18T12:00:00Z"})["total"] == since
    assert listed(client, alice, to="2026-05-18T12:00:00.000Z")["total"] == 120 - since
    assert listed(client, alice, **{"from": "2026-05-19", "to": "2026-05-18"})["total"] == 0
    assert listed(client, alice, limit=7, offset=118)["jobs"] == listed(client, alice, limit=100, offset=118)["jobs"]
    assert len(listed(client, alice, limit=7, offset=118)["jobs"]) == 2
    assert listed(client, alice, offset=120)["jobs"] == []
    assert listed(client, alice, offset=10**12)["total"] == 120


@pytest.mark.parametrize("legacy", ["pre", "post"])
def test_the_legacy_types_are_known_and_match_nothing(client: Client, house: House, alice: Person, legacy: str) -> None:
    made.insert(house, [made.job(alice.org_id, T0)])
    assert listed(client, alice, type=legacy)["total"] == 0


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("2026-05-19T12:00:00Z", 1),
        ("2026-05-19T12:00:00.000Z", 1),
        ("2026-05-19t12:00:00z", 1),
        ("2026-05-19T12:00:00.0001Z", 0),
        ("2026-05-19T12:00:00.001Z", 0),
        ("2026-05-19T14:00:00+02:00", 1),
        ("2026-05-19T12:00:00", 1),
        ("2026-05-19", 1),
        ("2026-05-20", 0),
        ("0001-01-01", 1),
        ("9999-12-31T23:59:59.999999Z", 0),
    ],
)
def test_from_is_inclusive_and_to_exclusive_in_any_zone(
    client: Client, house: House, alice: Person, written: str, count: int
) -> None:
    made.insert(house, [made.job(alice.org_id, T0)])
    assert listed(client, alice, **{"from": written})["total"] == count
    assert listed(client, alice, to=written)["total"] == 1 - count


def test_a_plus_that_was_not_escaped_is_still_a_zone(client: Client, house: House, alice: Person) -> None:
    made.insert(house, [made.job(alice.org_id, T0)])
    path = "/api/v1/jobs?from=2026-05-19T14:00:00+02:00"
    assert client.get(path, headers=alice.headers).json()["total"] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "-1"),
        ("limit", "1.5"),
        ("limit", "ten"),
        ("limit", "٣"),
        ("limit", "9" * 5000),
        ("limit", ""),
        ("offset", "-1"),
        ("offset", "1e3"),
        ("offset", "9" * 30),
        ("type", "audio"),
        ("type", "PROMPT"),
        ("type", "prompt,image"),
        ("decision", "maybe"),
        ("status", "done"),
        ("status", "queued,done"),
        ("status", "queued,"),
        ("from", "yesterday"),
        ("from", "2026-13-01"),
        ("from", "0001-01-01T00:00:00+14:00"),
        ("to", "2026-05-19T25:00:00Z"),
        ("to", "1779192000000"),
    ],
)
def test_an_unknown_value_is_an_invalid_request_that_names_its_parameter(
    client: Client, alice: Person, name: str, value: str
) -> None:
    response = client.get("/api/v1/jobs", params={name: value}, headers=alice.headers)
    assert response.status_code == 400
    body = response.json()
    assert (body["error"], body["statusCode"]) == ("INVALID_REQUEST", 400)
    assert body["details"][0]["field"] == name
    assert body["message"].startswith(f"{name} ")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/jobs?status=completed&status=done",
        "/api/v1/jobs?limit=5&limit=ten",
        "/api/v1/jobs?from=2026-05-19&from=yesterday",
        "/api/v1/jobs?search=a&search=b",
        "/api/v1/usage?billing_period=2026-05-19&billing_period=x",
        "/api/v1/usage/volume?period=week&period=year",
        "/api/v1/billing/records?type=charge&type=tip",
    ],
)
def test_a_parameter_that_is_given_twice_is_refused_as_one_of_the_two_would_be_passed_over(
    client: Client, alice: Person, path: str
) -> None:
    response = client.get(path, headers=alice.headers)
    assert response.status_code == 400
    body = response.json()
    assert body["details"] == [{"field": path.partition("?")[2].partition("=")[0], "issue": "is given twice"}]


def test_an_unknown_parameter_is_passed_over(client: Client, house: House, alice: Person) -> None:
    made.insert(house, [made.job(alice.org_id, T0)])
    assert listed(client, alice, colour="blue", page="7")["total"] == 1


@pytest.mark.parametrize("search", ["%", "_", "*", "a%", "zz", "' OR 1=1 --", "é", "\x00", "-", "a" * 4000])
def test_what_cannot_begin_an_id_finds_nothing(client: Client, house: House, alice: Person, search: str) -> None:
    made.insert(house, [made.job(alice.org_id, T0 + number) for number in range(40)])
    assert listed(client, alice, search=search)["total"] == 0


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/jobs/export?from=2026-05-01&to=2026-05-02"])
def test_a_key_without_job_read_is_forbidden(client: Client, house: House, path: str) -> None:
    from tests.cast import enrol

    narrow = enrol(house, "A", "narrow", granted=("moderate:prompt",))
    response = client.get(path, headers=narrow.headers)
    assert response.status_code == 403
    assert response.json()["message"] == "Missing required scope: job:read"
