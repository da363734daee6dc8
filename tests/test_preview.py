"""The preview of a version: against deciding each event anew one by one, and over HTTP."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance.house import House
from appliance.moderations import decision, preview
from appliance.moderations.preview import Report, Wanted
from appliance.moderations.routing import route
from appliance.policies import change, rows
from appliance.policies.change import By
from appliance.policies.version import Body, Rule, Semantic, Thresholds, Version
from appliance.settings import Settings
from appliance.text.analysis import ANALYZERS, HEADS, JUDGE, RULES, Result
from appliance.text.language import Language
from tests import decided
from tests.cast import Person, enrol
from tests.desk import ClientWith
from tests.orgdesk import OrgDesk
from tests.reader import Reader

ENOUGH = "a text of enough letters to tell the language of"


def version_of(house: House, who: Person, body: Body, slug: str | None = None) -> Version:
    """A policy of its own with this body."""
    slug = slug or f"p{random.getrandbits(64)}"
    folder = house.settings.policies_dir

    def make(conn: Any) -> None:
        made = change.create(conn, who.org_id, slug, slug, {}, ANALYZERS, folder, By("operator:test", "a test"))
        given = msgspec.to_builtins(body)
        change.add(conn, made, given, ANALYZERS, By("operator:test", "a test"), is_whole=True)

    house.db.write(make)
    found = rows.in_force(house.db.reader(), who.org_id, slug)
    assert found is not None
    return found


def moderated(body: Body, scores: dict[str, float], judge: float | None, language: str, has_judge: bool) -> Any:
    """As the moderator does: the action, and the scores that come of it."""
    results = {name: Result(score) for name, score in scores.items()}
    cheap = decision.decide(body, results)
    way = route(body, cheap, ENOUGH, Language(language, 0.9), "auto", has_judge=has_judge, is_fresh=False)
    if way.asks_judge and judge is not None:
        results[JUDGE] = Result(judge)
    return decision.decide(body, results), results


def ran(house: House, who: Person, body: Body, **how: Any) -> Report:
    given = {"has_judge": False, "most_flips": 1000, **how}
    wanted = given.pop("wanted", Wanted(who.org_id, None))
    return preview.run(house.db.reader, wanted, body, **given)


def only(**limits: Any) -> Body:
    """A body of these analyzers: name → thresholds by name."""
    rules = {
        name.replace("_", "-") if name == "self_harm" else name: Rule(thresholds=Thresholds(**steps))
        for name, steps in limits.items()
    }
    return Body(analyzers=rules, semantic=Semantic(mode="off"))


def event(house: House, who: Person, version: Version, scores: dict[str, float], **how: Any) -> str:
    made = decision.decide(version.body, {name: Result(score) for name, score in scores.items()})
    fields = {"action": made.action, "flagged": made.flagged, **how}
    (event_id,) = decided.record(house, who, decided.asked(scores, made.word, version=version, **fields))
    return event_id


# --- against one by one ----------------------------------------------------------------------------------------------


def a_body(rng: random.Random) -> Body:
    rules = {}
    for name in ANALYZERS:
        if rng.random() < 0.2:
            continue
        steps = sorted(round(rng.random(), 2) for _ in range(3))
        limits = [one if rng.random() < 0.8 else None for one in steps]
        rules[name] = Rule(enabled=rng.random() < 0.8, thresholds=Thresholds(*limits))
    return Body(analyzers=rules, semantic=Semantic(mode=rng.choice(["off", "ambiguous", "always"])))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("has_judge", [True, False])
def test_it_says_what_deciding_each_event_anew_says(
    house: House, alice: Person, seed: int, has_judge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "_CHUNK", 37)
    rng = random.Random(seed)
    versions = [version_of(house, alice, a_body(rng)) for _ in range(3)]
    new = a_body(rng)
    truth: dict[str, tuple[str, str]] = {}
    made = []
    for _ in range(200):
        version, language = rng.choice(versions), rng.choice(["en", "de", "pl", "mixed"])
        asks_heads = any(version.body.analyzers.get(name, Rule(enabled=False)).enabled for name in HEADS)
        scores = {name: round(rng.random() ** 3, 2) for name in (*RULES, *HEADS)}
        asked = scores if asks_heads else {name: scores[name] for name in RULES}
        judge = round(rng.random(), 2)
        before, results = moderated(version.body, asked, judge, language, has_judge)
        after, _ = moderated(new, scores, judge, language, has_judge)
        ask, one = decided.asked(results, before.word, version=version, action=before.action, language=language)
        made.append((ask, one))
        truth[one.event_id] = (before.word, after.word)
    decided.record(house, alice, *made)
    report = ran(house, alice, new, has_judge=has_judge)
    assert (report.events, report.replayed + sum(report.not_replayed.values())) == (200, 200)
    assert preview.BY_OTHERS not in report.not_replayed
    assert report.replayed > 50
    assert report.flipped == sum(turn.events for turn in report.turns) == len(report.flips)
    found = {flip.event_id: (flip.before, flip.after) for flip in report.flips}
    flipped = {event_id: words for event_id, words in truth.items() if words[0] != words[1]}
    assert found.items() <= flipped.items()
    assert len(flipped) - len(found) <= sum(report.not_replayed.values())


def test_a_whole_random_history_without_a_judge_or_gaps_is_counted_exactly(house: House, alice: Person) -> None:
    rng = random.Random(7)
    old = version_of(house, alice, replace(a_body(rng), semantic=Semantic(mode="off")))
    new = replace(a_body(rng), semantic=Semantic(mode="off"))
    made, expected = [], {}
    for _ in range(500):
        results = {name: Result(round(rng.random() ** 3, 2)) for name in (*RULES, *HEADS)}
        before, after = decision.decide(old.body, results), decision.decide(new, results)
        made.append(decided.asked(results, before.word, version=old, action=before.action))
        if before.word != after.word:
            expected[before.word, after.word] = expected.get((before.word, after.word), 0) + 1
    decided.record(house, alice, *made)
    report = ran(house, alice, new)
    assert report.replayed == 500
    assert {(turn.before, turn.after): turn.events for turn in report.turns} == expected


# --- case by case ----------------------------------------------------------------------------------------------------


def test_flips_are_counted_by_analyzer_and_language_and_listed_newest_first(house: House, alice: Person) -> None:
    old = version_of(house, alice, only(spam={"warn": 0.5, "block": 0.9}, url={"review": 0.8}))
    event(house, alice, old, {"spam": 0.1, "url": 0.1})
    loosened = event(house, alice, old, {"spam": 0.55, "url": 0.0}, language="es")
    both = event(house, alice, old, {"spam": 0.95, "url": 0.9}, language="de")
    tightened = event(house, alice, old, {"spam": 0.1, "url": 0.75}, language="de")
    report = ran(house, alice, only(spam={"warn": 0.6}, url={"review": 0.7}))
    assert [(turn.before, turn.after, turn.events, turn.by_analyzer, turn.by_language) for turn in report.turns] == [
        ("allow", "flag", 1, {"url": 1}, {"de": 1}),
        ("flag", "allow", 1, {"spam": 1}, {"es": 1}),
        ("block", "flag", 1, {"spam": 1}, {"de": 1}),
    ]
    assert [flip.event_id for flip in report.flips] == [tightened, both, loosened]
    assert report.actions == {"allow→review": 1, "warn→allow": 1, "block→review": 1}
    assert (report.events, report.replayed, report.flipped, report.not_replayed) == (4, 4, 3, {})


def test_a_score_that_stands_on_a_threshold_does_not_flip(house: House, alice: Person) -> None:
    """.9 as float32 is less than .9 as a double."""
    old = version_of(house, alice, only(spam={"warn": 0.3, "review": 0.7, "block": 0.9}))
    for score in (0.3, 0.7, 0.9, 0.29, 0.69, 0.89):
        event(house, alice, old, {"spam": score})
    assert ran(house, alice, old.body).actions == {}


def test_an_analyzer_that_was_not_asked_leaves_the_event_out_where_it_could_matter(house: House, alice: Person) -> None:
    old = version_of(house, alice, only(spam={"warn": 0.5, "block": 0.9}))
    event(house, alice, old, {"spam": 0.1})
    event(house, alice, old, {"spam": 0.6})
    event(house, alice, old, {"spam": 0.95})
    event(house, alice, old, {"spam": 0.1, "hate": 0.9})
    new = only(spam={"warn": 0.5, "block": 0.9}, hate={"warn": 0.8})
    report = ran(house, alice, new)
    assert (report.replayed, report.not_replayed, report.flipped) == (3, {"hate": 1}, 1)
    graver = ran(house, alice, only(spam={"warn": 0.5, "block": 0.9}, hate={"block": 0.8}))
    assert (graver.replayed, graver.not_replayed) == (2, {"hate": 2})


def test_an_analyzer_that_was_on_and_gave_no_answer_is_replayed_without_it(house: House, alice: Person) -> None:
    """A box without the heads' weights: nothing of it could be replayed otherwise."""
    old = version_of(house, alice, only(spam={"warn": 0.5}, hate={"warn": 0.5}))
    event(house, alice, old, {"spam": 0.6})
    report = ran(house, alice, only(spam={"warn": 0.7}, hate={"warn": 0.4}))
    assert (report.replayed, report.flipped, report.not_replayed) == (1, 1, {})


