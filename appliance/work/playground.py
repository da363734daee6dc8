"""A text, a picture or a video screened here and now, for whoever runs this box: what would come of it, and why.

The questions are those of a job and of /v1/moderations, asked by the same functions; but there is no job, no event, no
charge, and nothing that passes here is kept.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from appliance import prompts as questions
from appliance.accounts import custom, steps, toggles
from appliance.categories import Category
from appliance.database import Connection
from appliance.errors import Conflict, Failure, MediaTooLarge, NotFound, Unavailable
from appliance.house import House
from appliance.inference import weights
from appliance.inference.client import Models
from appliance.inference.sources import Progress
from appliance.inference.wire import Answer, Pixels
from appliance.jobs import plan as planning
from appliance.jobs.job import ChildKind, Finding, JobKind, Plan, Score, Status
from appliance.jobs.plan import CUSTOM
from appliance.jobs.rows import JobRow
from appliance.media import blurred, probe
from appliance.media.blurred import Colour
from appliance.media.decoders import Decoders
from appliance.models import trying
from appliance.moderations import decision
from appliance.moderations.moderator import Moderator
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies import rows as policies
from appliance.policies.version import Thresholds, Version
from appliance.text.engine import Engine
from appliance.text.normalize import undisguised
from appliance.work import looking, prompts

NOBODY = ""
"""In place of an organisation's id: everything is on, the shared lists hold, and the policy is the shipped one."""

_MB = 1_000_000

Outcome = Literal["prohibited", "not prohibited", "undecided"]


class Scored(msgspec.Struct, frozen=True):
    """One score against its threshold, with who said it."""

    category: str
    model: str
    label: str
    score: float
    threshold: float
    is_over: bool
    device: str
    digest: str
    ms: float
    at_ms: int | None = None
    """In a video or an animation, when the picture with this score is seen."""


class Unanswered(msgspec.Struct, frozen=True):
    subject: str
    why: str


class Pipeline(msgspec.Struct, frozen=True):
    """What a prompt's job would come to."""

    outcome: Outcome
    reason: str | None
    term: str | None
    """Of the blocklist, when that ended it."""
    language: str
    scores: list[Scored]
    problem: str | None
    """Why it is undecided: a job would try again, and fail in the end; never a silent allow."""


class Analyzer(msgspec.Struct, frozen=True):
    name: str
    score: float
    severity: str
    matched: tuple[str, ...]
    is_enabled: bool
    thresholds: Thresholds
    action: str
    """What its score alone comes to under the policy."""


class Decided(msgspec.Struct, frozen=True):
    """What /v1/moderations would answer under a policy."""

    policy: str
    version: int
    decision: str
    action: str
    severity: str
    flagged: tuple[str, ...]
    language: str
    confidence: float
    routing: str
    mode: str
    provider_status: str
    degraded_reason: str | None
    is_observed_only: bool
    analyzers: list[Analyzer]


class Found(msgspec.Struct, frozen=True):
    """An entry of a list, and the piece of the text that it was found in."""

    term: str
    analyzer: str
    """blocklist, or whose list it is on."""
    category: str | None
    severity: str
    effect: str
    start: int
    end: int
    piece: str
    disguise: str


class Form(msgspec.Struct, frozen=True):
    """The text as it was read, and what was undone to get there (empty: only case, width and what cannot be seen)."""

    disguise: str
    text: str


class Text(msgspec.Struct, frozen=True):
    pipeline: Pipeline
    decided: Decided | None
    """None: `undecided` says why."""
    undecided: str | None
    found: list[Found]
    forms: list[Form]
    read_as: str
    """By the models."""
    ms: float


class Seen(msgspec.Struct, frozen=True):
    """What a picture's or a video's job would come to."""

    kind: str
    outcome: Outcome
    categories: dict[str, bool]
    scores: list[Scored]
    unanswered: list[Unanswered]
    pictures: int
    times_ms: list[int]
    """Of the pictures that were judged; empty for a single one."""
    over_ms: list[int]
    """Of those that prohibit it."""
    detail: dict[str, float]
    problem: str | None
    spent_ms: dict[str, float]
    """Device → what its models spent."""
    ms: float


