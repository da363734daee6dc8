"""A prompt's child: the blocklist, which ends it when a term matches, then the steps that the organisation has switched
on, then the text heads and, where one is named, the text judge (seeds 000 and 001). The text itself goes into no
finding."""

from collections.abc import Mapping, Sequence

import msgspec

from appliance.accounts import custom
from appliance.categories import Category, Source
from appliance.errors import MediaUnreachable, ModelUnavailable
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import Answer, Question, ReadRequest
from appliance.jobs import rows, scoring
from appliance.jobs.job import Finding, Score
from appliance.jobs.plan import CUSTOM
from appliance.jobs.rows import JobRow
from appliance.moderations import heads
from appliance.text import language
from appliance.text.analysis import HEADS
from appliance.text.engine import Engine
from appliance.text.normalize import undisguised
from appliance.work import looking
from appliance.work.hands import Hands

BLOCKLISTED = "The text contained a blacklisted keyword."
STEPPED = "The prompt was rejected by the check: {}."
"""With the analyzer's name: an additional step that the organisation switched on."""

REASONS = {
    "sexual/minors": "The prompt appears to sexualise minors.",
    "sexual": "The prompt appears to request sexual content.",
    "hate/threatening": "The prompt appears to contain hateful threats.",
    "hate": "The prompt appears to contain hate against people for who they are.",
    "violence/graphic": "The prompt appears to request graphic violence.",
    "violence": "The prompt appears to contain violence or threats.",
    "self-harm": "The prompt appears to encourage self-harm.",
    "harassment": "The prompt appears to harass someone.",
    "toxicity": "The prompt appears to be abusive.",
}
"""In the order in which a head's label is named when several stand equally high."""

_RULES = "engine"
"""Stands where a score names its model, when rules and no model gave it."""

_JUDGELESS = (
    "a custom category for prompts needs a text judge: run customhouse models list, fetch one with the task "
    "text-judge, and name it in inference.text_judge"
)
_UNNAMED = "The prompt appears to ask for prohibited content."


def moderate(hands: Hands, job: JobRow) -> Finding:
    """Raises Failure when a check could not be made."""
    submitted = rows.input_of(hands.house.db.reader(), job.id)
    if submitted is None or submitted.text is None:
        raise MediaUnreachable("the submitted text was erased", permanent=True)
    ruled = by_lists(hands.engine, job, submitted.text)
    return ruled if ruled.is_prohibited else by_models(hands.house, hands.models, job, submitted.text, ruled)


def by_lists(engine: Engine, job: JobRow, text: str) -> Finding:
    """What the blocklist and the rules among the job's steps say, which end it when they prohibit; else only how the
    steps scored, and the language."""
    spoken = language.detect(text).code
    if "text" not in job.plan.checks:
        return Finding({}, language=spoken)
    match = engine.lexicons.match(job.org_id, text)
    if match is not None:
        return Finding({"text": True}, is_prohibited=True, reason=BLOCKLISTED, term=match.term, language=spoken)
    ruled = by_rules(engine, job, text)
    if rejecting := [score for score in ruled if score.is_over]:
        reason = STEPPED.format(rejecting[0].label)
        return Finding({"text": True}, ruled, is_prohibited=True, reason=reason, language=spoken)
    return Finding({}, ruled, language=spoken)