def test_what_its_scores_did_not_decide_is_set_aside(house: House, alice: Person) -> None:
    old = version_of(house, alice, only(spam={"warn": 0.5}))
    event(house, alice, old, {"spam": 0.1}, action="block", provider_status="failed_closed")
    event(house, alice, old, {"spam": 0.6})
    report = ran(house, alice, only(spam={"warn": 0.7}))
    assert (report.events, report.replayed, report.flipped) == (2, 1, 1)
    assert report.not_replayed == {preview.BY_OTHERS: 1}


def test_the_judges_word_holds_but_for_a_block(house: House, alice: Person) -> None:
    semantic = {"spam": {"warn": 0.5, "block": 0.9}, "semantic": {"review": 0.5}}
    old = version_of(house, alice, replace(only(**semantic), semantic=Semantic(mode="ambiguous")))
    event(house, alice, old, {"spam": 0.6, "semantic": 0.1})  # it was cleared
    event(house, alice, old, {"spam": 0.6, "semantic": 0.6})
    event(house, alice, old, {"spam": 0.1})
    new = {"spam": {"warn": 0.05, "block": 0.55}, "semantic": {"review": 0.05}}
    report = ran(house, alice, replace(only(**new), semantic=Semantic(mode="ambiguous")), has_judge=True)
    assert report.not_replayed == {"semantic": 1}  # it would be asked of the third now
    assert {(turn.before, turn.after): turn.events for turn in report.turns} == {
        ("allow", "block"): 1,
        ("flag", "block"): 1,
    }
    off = ran(house, alice, only(**semantic))  # nobody would clear the first any more
    assert {(turn.before, turn.after): turn.by_analyzer for turn in off.turns} == {("allow", "flag"): {"spam": 1}}