class Playground:
    """One process's; one call at a time. Close it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._engine = Engine(house)
        self._moderator: Moderator | None = None
        self._models = Models(house.settings.inference_socket, house.settings.inference.deadline_s)
        self._decoders: Decoders | None = None
        self._held: Pixels | None = None
        self._may_show = False

    # --- texts --------------------------------------------------------------------------------------------------------

    def text(self, org_id: str, policy: str | None, text: str) -> Text:
        """Both ways. `policy`: a slug or id of the organisation's, None = its default. Raises PolicyNotFound."""
        begun = time.perf_counter()
        self._held = None
        version = self._version(org_id, policy)
        pipeline = self._pipeline(org_id, text)
        reading = self._engine.read(org_id, text)
        decided, undecided = self._decide(org_id, version, text)
        return Text(
            pipeline=pipeline,
            decided=decided,
            undecided=undecided,
            found=[
                Found(
                    hit.entry.term,
                    hit.entry.analyzer or "blocklist",
                    hit.entry.category,
                    hit.entry.severity,
                    hit.entry.effect,
                    hit.start,
                    hit.end,
                    text[hit.start : hit.end],
                    hit.disguise,
                )
                for hit in reading.hits
            ],
            forms=[Form(view.disguise, view.text) for view in reading.views],
            read_as=undisguised(text),
            ms=_since(begun),
        )

    def policies(self, org_id: str) -> list[str]:
        """The slugs of the organisation's, its default first; without any, the shipped one that it begins with."""
        found = policies.every(self._house.db.reader(), org_id) if org_id else []
        return [one.slug for one in found] or [policies.DEFAULT]

    def _pipeline(self, org_id: str, text: str) -> Pipeline:
        job = _job(org_id, JobKind.PROMPT, self._plan(org_id, JobKind.PROMPT))
        problem: str | None = None
        found = Finding({})
        try:
            found = prompts.by_lists(self._engine, job, text)
            if not found.is_prohibited and planning.children(JobKind.PROMPT, job.plan):
                found = prompts.by_models(self._house, self._models, job, text, found)
        except Failure as failure:
            problem = failure.message
        outcome: Outcome = "undecided" if problem else "prohibited" if found.is_prohibited else "not prohibited"
        scores = [_scored(score) for score in found.scores]
        return Pipeline(outcome, found.reason, found.term, found.language or "", scores, problem)

    def _decide(self, org_id: str, version: Version, text: str) -> tuple[Decided | None, str | None]:
        if self._moderator is None:
            self._moderator = Moderator(self._house, self._engine)
        try:
            made = asyncio.run(self._moderator.weigh_under(org_id, Ask(text, "cli"), version))
        except (Failure, Unavailable) as error:
            return None, error.message
        return _decided(made), None

    def _version(self, org_id: str, policy: str | None) -> Version:
        found = policies.in_force(self._house.db.reader(), org_id, policy) if org_id else None
        if found is not None:
            return found
        if policy not in (None, policies.DEFAULT) and self.policies(org_id) != [policies.DEFAULT]:
            raise NotFound(f"there is no policy {policy!r}; there are: {', '.join(self.policies(org_id))}")
        slug = policy or policies.DEFAULT
        _, body = policies.template(self._house.settings.policies_dir, slug)
        return Version("shipped", "shipped", slug, 0, body)

    # --- pictures -----------------------------------------------------------------------------------------------------

    def file(self, org_id: str, path: Path, progress: Progress = weights.quiet) -> Seen:
        """A picture or a video. Raises Failure when it cannot be decoded; what could not be asked is in the answer."""
        begun = time.perf_counter()
        self._held = None
        if not path.is_file():
            raise NotFound(f"{path}: there is no such file")
        kind = JobKind.VIDEO if probe.read(path).kind == "video" else JobKind.IMAGE
        media = self._house.settings.media
        limit = media.max_video_mb if kind is JobKind.VIDEO else media.max_image_mb
        if path.stat().st_size > limit * _MB:
            raise MediaTooLarge(f"{path}: is larger than {limit} MB, which a job may not be")
        job = _job(org_id, kind, self._plan(org_id, kind))
        look = _Look(self._house, self._models, job)
        for times, pixels in trying.pictures(self._decoder(), path, progress):
            look.at(times, pixels)
        seen = look.seen(kind, _since(begun))
        self._held = look.gravest
        # Whatever it is, a picture of somebody who may be a minor is not shown, not even blurred.
        self._may_show = not seen.categories.get("underage", False) and not any(
            one.subject == "underage" for one in seen.unanswered
        )
        return seen

    def blurred(self) -> list[list[Colour]]:
        """The picture of the last call that stands highest, blurred. Raises NotFound, and Conflict where it may not be
        shown: `underage` flagged it, or could not be asked."""
        if self._held is None:
            raise NotFound("There is no picture to show")
        if not self._may_show:
            raise Conflict("This picture is not shown: `underage` flagged it, or could not be asked about it")
        return blurred.blurred(self._held)

    def close(self) -> None:
        if self._decoders is not None:
            self._decoders.close()
        if self._moderator is not None:
            self._moderator.close()
        self._models.close()

    def _plan(self, org_id: str, kind: JobKind) -> Plan:
        def of(conn: Connection) -> Plan:
            off = toggles.off(conn, org_id) if org_id else {}
            own = custom.asked(conn, org_id, kind.wire) if org_id else []
            switched = steps.of(conn, org_id) if org_id and kind is JobKind.PROMPT else {}
            return planning.plan(off, own, questions.now(conn), switched)

        return of(self._house.db.reader())

    def _decoder(self) -> Decoders:
        if self._decoders is None:
            settings = self._house.settings
            media = msgspec.structs.replace(settings.media, decoders=1)
            self._decoders = Decoders(msgspec.structs.replace(settings, media=media))
        return self._decoders


