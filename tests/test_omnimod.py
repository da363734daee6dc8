"""POST /v1/moderations as seed 004 shows it: bodies member by member, errors, whose request it is, and bad input."""

import contextlib
import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from appliance.accounts import organisations
from appliance.accounts.organisations import Changes
from appliance.house import House
from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.reader import Reader
from tests.test_api_server import Served

Client = TestClient[Any]

GOLDEN = Path(__file__).parent / "golden"
FAIR = "The weather is lovely today and everybody had a wonderful time"
PATHS = ("/v1/moderations", "/omnimod/v1/moderations")


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"omnimod_{name}.json").read_text())


@pytest.fixture(autouse=True)
def reader(house: House) -> Iterator[Reader]:
    reader = Reader(house.settings.inference_socket)
    yield reader
    reader.close()


@pytest.fixture
def alice(house: House) -> Person:
    who = enrol(house, "A", "alice", surface="omnimod")
    assert who.key.startswith("omad_live_")
    on_plan(house, who, "flex", None)
    return who


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


def text(**members: Any) -> dict[str, Any]:
    return {"modality": "text", "input": FAIR, **members}


def same_shape(shown: Any, given: Any, path: str = "") -> None:
    """Member by member, in the seed's order; where the seed lists words, one of those."""
    if isinstance(shown, dict):
        assert isinstance(given, dict), path
        names = list(given)
        if path == ".scores":  # analyzers beyond the seed's add keys
            names = names[: len(shown)]
        assert names == list(shown), path
        for name in shown:
            same_shape(shown[name], given[name], f"{path}.{name}")
    elif isinstance(shown, list):
        for one in given:
            same_shape(shown[0], one, f"{path}[]")
    elif isinstance(shown, str) and " | " in shown:
        assert given in shown.split(" | "), path
    elif isinstance(shown, bool) or shown is None:
        assert given is None or isinstance(given, bool | str), path
    elif isinstance(shown, int | float):
        assert isinstance(given, int | float), path
    else:
        assert isinstance(given, str), path


# --- to the letter --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_the_answer_is_the_seeds_member_by_member_and_in_order(
    client: Client, alice: Person, reader: Reader, path: str
) -> None:
    reader.heads["weather"] = {"harassment": 0.6}
    asked = {**golden("request"), "input": FAIR, "policy": "community-default"}
    answer = client.post(path, json=asked, headers={**alice.headers, "x-request-id": "mine-1"})
    assert answer.status_code == 200
    body = answer.json()
    same_shape(golden("response"), body)
    assert (body["request_id"], answer.headers["x-request-id"]) == ("mine-1", "mine-1")
    assert body["id"].startswith("mev_")
    assert body["cache"]["content_hash"].startswith("sha256:")
    assert body["scores"]["harassment"] == 0.6
    shown = {one["analyzer"]: one for one in body["analyzer_results"]}
    assert shown["harassment"] == {
        "analyzer": "harassment", "score": 0.6, "severity": "medium", "flagged": True, "matched_tokens": [],
    }  # fmt: skip
    assert set(shown) == {"harassment"}  # the others scored 0.01, and have nothing to say
    assert body["scores"]["hate"] == 0.01
    assert (body["decision"], body["engine_action"], body["routing"]) == (
        "flag", "warn", {"mode": "rules_only", "reason": "llm_disabled"},
    )  # fmt: skip


def test_the_language_is_one_of_the_seeds_six_words_and_the_list_of_events_names_any(
    client: Client, house: House, alice: Person
) -> None:
    def detected(said: str) -> tuple[str, str]:
        body = client.post("/v1/moderations", json=text(input=said), headers=alice.headers).json()
        return body["language"]["detected"], body["routing"]["reason"]

    assert detected(FAIR) == ("en", "rules_clear")
    assert detected("Wstał dzisiaj rano i poszedł do sklepu po chleb oraz mleko") == ("unknown", "llm_disabled")
    assert detected("12345")[0] == "unknown"
    [newest, polish, _] = (
        house.db.reader().execute("SELECT language FROM moderation_event ORDER BY seq DESC").fetchall()
    )
    assert (newest[0], polish[0]) == ("unknown", "pl")