def test_what_the_judge_read_for_its_language_is_read_by_it_again(house: House, alice: Person) -> None:
    rules = {"spam": {"warn": 0.5}, "semantic": {"review": 0.5}}
    old = version_of(house, alice, replace(only(**rules), semantic=Semantic(mode="ambiguous")))
    event(house, alice, old, {"spam": 0.1, "semantic": 0.45}, language="pl")
    new = replace(only(spam={"warn": 0.5}, semantic={"review": 0.4}), semantic=Semantic(mode="ambiguous"))
    report = ran(house, alice, new, has_judge=True)
    assert [(turn.after, turn.by_analyzer) for turn in report.turns] == [("flag", {"semantic": 1})]


def test_events_of_before_an_analyzer_was_added_are_replayed(house: House, alice: Person) -> None:
    old = version_of(house, alice, only(spam={"warn": 0.5}))
    event(house, alice, old, {"spam": 0.6})
    house.db.write(lambda conn: conn.execute("UPDATE moderation_event SET scores = substr(scores, 1, 16)"))
    assert ran(house, alice, only(spam={"warn": 0.7})).flipped == 1


def test_only_the_last_so_many_of_the_policy_are_replayed(
    house: House, alice: Person, charlie: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "_CHUNK", 2)
    mine, other = (version_of(house, alice, only(spam={"warn": 0.5}), slug) for slug in ("mine", "other"))
    theirs = version_of(house, charlie, only(spam={"warn": 0.5}))
    ids = [event(house, alice, mine, {"spam": 0.6}) for _ in range(5)]
    event(house, alice, other, {"spam": 0.6})
    event(house, charlie, theirs, {"spam": 0.6})
    new = only(spam={"warn": 0.7})
    of_policy = ran(house, alice, new, wanted=Wanted(alice.org_id, mine.policy_id, 3))
    assert [flip.event_id for flip in of_policy.flips] == ids[:1:-1]
    assert ran(house, alice, new).events == 6
    assert len(ran(house, alice, new, most_flips=2).flips) == 2
    assert [
        len(chunk) for chunk in preview.every_flip(house.db.reader, Wanted(alice.org_id, None), new, has_judge=False)
    ] == [2, 2, 2]


