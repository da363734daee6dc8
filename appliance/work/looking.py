"""Asking the models about pictures: which model answers which category, and what its scores come to."""

from collections.abc import Iterable, Mapping, Sequence

from appliance.accounts import custom
from appliance.categories import Category, Source
from appliance.errors import Failure, ModelUnavailable
from appliance.house import House
from appliance.inference.wire import Answer, LookRequest, Pixels, Question
from appliance.jobs import rows, scoring
from appliance.jobs.job import ChildKind, Finding, Score
from appliance.jobs.plan import CUSTOM
from appliance.jobs.rows import JobRow


def subjects(house: House, job: JobRow) -> dict[str, Category]:
    """All that a job can be asked, as it was submitted: the built-in categories, and its custom ones as custom:SLUG.
    Raises Failure when a question's words are gone, with the organisation whose it was."""
    words = rows.words(house.db.reader(), job)
    if missing := [slug for slug in job.plan.own if slug not in words]:
        raise Failure(f"the words of the custom category {missing[0]!r} were erased", permanent=True)
    own = {
        CUSTOM + slug: Category(
            label=slug,
            description="",
            icon="",
            question=question,
            judge_threshold=custom.THRESHOLD,
            version=job.plan.versions.get(slug, 0),
        )
        for slug, question in words.items()
    }
    return {**house.categories_at(job.plan.prompts), **own}


def request(
    pictures: Sequence[Pixels], asked: Iterable[tuple[ChildKind, str]], categories: Mapping[str, Category], judge: str
) -> LookRequest:
    """One call for all that is asked of these pictures, so that each is sent, and by a judge encoded, once."""
    models: dict[str, None] = {}
    questions: list[Question] = []
    for kind, subject in asked:
        if kind is ChildKind.VLM and judge:
            questions.append(Question(subject, categories[subject].question))
        else:
            models.update(dict.fromkeys(source.model for source in _sources(kind, subject, categories)))
    return LookRequest(list(pictures), list(models), judge if questions else None, questions)


def finding(
    kind: ChildKind, subject: str, items: Sequence[Mapping[str, Answer]], categories: Mapping[str, Category], judge: str
) -> Finding:
    """What the answers say of one subject: true when any score of any picture reaches its threshold.

    Raises Failure when a model that had to answer did not: never a silent allow.
    """
    version = None
    if kind is ChildKind.VLM and judge:
        sources = [scoring.judged(judge, subject, categories[subject].judge_threshold)]
        version = categories[subject].version
    else:
        sources = _sources(kind, subject, categories)
    if not sources:
        raise unanswered(subject)
    scores: list[Score] = []
    detail: dict[str, float] = {}
    for source in sources:
        tried = [scoring.score(subject, source, item, version) for item in items]
        best = max(range(len(tried)), key=lambda n: tried[n].score)
        scores.append(tried[best])
        detail.update(items[best][source.model].detail)
        if len(items) > 1:
            detail["picture"] = best
    is_true = any(score.is_over for score in scores)
    return Finding(
        categories={subject: is_true},
        scores=scores,
        is_prohibited=is_true,
        reason=f"The image was flagged as {categories[subject].label}." if is_true else None,
        detail=detail,
    )


def join(findings: Sequence[Finding]) -> Finding:
    """Several findings about one picture as one: a video frame has one child for all its questions."""
    merged: dict[str, bool] = {}
    for one in findings:
        for slug, is_true in one.categories.items():
            merged[slug] = merged.get(slug, False) or is_true
    return Finding(
        categories=merged,
        scores=[score for one in findings for score in one.scores],
        is_prohibited=any(one.is_prohibited for one in findings),
        reason=next((one.reason for one in findings if one.reason), None),
        detail={key: value for one in findings for key, value in one.detail.items()},
    )


def spent(items: Iterable[Mapping[str, Answer]]) -> dict[str, float]:
    """Device → milliseconds that its models spent on these items: each answer holds its share of its batch."""
    total: dict[str, float] = {}
    for item in items:
        for answer in item.values():
            if answer.ms:
                total[answer.device] = round(total.get(answer.device, 0.0) + answer.ms, 3)
    return total


def _sources(kind: ChildKind, subject: str, categories: Mapping[str, Category]) -> list[Source]:
    category = categories.get(subject)
    return category.classifiers("nsfw" if kind is ChildKind.NSFW else "vlm") if category else []


def unanswered(subject: str) -> ModelUnavailable:
    """Nothing is set to answer this subject: said with what to do."""
    if subject.startswith(CUSTOM):
        return ModelUnavailable(
            "a custom category needs a vision-language model: run customhouse models list, fetch one with the task "
            "vision-judge, and name it in inference.vision_judge",
            permanent=True,
        )
    return ModelUnavailable(f"no model answers {subject}: see its sources in config/categories.toml", permanent=True)
