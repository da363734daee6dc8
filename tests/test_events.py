"""Moderation events: kept, listed, read back as they were answered; and nobody else's."""

import itertools
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance import clock
from appliance.errors import InvalidRequest, NotFound
from appliance.house import House
from appliance.moderations import events
from appliance.moderations.events import Filter
from appliance.moderations.verdict import Ask
from appliance.text.analysis import Result
from tests import decided
from tests.cast import Person, enrol
from tests.reader import Reader

Client = TestClient[Any]


@pytest.fixture
def alice(house: House) -> Person:
    return enrol(house, "A", "alice", granted=("account:config", "moderations:create"), surface="omnimod")


@pytest.fixture
def charlie(house: House) -> Person:
    return enrol(house, "C", "charlie", granted=("account:config",), surface="omnimod")


@pytest.fixture
def reader(house: House) -> Iterator[Reader]:
    reader = Reader(house.settings.inference_socket)
    yield reader
    reader.close()


def listed(client: Client, who: Person, **query: Any) -> list[str]:
    """The ids of the first page."""
    answer = client.get("/v1/events", params=query, headers=who.headers)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["events"]]


# --- as it was answered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Buy cheap followers now, free money!!!", "The weather is lovely today, my friends"])
def test_an_event_is_the_answer_and_the_key_that_asked(
    client: Client, alice: Person, reader: Reader, text: str
) -> None:
    given = {"modality": "text", "input": text, "metadata": {"external_id": "comment-4711", "room": "lobby"}}
    for status in ("miss", "hit"):
        answered = client.post("/v1/moderations", json=given, headers=alice.headers).json()
        assert answered["cache"]["status"] == status
        found = client.get(f"/v1/events/{answered['id']}", headers=alice.headers).json()
        assert found == {
            **answered,
            "api_key_id": alice.key_id,
            "origin": "omnimod",
            "metadata": given["metadata"],
            "job_id": None,
        }
        assert list(found)[: len(answered)] == list(answered)


def test_an_event_reads_back_whole(house: House, alice: Person) -> None:
    version = decided.begun(house, alice)
    results = {"spam": Result(0.91, ("cheap followers",), "high"), "semantic": Result(1 / 3), "hate": Result(0.0)}
    ask = Ask("a lighthouse", "dify", metadata={"external_id": "x", "a": "ü"})
    asked = decided.asked(
        results,
        "flag",
        ask=ask,
        version=version,
        language="mixed",
        flagged=("spam",),
        severity="high",
        mode="rules_plus_llm",
        reason="mixed_language",
        text_llm_credits=1,
        provider_status="degraded",
        degraded_reason="text_heads_unavailable",
        processing_ms=12.25,
        explanation="spam",
    )
    (event_id,) = decided.record(house, alice, asked)
    found = events.get(house.db.reader(), alice.org_id, event_id)
    made = asked[1]
    assert found.verdict.analysis.results == {**results, "semantic": Result(0.333333)}
    expected = {name: getattr(made, name) for name in made.__struct_fields__ if name != "analysis"}
    assert {name: getattr(found.verdict, name) for name in expected} == expected
    assert (found.event.origin, found.event.external_id, found.metadata) == ("dify", "x", ask.metadata)


def test_the_text_is_nowhere(house: House, client: Client, alice: Person, reader: Reader) -> None:
    given = {"modality": "text", "input": "the harbour master drinks rum at midnight, they say"}
    answered = client.post("/v1/moderations", json=given, headers=alice.headers).json()
    said = client.get(f"/v1/events/{answered['id']}", headers=alice.headers).text
    assert "harbour" not in said
    house.db.reader().execute("PRAGMA wal_checkpoint").fetchone()
    assert b"harbour" not in b"".join(path.read_bytes() for path in house.settings.home.glob("*.db*"))


def test_an_event_that_is_not_there_or_anothers_is_not_found(
    house: House, client: Client, alice: Person, charlie: Person
) -> None:
    (event_id,) = decided.record(house, alice, decided.asked())
    answers = [client.get(f"/v1/events/{one}", headers=charlie.headers) for one in (event_id, "mev_nothing", "x")]
    expected = {"detail": {"code": "not_found", "message": "There is no such event; see GET /v1/events"}}
    assert [(one.status_code, one.json()) for one in answers] == [(404, expected)] * 3
    with pytest.raises(NotFound):
        events.get(house.db.reader(), charlie.org_id, event_id)


