"""Thresholds of the built-in categories: moved, given back, taken up; and what a move would do to jobs done."""

import json
import random
from typing import Any

import pytest

from appliance import audit, thresholds
from appliance.accounts import toggles
from appliance.audit import Filter
from appliance.categories import CHECKS
from appliance.database import IntegrityError
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.house import House
from appliance.jobs import verdict
from appliance.jobs.job import Finding, JobKind, Plan
from appliance.jobs.replay import Replay
from appliance.settings import Settings
from appliance.thresholds import JUDGE
from tests import made
from tests.cast import Person

NSFW = "opennsfw:nsfw"


def move(house: House, slug: str, source: str | None, value: float | None, **how: Any) -> thresholds.Change:
    file = house.shipped_categories
    return house.db.write(
        lambda conn: thresholds.put(conn, file, slug, source, value, actor="operator:test", reason="a test", **how)
    )


def score(category: str, model: str, label: str, at: float, limit: float, prompt: int | None = None) -> dict[str, Any]:
    return {
        "category": category,
        "model": model,
        "label": label,
        "score": at,
        "threshold": limit,
        "prompt": prompt,
        "device": "cpu",
    }


def done(house: House, who: Person, findings: list[dict[str, Any]], kind: str = "IMAGE_MODERATION") -> str:
    """A completed job with these findings."""
    row = made.job(who.org_id, 1_000, kind=kind)

    def insert(conn: Any) -> None:
        made.insert_into(conn, [row])
        for one in findings:
            conn.execute(
                "INSERT INTO child (job_id, kind, status, finding, created_at) "
                "VALUES (?, 'VLM_CLASSIFICATION', 'completed', ?, 1000)",
                (row["id"], json.dumps(one)),
            )

    house.db.write(insert)
    return row["id"]


def nsfw(at: float, beside: float = 0.1) -> list[dict[str, Any]]:
    return [
        {"categories": {"nsfw": at >= 0.5}, "scores": [score("nsfw", "opennsfw", "nsfw", at, 0.5)]},
        {"categories": {"nsfw": beside >= 0.7}, "scores": [score("nsfw", "nsfwjs", "Porn+Hentai", beside, 0.7)]},
    ]


# --- moved and given back --------------------------------------------------------------------------------------------


def test_a_moved_threshold_holds_at_once_in_every_process(house: House, settings: Settings) -> None:
    other = House(settings)
    try:
        move(house, "nsfw", NSFW, 0.8)
        assert other.categories["nsfw"].sources[0].threshold == 0.8
        assert other.categories_at({"nsfw": 0})["nsfw"].sources[0].threshold == 0.8
        assert other.shipped_categories["nsfw"].sources[0].threshold == 0.5
        assert other.categories["nsfw"].sources[1].threshold == 0.7
        move(house, "nsfw", JUDGE, 0.6)
        assert other.categories["nsfw"].judge_threshold == 0.6
        move(house, "nsfw", NSFW, None)
        assert other.categories["nsfw"].sources[0].threshold == 0.5
    finally:
        other.close()


def test_every_threshold_is_listed_with_the_file_s_and_whether_it_answers(house: House) -> None:
    move(house, "nsfw", NSFW, 0.8)
    listed = {
        (one.category, one.source): one
        for one in thresholds.every(house.db.reader(), house.shipped_categories, {"underage": "a-judge"})
    }
    assert {slug for slug, _ in listed} == set(CHECKS)
    assert (listed["nsfw", NSFW].value, listed["nsfw", NSFW].file, listed["nsfw", NSFW].is_moved) == (0.8, 0.5, True)
    assert listed["underage", JUDGE].answers
    assert not listed["underage", "faces-age:under_18"].answers  # the judge stands in place of the vlm step
    assert not listed["nsfw", JUDGE].answers
    assert listed["text", "text-heads:violence/graphic"].value == 0.055


def test_a_move_is_audited_and_kept_for_good(house: House) -> None:
    move(house, "underage", "faces-age:under_18", 0.4)
    move(house, "underage", "faces-age:under_18", None)
    lines = audit.page(house.db.reader(), Filter(action="threshold.changed"))
    assert [(one.actor, one.subject, one.reason, one.detail["moved"]) for one in lines] == [
        ("operator:test", "underage", "a test", [0.4, 0.5]),
        ("operator:test", "underage", "a test", [0.5, 0.4]),
    ]
    assert [one.value for one in thresholds.history(house.db.reader(), "underage")] == [None, 0.4]
    for statement in ("UPDATE threshold_change SET value = 0.9", "DELETE FROM threshold_change"):
        with pytest.raises(IntegrityError, match="only ever added"):
            house.db.write(lambda conn, statement=statement: conn.execute(statement))


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_value_that_is_no_threshold_is_refused(house: House, value: float) -> None:
    with pytest.raises(InvalidRequest, match="over 0 and at most 1"):
        move(house, "nsfw", NSFW, value)
    assert thresholds.now(house.db.reader()) == {}


