"""Why a job came out as it did, for the admin: the score that decided, the term, the frame. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from appliance.jobs.job import ChildKind, Score, Status
from appliance.jobs.plan import CUSTOM
from appliance.jobs.rows import Child, JobRow


class Why(msgspec.Struct, frozen=True):
    """The one thing that decided, or came nearest to deciding."""

    category: str = ""
    model: str = ""
    label: str = ""
    score: float | None = None
    threshold: float | None = None
    term: str | None = None
    at_ms: int | None = None
    error_code: str | None = None
    error: str | None = None
    version: int | None = None
    """Of the question, when a judge was asked one that is not the file's."""
    question: str | None = None
    """A custom category's, as it stood when the job was submitted."""

    def __str__(self) -> str:
        if self.error_code is not None:
            return f"{self.error_code}: {self.error}"
        if self.term is not None:
            return f"blocklist term {self.term!r}"
        if self.score is None:
            return "nothing was asked"
        sign = "≥" if self.score >= (self.threshold or 0) else "<"
        at = "" if self.at_ms is None else f" at {self.at_ms / 1000:.1f} s"
        asked = f" (“{self.question}”)" if self.question else ""
        category = f"{self.category}@{self.version}" if self.version else self.category
        return f"{category}: {self.model} {self.label} {self.score:.3f} {sign} {self.threshold:g}{at}{asked}"


class Question(msgspec.Struct, frozen=True):
    """What a job was asked in words: custom:SLUG@VERSION, and the words."""

    name: str
    question: str


def why(job: JobRow, children: Sequence[Child], words: Mapping[str, str] | None = None) -> Why:
    """A failed job: its error. Else the term, or the score that stands highest against its threshold, with the question
    if that is among the `words` (rows.words)."""
    if job.status is Status.FAILED:
        return Why(error_code=job.error_code, error=job.error)
    found = [(child, child.finding) for child in children if child.finding is not None]
    for _, finding in found:
        if finding.term is not None:
            return Why(category=next(iter(finding.categories), "text"), term=finding.term)
    scores = [(child, score) for child, finding in found for score in finding.scores]
    if not scores:
        return Why()
    child, score = max(scores, key=lambda one: _pressure(one[1]))
    at_ms = child.at_ms if child.kind is ChildKind.FRAME else None
    return Why(
        score.category,
        score.model,
        score.label,
        score.score,
        score.threshold,
        at_ms=at_ms,
        version=score.prompt or None,
        question=(words or {}).get(score.category.removeprefix(CUSTOM)),
    )


class Flip(msgspec.Struct, frozen=True):
    """What would have made the verdict another one, and by how much it missed."""

    to_prohibited: bool
    scores: list[Score]
    """One that would have had to reach its threshold; or all that would have had to stay below theirs."""
    at_ms: int | None = None
    """The frame, for one that would have had to reach it."""

    @property
    def by(self) -> float:
        """The most that any of them would have had to move."""
        return max((abs(one.score - one.threshold) for one in self.scores), default=0.0)

    def __str__(self) -> str:
        if not self.scores:
            return "no threshold: a term of a blocklist decided"
        first = max(self.scores, key=lambda one: abs(one.score - one.threshold))
        more = f", and {len(self.scores) - 1} more" if len(self.scores) > 1 else ""
        if self.to_prohibited:
            at = "" if self.at_ms is None else f" at {self.at_ms / 1000:.1f} s"
            return f"{first.category}{at}: {first.score:.3f} missed {first.threshold:g} by {self.by:.3f}"
        return f"{first.category}: {first.score:.3f} stands {self.by:.3f} over {first.threshold:g}{more}"


def flip(job: JobRow, children: Sequence[Child]) -> Flip | None:
    """The nearest threshold on the other side of the verdict; None while there is no verdict, or nothing was scored."""
    if job.status is not Status.COMPLETED or job.is_prohibited is None:
        return None
    scores = [(child, score) for child in children if child.finding for score in child.finding.scores]
    if job.is_prohibited:
        if any(child.finding is not None and child.finding.term is not None for child in children):
            return Flip(to_prohibited=False, scores=[])
        over = [score for _, score in scores if score.is_over]
        return Flip(to_prohibited=False, scores=over) if over else None
    under = [(child, score) for child, score in scores if not score.is_over]
    if not under:
        return None
    child, nearest = min(under, key=lambda one: one[1].threshold - one[1].score)
    return Flip(to_prohibited=True, scores=[nearest], at_ms=child.at_ms if child.kind is ChildKind.FRAME else None)


def questions(job: JobRow, words: Mapping[str, str]) -> list[Question]:
    """The custom questions that the job was submitted under, whatever became of their categories since; `words` are
    rows.words."""
    versions = job.plan.versions
    return [
        Question(f"{CUSTOM}{slug}@{versions[slug]}" if slug in versions else CUSTOM + slug, question)
        for slug, question in words.items()
    ]


def _pressure(score: Score) -> float:
    """How near a score is to its threshold, on one scale for all: 1 is at it, 2 is certainty."""
    if score.score < score.threshold:
        return score.score / score.threshold
    return 1 + (score.score - score.threshold) / max(1e-9, 1 - score.threshold)
