"""Rules, heads, judge: who decides what, under which deadline, and what follows when one of them does not answer."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from appliance.accounts.keys import Caller
from appliance.database import Connection
from appliance.errors import QuotaExceeded, Unavailable
from appliance.house import House
from appliance.moderations import decision, events, meters, reuse, sampling
from appliance.moderations.decision import Decision
from appliance.moderations.moderator import Moderator
from appliance.moderations.routing import route
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies.version import Body, Rule, Semantic, Thresholds
from appliance.settings import Inference, Settings
from appliance.text import keywords
from appliance.text.analysis import Result
from appliance.text.language import Language
from appliance.text.lexicons import Lexicons
from tests.cast import Person, enrol
from tests.decided import begun, on_plan
from tests.reader import Hung, Reader

JUDGE = "a-judge"
FAIR = "The weather is lovely today and everybody had a wonderful time"
ODD = "The weather is odd today and everybody had a wonderful time"
ENGLISH = Language("en", 0.95)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, inference=Inference(text_judge=JUDGE))


@pytest.fixture
def reader(house: House) -> Iterator[Reader]:
    reader = Reader(house.settings.inference_socket)
    yield reader
    reader.close()


class Desk:
    """One caller's moderator, from a test without an event loop."""

    def __init__(self, house: House, who: Person) -> None:
        self.house = house
        self.who = who
        self.caller = Caller(who.org_id, who.key_id, "k", "stars_", frozenset())

    def ask(self, *texts: str, **how: Any) -> list[Verdict]:
        return self.run(lambda moderator: self.all(moderator, *texts, **how))

    def run(self, do: Callable[[Moderator], Any]) -> Any:
        async def through() -> Any:
            moderator = Moderator(self.house)
            try:
                return await do(moderator)
            finally:
                moderator.close()
                await asyncio.sleep(0)

        return asyncio.run(through())

    async def all(self, moderator: Moderator, *texts: str, **how: Any) -> list[Verdict]:
        asks = [Ask(text, "omnimod", **how) for text in texts]
        return await moderator.moderate_all(self.caller, asks, "req_1")

    def set(self, **changes: Any) -> None:
        """The policy in force from now on, beside what is shipped: `semantic`, `observe_only`, `hash_reuse` …"""
        version = begun(self.house, self.who)
        body = msgspec.structs.replace(version.body, **changes)

        def change(conn: Connection) -> None:
            conn.execute(
                "INSERT INTO policy_version (id, policy_id, org_id, number, body, made_by, created_at) "
                "VALUES (:id, :policy, :org, :number, :body, 'test', 0)",
                {
                    "id": f"version-{version.number + 1}",
                    "policy": version.policy_id,
                    "org": self.who.org_id,
                    "number": version.number + 1,
                    "body": msgspec.json.encode(body).decode(),
                },
            )
            conn.execute(
                "UPDATE policy SET active = :number WHERE id = :id",
                {"number": version.number + 1, "id": version.policy_id},
            )

        self.house.db.write(change)

    def count(self, table: str) -> int:
        return int(self.house.db.reader().execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.fixture
def desk(house: House) -> Desk:
    who = enrol(house, "A", "alice")
    on_plan(house, who, "flex", None)
    return Desk(house, who)


def said(made: Verdict) -> tuple[str, str, str, str | None, int]:
    return made.decision, made.mode, made.reason, made.degraded_reason, made.text_llm_credits


# --- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "text", "language", "spoken", "reason"),
    [
        ("allow", FAIR, ENGLISH, "auto", None),
        ("warn", FAIR, ENGLISH, "auto", "ambiguous_score"),
        ("review", FAIR, ENGLISH, "auto", "ambiguous_score"),
        ("allow", FAIR, Language("mixed", 0.5), "auto", "mixed_language"),
        ("allow", FAIR, Language("mixed", 0.5), "en", "mixed_language"),
        ("allow", FAIR, Language("unknown", 0.3), "auto", "low_language_confidence"),
        ("allow", FAIR, Language("unknown", 0.3), "en-GB", None),
        ("allow", FAIR, Language("pl", 0.99), "auto", "unsupported_language"),
        ("allow", FAIR, Language("en", 0.99), "pl", "unsupported_language"),
        ("allow", "hello community", Language("unknown", 0.17), "auto", None),
        ("allow", "12345 67890 12345 67890 12345", Language("unknown", 0.17), "auto", None),
    ],
)
def test_what_is_unclear_is_read_by_the_judge_or_said_to_be_unread(
    action: Any, text: str, language: Language, spoken: str, reason: str | None
) -> None:
    cheap = Decision(action, "none", ())

    def way(mode: Any = "ambiguous", *, has_judge: bool = True) -> tuple[bool, str]:
        found = route(
            Body(semantic=Semantic(mode=mode)), cheap, text, language, spoken, has_judge=has_judge, is_fresh=False
        )
        return found.asks_judge, found.reason

    assert way() == ((True, reason) if reason else (False, "rules_clear"))
    assert way(has_judge=False) == (False, "llm_disabled" if reason else "rules_clear")
    assert way("off") == (False, "llm_disabled" if reason else "rules_clear")
    assert way("always")[0]