def test_what_is_not_there_or_not_new_is_refused(house: House) -> None:
    with pytest.raises(NotFound, match="nsfw, ai_adult_general"):
        move(house, "weather", None, 0.4)
    with pytest.raises(NotFound, match="opennsfw:nsfw"):
        move(house, "nsfw", "other:label", 0.4)
    with pytest.raises(InvalidRequest, match="several thresholds"):
        move(house, "nsfw", None, 0.4)
    with pytest.raises(InvalidRequest, match=r"0\.5 already"):
        move(house, "nsfw", NSFW, 0.5)
    with pytest.raises(InvalidRequest, match="already"):
        move(house, "nsfw", NSFW, None)
    with pytest.raises(Conflict, match="changed meanwhile"):
        move(house, "nsfw", NSFW, 0.4, expected=0.6)


def test_a_source_that_the_file_has_no_longer_is_passed_over(house: House) -> None:
    file = house.shipped_categories
    assert thresholds.over(file, {("nsfw", "gone:label"): 0.9, ("gone", JUDGE): 0.1}) == file


# --- what a move would do --------------------------------------------------------------------------------------------


def test_flips_are_counted_over_stored_scores(house: House, alice: Person) -> None:
    for at in (0.2, 0.45, 0.55, 0.9):
        done(house, alice, nsfw(at))
    done(house, alice, nsfw(0.45, beside=0.95))  # another source of the category holds it
    underage = {"categories": {"underage": True}, "scores": [score("underage", "faces-age", "under_18", 0.9, 0.5)]}
    done(house, alice, [*nsfw(0.55), underage])
    replay = Replay(house.db.reader, house.categories)
    lower = replay.moved("nsfw", NSFW, 0.4)
    assert (lower.jobs, lower.scored, lower.turned_true, lower.turned_false, lower.prohibited) == (6, 6, 1, 0, 1)
    higher = replay.moved("nsfw", NSFW, 0.6)
    assert (higher.turned_true, higher.turned_false, higher.prohibited, higher.allowed) == (0, 2, 0, 1)
    assert replay.moved("nsfw", NSFW, 0.5).flips == 0
    assert sum(replay.spread("nsfw", NSFW)) == 6
    assert replay.moved("nsfw", JUDGE, 0.1).scored == 0


def test_a_threshold_counts_from_where_it_stands_today(house: House, alice: Person) -> None:
    done(house, alice, nsfw(0.55))
    move(house, "nsfw", NSFW, 0.6)
    replay = Replay(house.db.reader, house.categories)
    assert replay.moved("nsfw", NSFW, 0.6).flips == 0
    assert replay.moved("nsfw", NSFW, 0.5).turned_true == 1


def test_a_term_and_a_step_do_not_flip(house: House, alice: Person) -> None:
    kind = "PROMPT_MODERATION"
    done(house, alice, [{"categories": {"text": True}, "is_prohibited": True, "term": "lampost"}], kind)
    sexual = score("text", "text-heads", "sexual", 0.3, 0.488)
    step = score("text", "text-heads", "sexual", 0.3, 0.2)
    done(house, alice, [{"categories": {"text": True}, "scores": [sexual, step], "is_prohibited": True}], kind)
    done(house, alice, [{"categories": {"text": False}, "scores": [sexual]}], kind)
    moved = Replay(house.db.reader, house.categories).moved("text", "text-heads:sexual", 0.25)
    assert (moved.jobs, moved.scored, moved.turned_true) == (3, 2, 1)


def test_a_question_put_to_a_judge_is_the_judge_s(house: House, alice: Person) -> None:
    asked = {"categories": {"nsfw": False}, "scores": [score("nsfw", "some-judge", "nsfw", 0.4, 0.5, prompt=0)]}
    done(house, alice, [asked])
    replay = Replay(house.db.reader, house.categories)
    assert replay.moved("nsfw", JUDGE, 0.3).turned_true == 1
    assert replay.moved("nsfw", NSFW, 0.3).scored == 0


