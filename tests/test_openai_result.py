"""How verdicts on texts and pictures become OpenAI's thirteen categories."""

from typing import Any

import pytest

from appliance.api.openai import CATEGORIES, result
from appliance.api.pictures import Screened
from appliance.errors import Unavailable
from appliance.jobs.job import Score
from appliance.moderations import decision
from appliance.moderations.verdict import Verdict
from appliance.policies.version import Body, Rule, Thresholds, Version
from appliance.text.analysis import Analysis, Result
from appliance.text.language import Language

MILD = Thresholds(warn=0.5, block=0.9)
BODY = Body(analyzers={name: Rule(thresholds=MILD) for name in ("sexual", "hate", "nsfw", "blocklist")})


def text(labels: dict[str, float], rules: dict[str, float] | None = None, body: Body = BODY, **more: Any) -> Verdict:
    scores = {**{name: score for name, score in labels.items() if "/" not in name}, **(rules or {})}
    results = {name: Result(score) for name, score in scores.items()}
    decided = decision.decide(body, results)
    return Verdict(
        event_id="mev_1",
        request_id="req_1",
        decision="allow" if body.observe_only else decided.word,
        action=decided.action,
        severity=decided.severity,
        flagged=decided.flagged,
        analysis=Analysis(Language("en", 1.0), results, labels),
        version=Version("v", "p", "made-up", 1, body),
        content_hash="sha256:" + "ab" * 32,
        created_at=0,
        **more,
    )


def picture(*scores: tuple[str, str, float], is_prohibited: bool = False) -> Screened:
    made = [Score(category, "a-model", label, score, 0.5) for category, label, score in scores]
    return Screened("a-job", is_prohibited, {one.category: one.is_over for one in made}, made)


def true_of(found: Any) -> set[str]:
    return {name for name, is_true in found.categories.items() if is_true}


def test_a_category_is_true_from_the_lowest_threshold_on() -> None:
    found = result(text({"sexual": 0.5, "hate": 0.49, "hate/threatening": 0.6}), [])
    assert (found.flagged, true_of(found)) == (True, {"sexual", "hate/threatening"})
    assert found.category_scores["hate"] == 0.49
    assert tuple(found.categories) == CATEGORIES


def test_a_category_whose_analyzer_is_off_has_its_score_and_is_never_true() -> None:
    found = result(text({"violence": 0.99}), [])
    assert (found.flagged, found.category_scores["violence"]) == (False, 0.99)
    assert found.category_applied_input_types["violence"] == ["text"]


def test_the_rules_answer_beside_the_head_of_their_category() -> None:
    found = result(text({"sexual": 0.1}, {"nsfw": 0.7}), [])
    assert (true_of(found), found.category_scores["sexual"]) == ({"sexual"}, 0.7)


def test_what_the_policy_blocks_is_flagged_though_no_category_says_so() -> None:
    found = result(text({"sexual": 0.0}, {"blocklist": 1.0}), [])
    assert (found.flagged, true_of(found)) == (True, set())


def test_a_policy_that_only_observes_flags_nothing() -> None:
    body = Body(analyzers=BODY.analyzers, observe_only=True)
    found = result(text({"sexual": 0.95}, {"blocklist": 1.0}, body), [])
    assert (found.flagged, true_of(found), found.category_scores["sexual"]) == (False, set(), 0.95)


def test_half_an_answer_is_none_unless_it_flags() -> None:
    with pytest.raises(Unavailable):
        result(text({"sexual": 0.0}, degraded_reason="text_llm_unavailable"), [])
    assert result(text({"sexual": 0.9}, degraded_reason="text_llm_unavailable"), []).flagged


def test_a_minor_in_a_sexual_picture_is_said_with_a_pictures_mark() -> None:
    """The SDKs' types know sexual/minors for texts only; hiding it would be worse."""
    found = result(None, [picture(("nsfw", "nsfw", 0.8), ("underage", "under_18", 0.7), is_prohibited=True)])
    assert true_of(found) == {"sexual", "sexual/minors"}
    assert found.category_scores["sexual/minors"] == 0.7
    assert found.category_applied_input_types["sexual/minors"] == ["image"]


@pytest.mark.parametrize(("adult", "young"), [(0.8, 0.1), (0.1, 0.9)])
def test_one_of_the_two_alone_is_not_sexual_minors(adult: float, young: float) -> None:
    found = result(None, [picture(("ai_adult_general", "NSFW", adult), ("underage", "under_18", young))])
    assert not found.categories["sexual/minors"]


def test_two_pictures_do_not_make_one_of_both() -> None:
    found = result(None, [picture(("nsfw", "nsfw", 0.9)), picture(("nsfw", "nsfw", 0.0), ("underage", "u", 0.9))])
    assert true_of(found) == {"sexual"}


def test_gore_is_violence_and_not_sexual() -> None:
    found = result(None, [picture(("nsfw", "nsfw", 0.1), ("ai_adult_general", "NSFL", 0.9), is_prohibited=True)])
    assert true_of(found) == {"violence/graphic"}


def test_a_check_that_is_off_applies_to_nothing() -> None:
    found = result(None, [picture(("underage", "under_18", 0.9), is_prohibited=True)])
    assert (found.flagged, true_of(found)) == (True, set())
    assert set(map(tuple, found.category_applied_input_types.values())) == {()}


def test_text_and_picture_are_one_result_with_the_higher_of_both() -> None:
    found = result(text({"sexual": 0.2}), [picture(("nsfw", "nsfw", 0.4)), picture(("nsfw", "nsfw", 0.3))])
    assert found.category_scores["sexual"] == 0.4
    assert found.category_applied_input_types["sexual"] == ["text", "image"]
    assert not found.flagged