def test_what_the_rules_block_ends_there_even_where_the_judge_is_always_asked() -> None:
    body = Body(semantic=Semantic(mode="always"))
    found = route(body, Decision("block", "high", ()), FAIR, ENGLISH, "auto", has_judge=True, is_fresh=True)
    assert (found.asks_judge, found.reason) == (False, "rules_block")


@pytest.mark.parametrize(
    ("spam", "semantic", "action"),
    [
        (0.7, 0.1, "allow"),
        (0.7, 0.5, "warn"),
        (0.7, 0.9, "block"),
        (0.1, 0.9, "block"),
        (0.1, 0.1, "allow"),
        (0.96, 0.01, "block"),
    ],
)
def test_the_judge_decides_what_is_open_and_never_lowers_a_block(spam: float, semantic: float, action: str) -> None:
    body = Body(
        analyzers={
            "spam": Rule(thresholds=Thresholds(warn=0.6, review=0.8, block=0.95)),
            "semantic": Rule(thresholds=Thresholds(warn=0.4, review=0.6, block=0.85)),
        }
    )
    results = {"spam": Result(spam), "semantic": Result(semantic)}
    assert decision.decide(body, results).action == action


def test_a_judge_that_the_policy_has_switched_off_does_not_count() -> None:
    rules = {"spam": Rule(thresholds=Thresholds(warn=0.6)), "semantic": Rule(enabled=False)}
    results = {"spam": Result(0.7), "semantic": Result(0.01)}
    assert decision.decide(Body(analyzers=rules), results).action == "warn"


# --- through the processes ------------------------------------------------------------------------------------------


def test_a_clear_text_costs_no_judge(desk: Desk, reader: Reader) -> None:
    [made] = desk.ask(FAIR)
    assert said(made) == ("allow", "rules_only", "rules_clear", None, 0)
    assert made.analysis.results["harassment"].score == 0.01
    assert (len(reader.read), len(reader.judged)) == (1, 0)


def test_what_the_heads_leave_open_is_decided_by_the_judge(desk: Desk, reader: Reader) -> None:
    reader.heads["odd"] = {"harassment": 0.7}
    [cleared] = desk.ask(ODD)
    assert said(cleared) == ("allow", "rules_plus_llm", "ambiguous_score", None, 1)
    assert cleared.severity == "none"
    reader.judge["odd"] = 0.97
    [blocked] = desk.ask(ODD + "!")
    assert said(blocked) == ("block", "rules_plus_llm", "ambiguous_score", None, 1)
    assert (blocked.flagged, blocked.severity) == (("harassment", "semantic"), "critical")
    [asked] = reader.judged[-1:]
    assert (asked.judge, asked.models) == (JUDGE, [])
    assert asked.prompt is not None
    assert "harassment" in asked.prompt
    kept = events.get(desk.house.db.reader(), desk.who.org_id, blocked.event_id).verdict
    assert (kept.mode, kept.analysis.results["semantic"].score) == ("rules_plus_llm", 0.97)


