"""From a model's answer to a score against its threshold, or to the failure that it is for a job. Pure."""

from collections.abc import Mapping

from appliance.categories import Source
from appliance.errors import Failure, InferenceTimeout, ModelRefused, ModelUnavailable
from appliance.inference.wire import Answer, Problem
from appliance.jobs.job import Score


def judged(judge: str, label: str, threshold: float) -> Source:
    """A judge's answer as a source like any other."""
    return Source(step="vlm", model=judge, label=label, threshold=threshold)


def score(category: str, source: Source, answers: Mapping[str, Answer], prompt: int | None = None) -> Score:
    """One source's figure of one item; `prompt` is the version of the question, if it was asked one. Raises Failure
    when its model gave none."""
    answer = answers.get(source.model)
    if answer is None:
        raise ModelUnavailable(
            f"{source.model} did not answer; run: customhouse models fetch {source.model}", permanent=True
        )
    if answer.problem is not None:
        raise failure(answer.problem, source.model)
    missing = [label for label in source.labels if label not in answer.scores]
    if missing:
        raise ModelRefused(f"{source.model} has no label {missing[0]!r}; see config/categories.toml", permanent=True)
    return Score(
        category=category,
        model=source.model,
        label="+".join(source.labels),
        score=round(sum(answer.scores[label] for label in source.labels), 6),
        threshold=source.threshold,
        device=answer.device,
        digest=answer.digest,
        ms=round(answer.ms, 3),
        prompt=prompt,
    )


def failure(problem: Problem, model: str) -> Failure:
    """The failure that a model's problem is for a job."""
    match problem.code:
        case "PROVIDER_TIMEOUT":
            return InferenceTimeout(f"{model}: {problem.message}")
        case "MODEL_REFUSED":
            return ModelRefused(f"{model}: {problem.message}", permanent=not problem.passing)
        case _:
            return ModelUnavailable(f"{model}: {problem.message}", permanent=not problem.passing)
