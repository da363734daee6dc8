"""The signing secret over HTTP: listed without being shown, revealed on the record, rotated with a day of grace."""

from typing import Any

from litestar.testing import TestClient

from appliance import clock
from appliance.house import House
from appliance.webhooks import secret
from tests.cast import enrol

Client = TestClient[Any]

SECRETS = "/api/v1/me/webhook-secrets"


def test_a_list_shows_no_secret_and_makes_none(client: Client, house: House) -> None:
    alice = enrol(house, "A", "alice", granted=("webhook:manage",))
    empty = client.get(SECRETS, headers=alice.headers)
    assert empty.json() == {"secrets": [], "tolerance_seconds": 300, "grace_hours": 24}
    shown = client.post(f"{SECRETS}/reveal", headers=alice.headers).json()["secret"]
    assert shown.startswith("whsec_")
    listed = client.get(SECRETS, headers=alice.headers)
    (one,) = listed.json()["secrets"]
    assert (one["status"], one["prefix"], one["expires_at"]) == ("current", shown[:10], None)
    assert shown not in listed.text


def test_rotation_keeps_the_previous_one_for_a_day(client: Client, house: House) -> None:
    alice = enrol(house, "A", "alice", granted=("webhook:manage",))
    old = client.post(f"{SECRETS}/reveal", headers=alice.headers).json()["secret"]
    rotated = client.post(f"{SECRETS}/rotate", headers=alice.headers)
    assert rotated.status_code == 200
    assert list(rotated.json()) == ["secret"]
    new = rotated.json()["secret"]
    assert client.post(f"{SECRETS}/reveal", headers=alice.headers).json() == {"secret": new}
    listed = client.get(SECRETS, headers=alice.headers).json()["secrets"]
    assert [(one["status"], one["prefix"]) for one in listed] == [("current", new[:10]), ("previous", old[:10])]
    assert listed[1]["expires_at"] > clock.rfc3339(clock.now_ms())
    signing = house.db.write(lambda conn: secret.signing(conn, alice.org_id, clock.now_ms()))
    assert signing == [new, old]


def test_showing_and_rotating_stand_in_the_audit_log_with_the_key(client: Client, house: House) -> None:
    alice = enrol(house, "A", "alice", granted=("webhook:manage",))
    client.post(f"{SECRETS}/reveal", headers=alice.headers)
    client.post(f"{SECRETS}/rotate", headers=alice.headers)
    rows = house.db.reader().execute("SELECT actor, action FROM audit WHERE action LIKE 'webhook_secret%'").fetchall()
    assert [tuple(row) for row in rows] == [
        (f"key:{alice.key[:12]}", "webhook_secret.revealed"),
        (f"key:{alice.key[:12]}", "webhook_secret.rotated"),
    ]


def test_each_needs_the_scope_and_shows_ones_own(client: Client, house: House) -> None:
    plain, charlie = enrol(house, "A", "plain"), enrol(house, "C", "charlie", granted=("webhook:manage",))
    for method, path in (("get", ""), ("post", "/reveal"), ("post", "/rotate")):
        refused = getattr(client, method)(SECRETS + path, headers=plain.headers)
        assert (refused.status_code, refused.json()["message"]) == (403, "Missing required scope: webhook:manage")
    alice = enrol(house, "A", "alice", granted=("webhook:manage",))
    mine = client.post(f"{SECRETS}/reveal", headers=alice.headers).json()
    assert client.post(f"{SECRETS}/reveal", headers=charlie.headers).json() != mine