class _Look:
    """What is gathered of one file's pictures."""

    def __init__(self, house: House, models: Models, job: JobRow) -> None:
        self._models = models
        self._judge = house.settings.inference.vision_judge
        self._categories: Mapping[str, Category] = looking.subjects(house, job)
        self._asked = [(ChildKind.VLM, subject) for subject in planning.visual(job.plan)]
        if "nsfw" in job.plan.checks:
            self._asked.append((ChildKind.NSFW, "nsfw"))
        self._best: dict[tuple[str, str, str], Scored] = {}
        self._true: dict[str, bool] = {}
        self._why: dict[str, str] = {}
        self._times: list[int] = []
        self._over: list[int] = []
        self._count = 0
        self._detail: dict[str, float] = {}
        self._spent: dict[str, float] = {}
        self._problem: str | None = None
        self._height = -1.0
        self.gravest: Pixels | None = None

    def at(self, times: Sequence[int | None], pixels: Sequence[Pixels]) -> None:
        self._count += len(pixels)
        self._times += [at_ms for at_ms in times if at_ms is not None]
        self.gravest = self.gravest or pixels[0]
        if not self._asked or self._problem is not None:
            return
        try:
            items = self._models.look(looking.request(pixels, self._asked, self._categories, self._judge))
        except Failure as failure:
            self._problem = failure.message
            self._why = {subject: failure.message for _, subject in self._asked}
            return
        for device, ms in looking.spent(items).items():
            self._spent[device] = round(self._spent.get(device, 0.0) + ms, 3)
        for at_ms, picture, item in zip(times, pixels, items, strict=True):
            self._one(at_ms, picture, item)

    def _one(self, at_ms: int | None, picture: Pixels, item: Mapping[str, Answer]) -> None:
        is_over = False
        for kind, subject in self._asked:
            try:
                found = looking.finding(kind, subject, [item], self._categories, self._judge)
            except Failure as failure:
                self._why.setdefault(subject, failure.message)
                continue
            self._true[subject] = self._true.get(subject, False) or found.is_prohibited
            self._detail |= found.detail if at_ms is None else {}  # of many pictures they would contradict each other
            is_over = is_over or found.is_prohibited
            for score in found.scores:
                self._keep(score, at_ms, picture)
        if is_over and at_ms is not None:
            self._over.append(at_ms)

    def _keep(self, score: Score, at_ms: int | None, picture: Pixels) -> None:
        place = (score.category, score.model, score.label)
        if place not in self._best or self._best[place].score < score.score:
            self._best[place] = _scored(score, at_ms)
        if score.score / score.threshold > self._height:
            self._height, self.gravest = score.score / score.threshold, picture

    def seen(self, kind: JobKind, ms: float) -> Seen:
        is_prohibited = any(self._true.values())
        return Seen(
            kind=kind.wire,
            outcome="prohibited" if is_prohibited else "undecided" if self._why else "not prohibited",
            categories={slug.removeprefix(CUSTOM): is_true for slug, is_true in self._true.items()},
            scores=list(self._best.values()),
            unanswered=[Unanswered(subject, why) for subject, why in self._why.items()],
            pictures=self._count,
            times_ms=self._times,
            over_ms=self._over,
            detail=self._detail,
            problem=self._problem,
            spent_ms=self._spent,
            ms=ms,
        )


def _decided(made: Verdict) -> Decided:
    body = made.version.body
    analyzers: list[Analyzer] = []
    for name, result in made.analysis.results.items():
        rule = body.analyzers.get(name)
        is_enabled = rule is not None and rule.enabled
        thresholds = rule.thresholds if rule is not None else Thresholds()
        action = decision.action_of(thresholds, result.score) if is_enabled else "allow"
        analyzers.append(
            Analyzer(name, round(result.score, 6), result.graded, result.matched, is_enabled, thresholds, action)
        )
    return Decided(
        policy=made.version.policy_slug,
        version=made.version.number,
        decision=made.decision,
        action=made.action,
        severity=made.severity,
        flagged=made.flagged,
        language=made.analysis.language.code,
        confidence=made.analysis.language.confidence,
        routing=made.reason,
        mode=made.mode,
        provider_status=made.provider_status,
        degraded_reason=made.degraded_reason,
        is_observed_only=body.observe_only,
        analyzers=analyzers,
    )


def _job(org_id: str, kind: JobKind, plan: Plan) -> JobRow:
    """The job that it would be, which is in no table."""
    return JobRow(
        seq=0,
        id="",
        org_id=org_id,
        key_id=None,
        kind=kind,
        status=Status.PROCESSING,
        origin="cli",
        request_id=None,
        plan=plan,
        webhook_url=None,
        is_prohibited=None,
        categories={},
        reason=None,
        error_code=None,
        error=None,
        total=0,
        done=0,
        created_at=0,
        started_at=None,
        completed_at=None,
    )


def _scored(score: Score, at_ms: int | None = None) -> Scored:
    return Scored(
        score.category,
        score.model,
        score.label,
        score.score,
        score.threshold,
        score.is_over,
        score.device,
        score.digest,
        score.ms,
        at_ms,
    )


def _since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 1)