# --- the list --------------------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_by_each_filter_and_by_all_together(
    house: House, client: Client, alice: Person, charlie: Person
) -> None:
    rng = random.Random(4)
    version = decided.begun(house, alice)
    policies = {version.policy_id: "community-default", decided.NOWHERE.policy_id: None}
    made = []
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    for number in range(120):
        decision, language = rng.choice(["allow", "flag", "block"]), rng.choice(["en", "de", "unknown"])
        origin, of = rng.choice(["omnimod", "openai"]), rng.choice([version, decided.NOWHERE])
        ask = Ask("x", origin, metadata={"external_id": f"c{number % 7}"} if number % 2 else {})
        one = decided.asked(decision=decision, ask=ask, version=of, language=language)
        made.append((start + timedelta(seconds=number), ask, one[1]))
    for at, ask, one in made:
        (event_id,) = decided.record(house, alice, (ask, one))
        house.db.write(
            lambda conn, at=at, event_id=event_id: conn.execute(
                "UPDATE moderation_event SET created_at = ? WHERE id = ?", (int(at.timestamp() * 1000), event_id)
            )
        )
    decided.record(house, charlie, decided.asked(decision="block"))
    filters: dict[str, list[Any]] = {
        "decision": [None, "allow", "block"],
        "policy": [None, "community-default"],
        "language": [None, "de"],
        "origin": [None, "openai"],
        "external_id": [None, "c3"],
        "from": [None, start + timedelta(seconds=20)],
        "to": [None, start + timedelta(seconds=100)],
    }
    for values in itertools.product(*filters.values()):
        wanted = {name: value for name, value in zip(filters, values, strict=True) if value is not None}
        expected = [
            one.event_id
            for at, ask, one in reversed(made)
            if wanted.get("decision") in (None, one.decision)
            and wanted.get("policy") in (None, policies[one.version.policy_id])
            and wanted.get("language") in (None, one.analysis.language.code)
            and wanted.get("origin") in (None, ask.origin)
            and wanted.get("external_id") in (None, ask.metadata.get("external_id"))
            and wanted.get("from", at) <= at
            and at < wanted.get("to", at + timedelta(seconds=1))
        ]
        query = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in wanted.items()}
        assert listed(client, alice, limit=100, **query) == expected[:100], wanted


def test_the_cursor_walks_all_of_it_once_while_events_come_and_go(
    house: House, client: Client, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)  # all in one millisecond
    ids = decided.record(house, alice, *(decided.asked() for _ in range(25)))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 10} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/events", params=query, headers=alice.headers).json()
        seen += [one["id"] for one in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        decided.record(house, alice, decided.asked())
    assert seen == ids[::-1]


def test_a_cursor_whose_event_has_gone_leads_on_from_its_time(
    house: House, client: Client, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for second in range(5):
        now = datetime(2026, 11, 21, 12, 0, second, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda now=now: now)
        ids += decided.record(house, alice, decided.asked())
    house.db.write(lambda conn: conn.execute("DELETE FROM moderation_event WHERE id = ?", (ids[2],)))
    assert listed(client, alice, cursor=ids[2]) == [ids[1], ids[0]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": 0}, "limit must be a whole number from 1 to 100"),
        ({"limit": 101}, "limit must be a whole number from 1 to 100"),
        ({"cursor": "x"}, "cursor is not one that was answered here"),
        ({"cursor": "mev_" + "U" * 26}, "cursor is not one that was answered here"),
        ({"decision": "review"}, "decision must be one of allow, flag, block"),
        ({"from": "yesterday"}, "from must be a date or a time"),
        ({"language": ["en", "de"]}, "language is given twice"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_in_omnimods_words(
    client: Client, alice: Person, query: dict[str, Any], message: str
) -> None:
    answer = client.get("/v1/events", params=query, headers=alice.headers)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (400, "invalid_request")
    assert message in detail["message"]
    assert detail["errors"][0]["field"] in message


def test_a_list_of_an_unknown_policys_events_is_not_found(client: Client, alice: Person) -> None:
    answer = client.get("/v1/events", params={"policy": "nothing"}, headers=alice.headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (404, "policy_not_found")


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(), "moderation_event_created"),
        (Filter(since=1, until=2), "moderation_event_created"),
        (Filter(decision="allow"), "moderation_event_created"),
        (Filter(decision="block"), "moderation_event_decision"),
        (Filter(decision="flag", since=1), "moderation_event_decision"),
        (Filter(policy_id="p"), "moderation_event_policy"),
        (Filter(language="de"), "moderation_event_language"),
        (Filter(origin="dify"), "moderation_event_origin"),
        (Filter(external_id="x"), "moderation_event_external"),
    ],
)
@pytest.mark.parametrize("place", [None, (1, 1)])
def test_every_filter_has_an_index_in_the_lists_order(
    house: House, wanted: Filter, index: str, place: tuple[int, int] | None
) -> None:
    sql, named = events.query("an-org", wanted, place, 50)
    plan = [row["detail"] for row in house.db.reader().execute(f"EXPLAIN QUERY PLAN {sql}", named)]
    assert f"SEARCH event USING INDEX {index}" in plan[0]
    assert not any("SCAN" in line or "TEMP B-TREE" in line for line in plan), plan


def test_filters_together_are_found_by_one_of_their_indexes(house: House) -> None:
    everything = Filter("block", "p", "x", "de", "dify", 1, 2)
    sql, named = events.query("an-org", everything, (1, 1), 50)
    plan = [row["detail"] for row in house.db.reader().execute(f"EXPLAIN QUERY PLAN {sql}", named)]
    assert plan[0].startswith("SEARCH event USING INDEX moderation_event_")
    assert not any("SCAN" in line or "TEMP B-TREE" in line for line in plan), plan


def test_the_cursor_is_refused_before_anything_is_read(house: House, alice: Person) -> None:
    with pytest.raises(InvalidRequest):
        events.page(house.db.reader(), alice.org_id, Filter(), cursor="mev_")


def test_a_ulid_gives_back_its_moment() -> None:
    before = clock.now_ms()
    assert before <= clock.of_ulid(clock.new_ulid()) <= clock.now_ms()
    for wrong in ("", "U" * 26, "0" * 25, json.dumps("0" * 24)):
        with pytest.raises(ValueError, match="ULID"):
            clock.of_ulid(wrong)