def test_a_policy_asks_its_own_question(desk: Desk, reader: Reader) -> None:
    desk.set(semantic=Semantic(mode="always", question="Prohibited: talk of the weather."))
    [made] = desk.ask(FAIR)
    assert said(made) == ("allow", "rules_plus_llm", "rules_clear", None, 1)
    assert reader.judged[0].prompt == "Prohibited: talk of the weather."


@pytest.mark.parametrize(
    ("fail_mode", "status", "told"), [("degrade", "degraded", "flag"), ("closed", "failed_closed", "block")]
)
def test_a_judge_that_is_down_degrades_or_closes_as_the_policy_says(
    desk: Desk, reader: Reader, fail_mode: Any, status: str, told: str
) -> None:
    desk.set(semantic=Semantic(fail_mode=fail_mode, deadline_ms=300))
    reader.heads["odd"] = {"harassment": 0.7}
    reader.wait_s = lambda request: 1.0 if request.judge else 0.0
    [made] = desk.ask(ODD)
    assert said(made) == (told, "rules_only", "ambiguous_score", "text_llm_unavailable", 0)
    assert (made.provider_status, made.action == "block") == (status, told == "block")
    assert made.analysis.results["harassment"].score == 0.7
    reader.wait_s = lambda _: 0.0
    [again] = desk.ask(ODD)
    assert (again.is_cached, again.provider_status) == (False, "complete")


@pytest.mark.parametrize("fail_mode", ["degrade", "closed"])
def test_heads_that_are_not_there_are_said_and_a_surface_that_needs_them_gets_no_answer(
    desk: Desk, fail_mode: Any
) -> None:
    desk.set(semantic=Semantic(fail_mode=fail_mode))
    [made] = desk.ask(FAIR)
    told = ("block", "failed_closed") if fail_mode == "closed" else ("allow", "degraded")
    assert (made.decision, made.provider_status) == told
    assert made.degraded_reason == "text_heads_unavailable"
    with pytest.raises(Unavailable):
        desk.ask(FAIR, needs_heads=True)
    assert desk.count("moderation_event") == 1


def test_a_process_that_hangs_holds_nobody_longer_than_the_deadline(desk: Desk, settings: Settings) -> None:
    desk.set(semantic=Semantic(deadline_ms=200))
    hung = Hung(settings.inference_socket)

    async def many(moderator: Moderator) -> tuple[list[Verdict], int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.005)

        beside = asyncio.create_task(turn())
        made = await asyncio.gather(*(desk.all(moderator, f"{FAIR} {n}") for n in range(80)))
        beside.cancel()
        return [one for [one] in made], turns

    begun_at = time.monotonic()
    made, turns = desk.run(many)
    hung.close()
    assert {one.degraded_reason for one in made} == {"text_heads_unavailable"}
    assert turns > 10  # the event loop went on meanwhile
    assert time.monotonic() - begun_at < 15  # and not 80 times one after the other, nor a model's minute
    assert desk.count("moderation_event") == 80


def test_a_process_that_is_killed_in_mid_call_degrades_what_waited_and_no_more(desk: Desk, settings: Settings) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            slow = Reader(settings.inference_socket)
            slow.wait_s = lambda _: 30.0
            time.sleep(60)
        finally:
            os._exit(0)
    while not settings.inference_socket.exists():
        time.sleep(0.01)

    async def kill(moderator: Moderator) -> Verdict:
        waiting = asyncio.create_task(desk.all(moderator, FAIR))
        await asyncio.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        return (await waiting)[0]

    made = desk.run(kill)
    os.waitpid(pid, 0)
    assert (made.decision, made.degraded_reason) == ("allow", "text_heads_unavailable")
    reader = Reader(settings.inference_socket)
    [after] = desk.ask(FAIR)
    reader.close()
    assert after.provider_status == "complete"