def test_it_reads_by_an_index(house: House, alice: Person) -> None:
    for policy in (None, "a-policy"):
        seen: list[str] = []
        conn = house.db.reader()
        conn.set_trace_callback(seen.append)
        ran(house, alice, Body(), wanted=Wanted(alice.org_id, policy))
        conn.set_trace_callback(None)
        plan = [row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {seen[0]}")]
        index = "moderation_event_created" if policy is None else "moderation_event_policy"
        assert len(plan) == 1, plan
        assert f"USING INDEX {index}" in plan[0]


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> OrgDesk:
    return OrgDesk(client_with, settings, _migrated)


PREVIEW = "/policies/community-default/preview"
LOOSER = {"analyzers": {"spam": {"thresholds": {"warn": 0.7}}}}


def test_a_preview_is_asked_for_as_the_version_would_be(desk: OrgDesk) -> None:
    old = decided.begun(desk.house, desk.alice)
    event_id = event(desk.house, desk.alice, old, {"spam": 0.65}, language="es")
    event(desk.house, desk.alice, old, {"spam": 0.1})
    found = desk.done("post", PREVIEW, LOOSER)
    assert found["turns"] == [
        {"from": "flag", "to": "allow", "events": 1, "by_analyzer": {"spam": 1}, "by_language": {"es": 1}}
    ]
    (flip,) = found["flips"]
    assert (flip["event_id"], flip["from"], flip["action_from"], flip["analyzers"]) == (
        event_id,
        "flag",
        "warn",
        ["spam"],
    )
    assert (found["events"], found["replayed"], found["flipped"], found["not_replayed"]) == (2, 2, 1, {})
    assert found["changes"] == {"analyzers.spam.thresholds.warn": [0.6, 0.7]}
    assert desk.done("get", "/policies/community-default")["version"]["version"] == 1
    assert desk.lines() == []
    desk.done("post", "/policies/community-default/versions", {**LOOSER, "reason": "jokes"}, status=201)
    assert desk.done("post", PREVIEW, {"version": 1})["flipped"] == 0
    assert desk.done("post", PREVIEW, {"version": 2, "limit": 0})["flips"] == []
    assert desk.done("post", PREVIEW, {})["flipped"] == 1


def test_every_flip_is_exported(desk: OrgDesk) -> None:
    old = decided.begun(desk.house, desk.alice)
    ids = [event(desk.house, desk.alice, old, {"spam": 0.65, "emoji": 0.9}) for _ in range(5)]
    answer = desk.ask(
        "post", f"{PREVIEW}/export", {"analyzers": {"spam": {"thresholds": {"warn": 0.3, "review": 0.6, "block": 0.6}}}}
    )
    assert answer.headers["content-disposition"] == 'attachment; filename="preview_community-default.csv"'
    head, *lines = csv.reader(io.StringIO(answer.text))
    assert head == ["event_id", "created_at", "language", "from", "to", "action_from", "action_to", "analyzers"]
    assert [line[0] for line in lines] == ids[::-1]
    assert lines[0][2:] == ["en", "flag", "block", "warn", "block", "spam"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"analyzers": {"spamm": {}}}, "analyzers.spamm is no analyzer"),
        ({"version": 1, **LOOSER}, "version and members of a version are both given"),
        ({"events": 0}, "events must be 1 to 1,000,000"),
        ({"events": 1_000_001}, "events must be 1 to 1,000,000"),
        ({"limit": 1001}, "limit must be 0 to 1,000"),
        ({"all_policies": 1}, "all_policies must be true or false"),
        ({"event": 10}, "event is not known here"),
    ],
)
def test_a_preview_that_makes_no_sense_is_refused(desk: OrgDesk, given: dict[str, Any], message: str) -> None:
    assert message in desk.refused("post", PREVIEW, given, status=400)


def test_a_preview_of_a_version_or_policy_that_is_not_there_is_not_found(desk: OrgDesk) -> None:
    assert "has no version 7" in desk.refused("post", PREVIEW, {"version": 7}, status=404)
    desk.refused("post", "/policies/nothing/preview", {}, status=404)
    desk.refused("post", "/policies/nothing/preview/export", {}, status=404)


def test_a_preview_of_nothing_says_so(desk: OrgDesk) -> None:
    found = desk.done("post", PREVIEW, LOOSER)
    assert (found["events"], found["since"], found["until"], found["turns"]) == (0, None, None, [])


def test_what_the_moderator_decided_is_replayed_as_it_was(house: House, client: TestClient[Any]) -> None:
    """Real events, with heads: under its own version none comes out otherwise, and none is set aside."""
    who = enrol(house, "A", "omni", surface="omnimod")
    reader = Reader(house.settings.inference_socket)
    try:
        reader.heads["harbour"] = {"harassment": 0.97, "hate": 0.2}
        for text in ("hello community", "BUY CHEAP followers now!!! free money", "the harbour", "s h i t", "łódź jest"):
            for is_fresh in (False, True):
                given = {"modality": "text", "input": text, "force_fresh": is_fresh}
                assert client.post("/v1/moderations", json=given, headers=who.headers).status_code == 200
    finally:
        reader.close()
    version = rows.in_force(house.db.reader(), who.org_id, None)
    assert version is not None
    report = ran(house, who, version.body)
    assert (report.events, report.replayed, report.actions, report.not_replayed) == (10, 10, {}, {})
    nothing = ran(house, who, Body())
    assert nothing.flipped > 0
    assert {turn.after for turn in nothing.turns} == {"allow"}