def test_the_seeds_own_request_is_allowed(client: Client, alice: Person) -> None:
    answer = client.post(
        "/v1/moderations", json={"modality": "text", "input": "hello community"}, headers=alice.headers
    )
    body = answer.json()
    assert (body["decision"], body["engine_action"], body["severity"]) == ("allow", "allow", "none")
    assert body["routing"] == {"mode": "rules_only", "reason": "rules_clear"}
    assert (body["provider"], body["provider_version"]) == ("omnimod-engine", "omnimod-engine-v1")
    assert (body["provider_status"], body["degraded_reason"]) == ("complete", None)
    assert body["cache"]["status"] == "miss"
    again = client.post("/v1/moderations", json={"modality": "text", "input": "hello community"}, headers=alice.headers)
    assert again.json()["cache"] == {"status": "hit", "content_hash": body["cache"]["content_hash"]}
    assert again.json()["routing"] == {"mode": "cache_hit", "reason": "cache_hit"}
    assert again.json()["id"] != body["id"]


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_key_hears_the_seeds_401(client: Client, path: str) -> None:
    wrong = {"Authorization": "Bearer omad_live_" + "a" * 40}
    answer = client.post(path, json=text(), headers=wrong)
    assert (answer.status_code, answer.json()) == (401, golden("error_401"))
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_exhausted_quota_hears_the_seeds_429_and_nothing_is_kept(
    client: Client, house: House, alice: Person
) -> None:
    on_plan(house, alice, "free", 100)
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO moderation_use (org_id, day, requests) VALUES (?, strftime('%Y-%m-%d', 'now'), 100)",
            (alice.org_id,),
        )
    )
    answer = client.post("/v1/moderations", json=text(), headers=alice.headers)
    assert (answer.status_code, answer.json()) == (429, golden("error_quota"))
    assert int(answer.headers["retry-after"]) >= 1
    assert house.db.reader().execute("SELECT count(*) FROM moderation_event").fetchone()[0] == 0


def test_what_the_quota_refuses_uses_up_nothing_of_the_rate(client: Client, house: House, alice: Person) -> None:
    on_plan(house, alice, "free", 1)
    limit = Changes(requests_per_minute=3)
    house.db.write(lambda conn: organisations.change(conn, alice.org_id, limit, actor="operator:test", reason="a test"))
    assert client.post("/v1/moderations", json=text(), headers=alice.headers).headers["x-ratelimit-remaining"] == "2"
    for path in (*PATHS, "/openai/v1/moderations", *PATHS):
        answer = client.post(path, json=text(), headers=alice.headers)
        assert answer.status_code == 429
        assert "uota" in answer.text
        assert answer.headers["x-ratelimit-remaining"] == "2"


def test_over_the_rate_one_hears_the_seeds_429(client: Client, house: House, alice: Person) -> None:
    house.db.write(
        lambda conn: organisations.change(
            conn, alice.org_id, Changes(requests_per_minute=1), actor="operator:test", reason="a test"
        )
    )
    client.post("/v1/moderations", json=text(), headers=alice.headers)
    answer = client.post("/v1/moderations", json=text(), headers=alice.headers)
    body = answer.json()
    assert answer.status_code == 429
    assert 1 <= body["detail"].pop("reset_seconds") <= 60
    expected = golden("error_rate")
    del expected["detail"]["reset_seconds"]
    assert body == {"detail": {**expected["detail"], "limit": 1}}
    assert list(body["detail"]) == list(expected["detail"])
    assert int(answer.headers["retry-after"]) >= 1


def test_a_disabled_organisation_hears_403(client: Client, house: House, alice: Person) -> None:
    house.db.write(
        lambda conn: conn.execute("UPDATE organisation SET status = 'disabled' WHERE id = ?", (alice.org_id,))
    )
    answer = client.post("/v1/moderations", json=text(), headers=alice.headers)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Organization disabled"})