def test_observing_tells_allow_and_keeps_what_would_have_been(desk: Desk, reader: Reader) -> None:
    reader.heads["odd"] = {"hate": 0.99}
    desk.set(observe_only=True)
    [made] = desk.ask(ODD)
    assert (made.decision, made.action, made.reason) == ("allow", "block", "rules_block")


# --- several at once -------------------------------------------------------------------------------------------------


def test_a_batch_is_one_call_of_each_model_and_all_or_nothing(desk: Desk, reader: Reader) -> None:
    reader.heads["odd"] = {"harassment": 0.7}
    texts = [f"{ODD if n % 3 == 0 else FAIR} {n}" for n in range(12)]
    made = desk.ask(*texts)
    assert [len(one.texts) for one in reader.read] == [12]
    assert [len(one.texts) for one in reader.judged] == [4]
    assert [one.mode for one in made] == ["rules_plus_llm" if n % 3 == 0 else "rules_only" for n in range(12)]
    assert desk.count("moderation_event") == 12
    on_plan(desk.house, desk.who, "free", 20)
    with pytest.raises(QuotaExceeded):
        desk.ask(*(f"{FAIR} again {n}" for n in range(9)))
    assert desk.count("moderation_event") == 12
    assert len(desk.ask(*(f"{FAIR} again {n}" for n in range(8)))) == 8


# --- what was decided before -----------------------------------------------------------------------------------------


def test_the_same_text_is_answered_from_what_was_decided_and_is_an_event_again(desk: Desk, reader: Reader) -> None:
    reader.heads["odd"] = {"harassment": 0.7}
    reader.judge["odd"] = 0.7
    [first] = desk.ask(ODD)
    [again] = desk.ask(ODD)  # by another moderator: the database is what they share
    assert said(again) == ("flag", "cache_hit", "cache_hit", None, 0)
    assert again.is_cached
    assert again.event_id != first.event_id
    assert again.content_hash == first.content_hash
    assert again.analysis.results == first.analysis.results
    assert len(reader.asked) == 2
    [wide] = desk.ask(ODD.replace("weather", "\uff57\uff45\uff41ther"))  # NFKC makes them one
    assert wide.is_cached
    [fresh] = desk.ask(ODD, force_fresh=True)
    assert not fresh.is_cached
    used = desk.house.db.reader().execute("SELECT requests, cache_hits FROM moderation_use").fetchone()
    assert tuple(used) == (4, 2)


def test_force_fresh_is_the_reason_of_a_text_that_is_clear(desk: Desk, reader: Reader) -> None:
    assert said(desk.ask(FAIR, force_fresh=True)[0]) == ("allow", "rules_only", "force_fresh", None, 0)


def test_a_new_term_a_new_version_and_the_end_of_its_time_each_decide_anew(desk: Desk, reader: Reader) -> None:
    desk.ask(FAIR)
    assert desk.ask(FAIR)[0].is_cached
    about: Any = {"org_id": desk.who.org_id, "actor": "operator:test"}
    desk.house.db.write(lambda conn: keywords.add(conn, "wonderful", **about))
    [blocked] = desk.ask(FAIR)
    assert (blocked.is_cached, blocked.decision) == (False, "block")
    desk.house.db.write(lambda conn: keywords.remove(conn, "wonderful", **about))
    assert not desk.ask(FAIR)[0].is_cached
    desk.set(semantic=Semantic(deadline_ms=1_999))
    assert not desk.ask(FAIR)[0].is_cached
    assert desk.ask(FAIR)[0].is_cached
    desk.house.db.write(lambda conn: conn.execute("UPDATE moderation_event SET created_at = created_at - 86400001"))
    assert not desk.ask(FAIR)[0].is_cached