def test_only_the_newest_and_only_of_one_organisation(house: House, alice: Person, charlie: Person) -> None:
    for at in (0.55, 0.2, 0.2):
        done(house, alice, nsfw(at))
    done(house, charlie, nsfw(0.55))
    assert Replay(house.db.reader, house.categories, 3).moved("nsfw", NSFW, 0.9).turned_false == 1
    mine = Replay(house.db.reader, house.categories, org_id=alice.org_id)
    assert (mine.jobs, mine.moved("nsfw", NSFW, 0.9).turned_false) == (3, 1)
    assert Replay(house.db.reader, house.categories, org_id="nobody").moved("nsfw", NSFW, 0.9).jobs == 0


def test_random_jobs_come_out_as_if_they_were_judged_anew(house: House, alice: Person) -> None:
    """Against merging findings with the moved threshold one job at a time."""
    rng = random.Random(20)
    file = house.shipped_categories
    jobs: list[list[dict[str, Any]]] = []
    for _ in range(150):
        findings: list[dict[str, Any]] = []
        for slug in ("nsfw", "ai_adult_general", "underage"):
            if rng.random() < 0.7:
                found = [
                    score(slug, one.model, "+".join(one.labels), round(rng.random(), 2), one.threshold)
                    for one in file[slug].sources
                ]
                over = any(one["score"] >= one["threshold"] for one in found)
                findings.append({"categories": {slug: over}, "scores": found, "is_prohibited": over})
        jobs.append(findings)
        done(house, alice, findings)
    replay = Replay(house.db.reader, house.categories)

    def judged(findings: list[dict[str, Any]], slug: str, name: str, value: float) -> tuple[bool, bool]:
        made: list[Finding] = []
        for one in findings:
            over = {
                category: any(
                    s["score"]
                    >= (value if (s["category"], f"{s['model']}:{s['label']}") == (slug, name) else s["threshold"])
                    for s in one["scores"]
                )
                for category in one["categories"]
            }
            made.append(Finding(over, is_prohibited=any(over.values())))
        merged = verdict.merge(JobKind.IMAGE, Plan(list(CHECKS)), made)
        return bool(merged.categories.get(slug)), merged.is_prohibited

    for slug, name in [key for key in replay.keys if key[0] != "text" and key[1] != JUDGE]:
        limit = next(one.threshold for one in file[slug].sources if one.name == name)
        for value in (0.05, 0.33, 0.66, 0.97, 1.0):
            was = [judged(job, slug, name, limit) for job in jobs]
            now = [judged(job, slug, name, value) for job in jobs]
            moved = replay.moved(slug, name, value)
            assert moved.turned_true == sum(b[0] and not a[0] for a, b in zip(was, now, strict=True))
            assert moved.turned_false == sum(a[0] and not b[0] for a, b in zip(was, now, strict=True))
            assert moved.prohibited == sum(b[1] and not a[1] for a, b in zip(was, now, strict=True))
            assert moved.allowed == sum(a[1] and not b[1] for a, b in zip(was, now, strict=True))


# --- the four toggles, by the operator -------------------------------------------------------------------------------


def test_a_toggle_is_switched_with_a_reason_and_back(house: House, alice: Person) -> None:
    def switch(check: str, is_on: bool) -> None:
        house.db.write(
            lambda conn: toggles.switch(conn, alice.org_id, check, is_on, actor="operator:test", reason="a test")
        )

    switch("underage", False)
    switch("nsfw", False)
    assert toggles.off(house.db.reader(), alice.org_id) == {"nsfw": False, "underage": False}
    assert toggles.by_org(house.db.reader())[alice.org_id] == {"nsfw": False, "underage": False}
    switch("underage", True)
    assert toggles.on(house.db.reader(), alice.org_id) == ["ai_adult_general", "underage", "text"]
    lines = audit.page(house.db.reader(), Filter(org_id=alice.org_id, actor="operator:test"))
    assert [(one.action, one.detail["check"], one.reason) for one in lines] == [
        ("checks.turned_on", "underage", "a test"),
        ("checks.turned_off", "nsfw", "a test"),
        ("checks.underage_off", "underage", "a test"),
    ]
    with pytest.raises(InvalidRequest, match="on already"):
        switch("underage", True)
    with pytest.raises(NotFound, match="no check"):
        switch("weather", True)