def test_a_key_without_the_scope_hears_which(client: Client, house: House, alice: Person) -> None:
    other = enrol(house, "A", "jobs", surface="omnimod", granted=("job:read",))
    answer = client.post("/v1/moderations", json=text(), headers=other.headers)
    said = {"detail": "Missing required scope: moderations:create or moderate:prompt"}
    assert (answer.status_code, answer.json()) == (403, said)


# --- whose request it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "whose"),
    [
        ({"modality": "text", "input": FAIR, "model": "omni-moderation-latest"}, "omnimod"),
        ({"input": FAIR, "model": "x", "policy": "community-default"}, "openai"),
        ({"input": [FAIR], "metadata": {}}, "openai"),
        ({"input": FAIR, "force_fresh": True}, "omnimod"),
        ({"input": FAIR, "language": "en"}, "omnimod"),
    ],
)
@pytest.mark.parametrize("surface", ["omnimod", "stars"])
def test_the_body_tells_whose_request_it_is(
    client: Client, house: House, alice: Person, given: dict[str, Any], whose: str, surface: str
) -> None:
    who = enrol(house, "A", surface, surface=surface)
    body = client.post("/v1/moderations", json=given, headers=who.headers).json()
    if whose == "openai":
        assert body["id"].startswith("modr-") or "error" in body
    else:
        assert body.get("id", "").startswith("mev_") or body["detail"]["errors"][0]["field"] == "modality"


@pytest.mark.parametrize(("surface", "member"), [("omnimod", "detail"), ("stars", "error")])
@pytest.mark.parametrize("content", [b"{", b"[1]", b'"text"', b'{"input": "\\ud800"}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_body_is_refused_in_the_words_of_whose_key_it_is(
    client: Client, house: House, alice: Person, surface: str, member: str, content: bytes
) -> None:
    who = enrol(house, "A", surface, surface=surface)
    headers = {**who.headers, "content-type": "application/json"}
    answer = client.post("/v1/moderations", content=content, headers=headers)
    assert answer.status_code == 400
    assert list(answer.json()) == [member]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, ["modality", "input"]),
        (text(modality="image"), ["modality"]),
        (text(input=""), ["input"]),
        (text(input="x" * 10_001), ["input"]),
        (text(input=7), ["input"]),
        (text(language="klingon!"), ["language"]),
        (text(policy=""), ["policy"]),
        (text(policy=["a"]), ["policy"]),
        (text(force_fresh="yes"), ["force_fresh"]),
        (text(metadata=[]), ["metadata"]),
        (text(metadata={"a": 1}), ["metadata"]),
        (text(metadata={"a": None}), ["metadata"]),
        (text(metadata={str(n): "" for n in range(17)}), ["metadata"]),
        (text(metadata={"a": "x" * 513}), ["metadata"]),
        (text(metadata={"x" * 129: ""}), ["metadata"]),
        (
            text(input="", language=1, policy=2, force_fresh=3, metadata=4),
            ["input", "language", "policy", "force_fresh", "metadata"],
        ),
    ],
)
def test_all_that_is_wrong_is_said_at_once(
    client: Client, alice: Person, given: dict[str, Any], fields: list[str]
) -> None:
    answer = client.post("/omnimod/v1/moderations", json=given, headers=alice.headers)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (400, "invalid_request")
    assert [one["field"] for one in detail["errors"]] == fields
    assert "x" * 20 not in answer.text


@pytest.mark.parametrize(
    "said",
    [
        "x" * 10_000,
        "\0",
        "a\0b",
        "e" + "\u0301" * 9_999,
        "\u202e" * 10_000,
        "\U0001f600" * 10_000,
        "(a+)+" * 2_000,
        " ",
        "\ufeff",
    ],
)
def test_what_is_odd_is_still_decided(client: Client, alice: Person, said: str) -> None:
    answer = client.post("/v1/moderations", json=text(input=said), headers=alice.headers)
    assert answer.status_code == 200, answer.text


def test_null_is_not_given_and_unknown_members_are_passed_over(client: Client, alice: Person) -> None:
    given = text(language=None, policy=None, force_fresh=None, metadata=None, colour="blue", a={"b": [1]})
    assert client.post("/v1/moderations", json=given, headers=alice.headers).status_code == 200