def by_models(house: House, models: Models, job: JobRow, text: str, listed: Finding) -> Finding:
    """What the heads and the judge say of what the lists let pass. Raises Failure when one of them could not be
    asked."""
    spoken, ruled = listed.language or "", listed.scores
    is_screened = "text" in job.plan.checks
    categories = looking.subjects(house, job)
    category = categories["text"]
    own = {CUSTOM + slug: categories[CUSTOM + slug] for slug in job.plan.own}
    settings = house.settings
    judge = settings.inference.text_judge
    if own and not judge:
        raise ModelUnavailable(_JUDGELESS, permanent=True)
    head = heads.asked(spoken, heads.installed(settings))
    steps = by_heads(job, head) if is_screened else []
    sources = [*category.classifiers("text"), *steps] if is_screened else []
    [answers] = models.read(
        ReadRequest(
            [undisguised(text)],  # as the heads learnt to read
            list(dict.fromkeys(source.model for source in sources)),
            judge or None,
            category.question if judge and is_screened else None,
            category.judge_threshold,
            [Question(subject, custom.as_policy(one.question)) for subject, one in own.items()],
        )
    )
    found = [_own(subject, one, judge, answers) for subject, one in own.items()]
    if is_screened:
        read = {head: heads.rescaled(settings.models_dir, head, answers[head])} if steps and head in answers else {}
        stepped = [scoring.score("text", source, read) for source in steps]
        screened = decide(category, judge, answers, spoken, stepped)
        found.insert(0, msgspec.structs.replace(screened, scores=[*ruled, *screened.scores]))
    spent = looking.spent([answers])
    return msgspec.structs.replace(looking.join(found), language=spoken, detail=_details(answers), spent_ms=spent)


def by_rules(engine: Engine, job: JobRow, text: str) -> list[Score]:
    """What the rules among the job's steps say. Raises ModelUnavailable when there is no such rule any more: never a
    silent allow."""
    steps = {name: limit for name, limit in job.plan.steps.items() if name not in HEADS}
    results = engine.analyze(job.org_id, text).results if steps else {}
    if missing := [name for name in steps if name not in results]:
        raise ModelUnavailable(f"no analyzer {missing[0]!r} is installed that this prompt's steps ask", permanent=True)
    return [
        Score("text", _RULES, name, round(results[name].score, 6), limit, device="cpu") for name, limit in steps.items()
    ]


def by_heads(job: JobRow, model: str) -> list[Source]:
    """The heads among the job's steps, as this model answers them."""
    return [
        Source(step="text", model=model, label=name, threshold=limit)
        for name, limit in job.plan.steps.items()
        if name in HEADS
    ]


def decide(
    category: Category, judge: str, answers: Mapping[str, Answer], spoken: str, stepped: Sequence[Score] = ()
) -> Finding:
    """Any source at its threshold prohibits; the reason is the judge's own words, or the head that stands highest, or
    the step that nothing else agrees with.

    Raises Failure when a model that had to answer did not: never a silent allow.
    """
    sources = category.classifiers("text")
    if judge:
        sources.append(scoring.judged(judge, "prohibited", category.judge_threshold))
    if not sources:
        raise looking.unanswered("text")
    scores: list[Score] = [
        scoring.score("text", source, answers, category.version if source.model == judge else None)
        for source in sources
    ]
    over = [score for score in scores if score.is_over]
    reason = next((answers[score.model].reason for score in over if answers[score.model].reason), None)
    if over and reason is None:
        reason = _named(answers[over[0].model].scores)
    if not over and (rejecting := [score for score in stepped if score.is_over]):
        over, reason = rejecting, STEPPED.format(rejecting[0].label)
    scores += stepped
    return Finding(
        {"text": bool(over)},
        scores,
        bool(over),
        reason,
        language=spoken,
        detail=_details(answers),
        spent_ms=looking.spent([answers]),
    )


def _own(subject: str, category: Category, judge: str, answers: Mapping[str, Answer]) -> Finding:
    """What the judge says of one custom category."""
    score = scoring.score(subject, scoring.judged(judge, subject, category.judge_threshold), answers, category.version)
    reason = f"The prompt was flagged as {category.label}." if score.is_over else None
    return Finding({subject: score.is_over}, [score], score.is_over, reason)


def _named(scores: Mapping[str, float]) -> str:
    named = [label for label in REASONS if label in scores]
    return REASONS[max(named, key=lambda label: scores[label])] if named else _UNNAMED


def _details(answers: Mapping[str, Answer]) -> dict[str, float]:
    return {key: value for answer in answers.values() for key, value in answer.detail.items()}