def test_what_the_former_list_decided_while_a_long_one_is_built_again_is_not_reused_under_the_new_one(
    desk: Desk, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"term{n}x" for n in range(600)]
    about: Any = {"org_id": desk.who.org_id, "actor": "operator:test"}
    desk.house.db.write(lambda conn: keywords.import_lines(conn, lines, **about))
    may_build = threading.Event()
    build = Lexicons._rebuild  # pyright: ignore[reportPrivateUsage]  # as if it took its second

    def slow(self: Lexicons, whose: str | None) -> None:
        may_build.wait(30)
        build(self, whose)

    monkeypatch.setattr(Lexicons, "_rebuild", slow)

    async def both(moderator: Moderator) -> list[str]:
        [first] = await desk.all(moderator, "A lovely day for everybody here")
        desk.house.db.write(lambda conn: keywords.add(conn, "wonderful", **about))
        [former] = await desk.all(moderator, FAIR)
        [again] = await desk.all(moderator, FAIR)
        may_build.set()
        until = time.monotonic() + 30
        while (await desk.all(moderator, "A wonderful day", force_fresh=True))[0].decision == "allow":
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        [new] = await desk.all(moderator, FAIR)
        return [f"{one.decision} {one.mode}" for one in (first, former, again, new)]

    assert desk.run(both) == ["allow rules_only", "allow rules_only", "allow cache_hit", "block rules_only"]


def test_what_was_decided_is_found_by_its_hash_and_not_by_going_through_the_days_events(
    desk: Desk, reader: Reader
) -> None:
    [made] = desk.ask(FAIR)
    conn = desk.house.db.reader()
    seen: list[str] = []
    conn.set_trace_callback(seen.append)
    found = reuse.find(conn, desk.who.org_id, made.content_hash, made.version, made.created_at, with_heads=False)
    conn.set_trace_callback(None)
    assert found is not None
    plan = [row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {seen[0]}")]
    assert plan == [
        "SEARCH moderation_event USING INDEX moderation_event_hash (org_id=? AND content_hash=? AND version_id=?)"
    ]


def test_nobody_gets_what_was_decided_for_another(desk: Desk, reader: Reader, charlie: Person) -> None:
    desk.ask(FAIR)
    on_plan(desk.house, charlie, "flex", None)
    assert not Desk(desk.house, charlie).ask(FAIR)[0].is_cached


# --- what passed unread ----------------------------------------------------------------------------------------------


def test_a_share_of_what_passed_is_read_afterwards_and_the_disagreement_is_shown(desk: Desk, reader: Reader) -> None:
    desk.set(semantic=Semantic(audit_share=1.0))
    reader.judge["number 3"] = 0.9
    reader.heads["odd"] = {"harassment": 0.7}

    async def both(moderator: Moderator) -> None:
        for number in range(6):
            await desk.all(moderator, f"{FAIR}, number {number}")
        await desk.all(moderator, ODD)  # the judge read it already
        await moderator.sampled()

    desk.run(both)
    [rate] = sampling.rates(desk.house.db.reader(), desk.who.org_id)
    assert (rate.version, rate.sampled, rate.disagreed, rate.missed, rate.share) == (2, 6, 1, 1, 0.1667)
    assert "weather" not in str(
        [tuple(row) for row in desk.house.db.reader().execute("SELECT * FROM moderation_sample")]
    )
    desk.house.db.write(lambda conn: conn.execute("DELETE FROM moderation_event"))
    assert sampling.rates(desk.house.db.reader(), desk.who.org_id) == []


def test_what_waits_to_be_read_is_dropped_and_counted_as_the_process_stops(desk: Desk, reader: Reader) -> None:
    def dropped() -> float:
        return meters.REGISTRY.get_sample_value("customhouse_moderation_samples_total", {"outcome": "dropped"}) or 0.0

    desk.set(semantic=Semantic(audit_share=1.0))
    reader.wait_s = lambda request: 0.5 if request.judge else 0.0
    before = dropped()

    async def leave(moderator: Moderator) -> None:
        await desk.all(moderator, *(f"{FAIR}, number {n}" for n in range(20)))
        await asyncio.sleep(0.1)  # the first of them are on their way

    desk.run(leave)
    assert dropped() - before == 20
    assert desk.count("moderation_sample") == 0