@pytest.mark.parametrize("policy", ["nope", "0" * 36])
def test_an_unknown_policy_is_not_found(client: Client, alice: Person, charlie: Person, policy: str) -> None:
    answer = client.post("/v1/moderations", json=text(policy=policy), headers=alice.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "policy_not_found")


def test_a_body_over_the_longest_is_too_large(client: Client, alice: Person) -> None:
    answer = client.post("/omnimod/v1/moderations", json=text(input="x" * 500_000), headers=alice.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (413, "payload_too_large")


def test_a_gigabyte_is_refused_as_it_arrives(served: Served) -> None:
    who = enrol(served.house, "A", "alice", surface="omnimod")
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(
            b"POST /omnimod/v1/moderations HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %s\r\nContent-Length: 1000000000\r\n\r\n" % who.key.encode()
        )
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 50_000_000 and not select.select([connection], [], [], 0)[0]:
                sent += connection.send(b"x" * 100_000)
        answer = connection.recv(65_536)
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b'"payload_too_large"' in answer
    assert sent < 50_000_000


def test_neither_the_answer_nor_the_log_nor_a_row_holds_the_text(
    client: Client, house: House, alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    mark = "quizzaciously"
    answer = client.post("/v1/moderations", json=text(input=f"{FAIR} {mark}"), headers=alice.headers)
    assert answer.status_code == 200
    assert mark not in answer.text
    assert mark not in caplog.text
    for suffix in ("", "-wal"):
        path = house.settings.database.with_name(house.settings.database.name + suffix)
        assert mark.encode() not in path.read_bytes()


# --- what clients rely on ---------------------------------------------------------------------------------------------


def test_the_same_idempotency_key_is_one_event_and_one_of_the_quota(
    client: Client, house: House, alice: Person
) -> None:
    headers = {**alice.headers, "Idempotency-Key": "once"}
    first = client.post("/omnimod/v1/moderations", json=text(), headers=headers)
    again = client.post("/omnimod/v1/moderations", json=text(), headers=headers)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert house.db.reader().execute("SELECT sum(requests) FROM moderation_use").fetchone()[0] == 1
    other = client.post("/omnimod/v1/moderations", json=text(input="else"), headers=headers)
    assert (other.status_code, other.json()["detail"]["code"]) == (422, "idempotency_key_reused")


def test_metadata_is_kept_with_the_event(client: Client, house: House, alice: Person) -> None:
    given = text(metadata={"external_id": "post-7", "room": "lobby"})
    made = client.post("/v1/moderations", json=given, headers=alice.headers).json()["id"]
    row = house.db.reader().execute("SELECT external_id, body FROM moderation_event WHERE id = ?", (made,)).fetchone()
    assert row["external_id"] == "post-7"
    assert json.loads(row["body"])["metadata"] == given["metadata"]


def test_what_a_policy_has_switched_off_is_not_shown(client: Client, house: House, alice: Person) -> None:
    client.post("/v1/moderations", json=text(), headers=alice.headers)
    body = json.loads(house.db.reader().execute("SELECT body FROM policy_version").fetchone()[0])
    del body["analyzers"]["spam"]
    body["analyzers"]["emoji"]["enabled"] = False
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO policy_version (id, policy_id, org_id, number, body, made_by, created_at) "
            "SELECT 'second', policy_id, org_id, 2, ?, 'test', 0 FROM policy_version",
            (msgspec.json.encode(body).decode(),),
        )
    )
    house.db.write(lambda conn: conn.execute("UPDATE policy SET active = 2"))
    scores = client.post("/v1/moderations", json=text(), headers=alice.headers).json()["scores"]
    assert scores["spam"] == 0.0  # the seed's five are always there
    assert "emoji" not in scores


def test_prometheus_is_told_how_it_was_decided(client: Client, alice: Person) -> None:
    client.post("/v1/moderations", json=text(), headers=alice.headers)
    told = client.get("/metrics").text
    assert 'customhouse_moderations_total{action="allow",surface="omnimod"}' in told
    assert 'customhouse_moderation_routes_total{mode="rules_only",reason="rules_clear"}' in told
