"""What the server answers. Members that a later server adds are passed over."""

from typing import Any, Literal

import msgspec

JobType = Literal["prompt", "image", "video", "pre", "post"]
JobStatus = Literal["queued", "processing", "completed", "failed"]
Severity = Literal["none", "low", "medium", "high", "critical"]


class _Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a job stands. `is_prohibited` is None while it runs and when it failed: None is not "allowed"."""

    status: JobStatus
    is_prohibited: bool | None

    @property
    def is_closed(self) -> bool:
        return self.status in ("completed", "failed")

    @property
    def is_allowed(self) -> bool:
        """It was judged, and nothing was found."""
        return self.is_prohibited is False


# --- jobs ------------------------------------------------------------------------------------------------------------


class Submitted(msgspec.Struct, frozen=True):
    """A job that was accepted, and is on disk."""

    job_id: str
    status: str = "queued"


class Job(_Verdict, frozen=True, kw_only=True):
    job_id: str
    type: JobType
    categories: dict[str, Any]
    """Category → whether it was found; `custom` holds your own, by slug."""
    created_at: str
    completed_at: str | None
    reason: str | None = None
    """Why it is prohibited, where that can be said in words."""
    error_code: str | None = None
    """Why it failed."""
    custom_versions: dict[str, int] | None = None
    """Which version of each custom category it was asked."""
    api_key_id: str | None = None
    api_key_name: str | None = None
    batch_id: str | None = None
    batch_key: str | None = None


class ListedJob(_Verdict, frozen=True, kw_only=True):
    job_id: str
    type: JobType
    created_at: str
    completed_at: str | None
    api_key_id: str | None = None
    api_key_name: str | None = None
    batch_id: str | None = None
    batch_key: str | None = None


class JobPage(msgspec.Struct, frozen=True):
    jobs: list[ListedJob]
    total: int
    limit: int
    offset: int


class Progress(msgspec.Struct, frozen=True):
    """How far a job is; the frame fields are there for videos only."""

    job_id: str
    status: JobStatus
    progress: int
    """0 to 100."""
    detail: str | None = None
    frames_completed: int | None = None
    frame_count: int | None = None


class SubmittedItem(msgspec.Struct, frozen=True):
    key: str
    job_id: str


class SubmittedBatch(msgspec.Struct, frozen=True):
    batch_id: str
    items: list[SubmittedItem]
    status: str = "processing"


class BatchItem(_Verdict, frozen=True, kw_only=True):
    key: str
    job_id: str
    categories: dict[str, Any]
    completed_at: str | None
    reason: str | None = None
    error_code: str | None = None


class BatchCounts(msgspec.Struct, frozen=True):
    total: int
    queued: int
    processing: int
    completed: int
    failed: int
    prohibited: int


class Batch(msgspec.Struct, frozen=True):
    batch_id: str
    status: Literal["processing", "completed"]
    counts: BatchCounts
    items: list[BatchItem]
    created_at: str
    completed_at: str | None

    @property
    def is_closed(self) -> bool:
        return self.status == "completed"


# --- moderations -----------------------------------------------------------------------------------------------------


class AnalyzerResult(msgspec.Struct, frozen=True):
    analyzer: str
    score: float
    severity: Severity
    flagged: bool
    matched_tokens: list[str]
    """Entries of the word lists, never the words around them."""


class AppliedPolicy(msgspec.Struct, frozen=True):
    id: str
    version_id: str
    version: int


class Routing(msgspec.Struct, frozen=True):
    mode: str
    reason: str


class Language(msgspec.Struct, frozen=True):
    detected: str
    confidence: float


class ProviderUsage(msgspec.Struct, frozen=True):
    text_llm_credits: int


class Cache(msgspec.Struct, frozen=True):
    status: Literal["hit", "miss"]
    content_hash: str


class Moderation(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, made at once."""

    id: str
    request_id: str
    decision: Literal["allow", "flag", "block"]
    engine_action: Literal["allow", "warn", "review", "block"]
    modality: str
    severity: Severity
    scores: dict[str, float]
    analyzer_results: list[AnalyzerResult]
    policy: AppliedPolicy
    provider: str
    provider_version: str
    provider_status: str
    """complete, degraded or failed_closed."""
    degraded_reason: str | None
    routing: Routing
    language: Language
    provider_usage: ProviderUsage
    processing_time_ms: float
    created_at: str
    cache: Cache

    @property
    def is_blocked(self) -> bool:
        return self.decision == "block"

    @property
    def is_flagged(self) -> bool:
        return self.decision == "flag"

    @property
    def is_allowed(self) -> bool:
        return self.decision == "allow"


class EventPolicy(msgspec.Struct, frozen=True):
    id: str
    version_id: str
    version: int


class ListedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A decision in short. No text is kept: `content_hash` is the same for the same text under the same version."""

    id: str
    request_id: str
    decision: Literal["allow", "flag", "block"]
    engine_action: str
    severity: str
    modality: str
    language: str
    origin: str
    """Which surface was asked: omnimod, openai, perspective …"""
    policy: EventPolicy
    content_hash: str
    external_id: str | None
    api_key_id: str | None
    job_id: str | None
    created_at: str


class EventPage(msgspec.Struct, frozen=True):
    events: list[ListedEvent]
    next_cursor: str | None


class Event(Moderation, frozen=True, kw_only=True):
    """The decision as it was answered, and where it came from."""

    origin: str
    metadata: dict[str, str]
    api_key_id: str | None
    job_id: str | None


# --- policies --------------------------------------------------------------------------------------------------------


class Thresholds(msgspec.Struct, frozen=True):
    """Scores from which on it warns, asks for review, blocks; None: it never does."""

    warn: float | None
    review: float | None
    block: float | None


class Rule(msgspec.Struct, frozen=True):
    enabled: bool
    thresholds: Thresholds


class HashReuse(msgspec.Struct, frozen=True):
    enabled: bool
    ttl_seconds: int


class Semantic(msgspec.Struct, frozen=True):
    """When the judge is asked, and what happens when it cannot be."""

    mode: str
    fail_mode: str
    deadline_ms: int
    audit_share: float
    question: str


class PolicyVersion(msgspec.Struct, frozen=True, kw_only=True):
    """It never changes."""

    id: str
    version: int
    is_active: bool
    analyzers: dict[str, Rule]
    hash_reuse: HashReuse
    semantic: Semantic
    observe_only: bool
    copied_from: int | None
    created_at: str


class Policy(msgspec.Struct, frozen=True):
    """A policy, with the version that is in force."""

    id: str
    slug: str
    name: str
    is_default: bool
    version: PolicyVersion
    created_at: str
    updated_at: str


class Policies(msgspec.Struct, frozen=True):
    policies: list[Policy]


class PolicyVersions(msgspec.Struct, frozen=True):
    versions: list[PolicyVersion]


# --- the plan --------------------------------------------------------------------------------------------------------


class ModerationDay(msgspec.Struct, frozen=True):
    date: str
    requests: int = 0
    allow: int = 0
    flag: int = 0
    block: int = 0
    cache_hits: int = 0
    text_llm_credits: int = 0


class ModerationUsage(msgspec.Struct, frozen=True):
    """A month of decisions, in UTC."""

    period: str
    standard_requests: int
    text_llm_credits: int
    cache_hits: int
    by_decision: dict[str, int]
    daily: list[ModerationDay]


class Quota(msgspec.Struct, frozen=True):
    """Decisions of this month against the plan's; None: there is no end."""

    plan_tier: str
    monthly_request_quota: int | None
    used: int
    remaining: int | None
    resets_at: str


class Plan(msgspec.Struct, frozen=True):
    slug: str
    name: str
    monthly_request_quota: int | None
    rate_limit_per_minute: int
    is_current: bool
    is_sold: bool


class Plans(msgspec.Struct, frozen=True):
    plans: list[Plan]


class Organisation(msgspec.Struct, frozen=True):
    id: str
    name: str
    status: str
    plan_tier: str
    rate_limit_per_minute: int
    created_at: str


class LastDay(msgspec.Struct, frozen=True):
    requests: int
    by_decision: dict[str, int]


class Deciding(msgspec.Struct, frozen=True):
    """How those who decide are."""

    status: str
    rules: str
    heads: str
    judge: str


class SampleRate(msgspec.Struct, frozen=True):
    policy_id: str
    version_id: str
    version: int
    sampled: int
    disagreed: int
    missed: int
    share: float


class Sampling(msgspec.Struct, frozen=True):
    """Of what was passed without the judge, how often it would have decided otherwise."""

    rates: list[SampleRate]


class Overview(msgspec.Struct, frozen=True):
    quota: Quota
    last_24_hours: LastDay
    provider: Deciding
    sampling: Sampling


# --- use -------------------------------------------------------------------------------------------------------------


class Day(msgspec.Struct, frozen=True):
    date: str
    tokens: int
    cost_usd: float
    gpu_seconds: float


class Usage(msgspec.Struct, frozen=True):
    """A month, in UTC."""

    billing_period: str
    total_tokens: int
    total_cost_usd: float
    total_gpu_seconds: float
    total_jobs: int
    passed_jobs: int
    rejected_jobs: int
    daily: list[Day]


class Volume(msgspec.Struct, frozen=True):
    ts: str
    pre: int
    post: int
    prompt: int
    image: int
    video: int


class Volumes(msgspec.Struct, frozen=True):
    period: str
    bucket: str
    data: list[Volume]


class Cost(msgspec.Struct, frozen=True):
    ts: str
    pre: float
    post: float
    prompt: float
    image: float
    video: float


class Costs(msgspec.Struct, frozen=True):
    period: str
    bucket: str
    data: list[Cost]


class Rejections(msgspec.Struct, frozen=True):
    period: str
    categories: dict[str, Any]
    """Category → how many; `custom` holds your own, by slug."""


# --- the account -----------------------------------------------------------------------------------------------------


class ModerationConfig(msgspec.Struct, frozen=True):
    enabled_categories: dict[str, bool]
    """Only those that are switched off."""
    catalogue: dict[str, dict[str, str]]
    """Every check: its label, description and icon."""


class Analyzer(msgspec.Struct, frozen=True):
    analyzer: str
    by: str
    """rules, or heads: a model."""


class PromptSteps(msgspec.Struct, frozen=True):
    """Analyzers that are asked of a prompt after the blocklist."""

    steps: dict[str, float]
    """Analyzer → the score from which on it rejects."""
    available: list[Analyzer]


class AnsweredBy(msgspec.Struct, frozen=True):
    by: str
    label: str = ""
    model: str = ""
    question: str = ""
    threshold: float | None = None


class DefaultCategory(msgspec.Struct, frozen=True):
    slug: str
    label: str
    description: str
    icon: str
    enabled: bool
    answered_by: list[AnsweredBy]


class DefaultCategories(msgspec.Struct, frozen=True):
    categories: list[DefaultCategory]
    count: int


class CustomCategory(msgspec.Struct, frozen=True):
    category_id: str
    name: str
    slug: str
    description: str
    system_prompt: str
    enabled: bool
    applies_to: list[str]
    version: int
    created_at: str
    updated_at: str


class CustomCategories(msgspec.Struct, frozen=True):
    categories: list[CustomCategory]
    count: int
    limit: int


class CategoryVersion(msgspec.Struct, frozen=True):
    category_id: str
    version: int
    change: str
    at: str
    name: str
    slug: str
    description: str
    system_prompt: str
    enabled: bool
    applies_to: list[str]


class CategoryVersions(msgspec.Struct, frozen=True):
    versions: list[CategoryVersion]


class Trial(msgspec.Struct, frozen=True):
    """A question, put to one example."""

    is_prohibited: bool
    score: float
    threshold: float
    model: str
    digest: str
    device: str
    ms: float


# --- webhooks --------------------------------------------------------------------------------------------------------


class RegisteredWebhook(msgspec.Struct, frozen=True):
    url: str
    updated_at: str
    secret: str | None = None
    """Shown when the first address is registered."""


class WebhookSecret(msgspec.Struct, frozen=True):
    prefix: str
    status: Literal["current", "previous"]
    created_at: str | None
    expires_at: str | None


class WebhookSecrets(msgspec.Struct, frozen=True):
    secrets: list[WebhookSecret]
    tolerance_seconds: int
    grace_hours: int


class RevealedSecret(msgspec.Struct, frozen=True):
    secret: str


class JobNotice(_Verdict, frozen=True, kw_only=True):
    """A delivery: a job ended. It may come twice; `delivery_id` is the same then."""

    job_id: str
    categories: dict[str, Any]
    completed_at: str
    delivery_id: str
    type: str | None = None
    reason: str | None = None
    error_code: str | None = None


class NoticedItem(_Verdict, frozen=True, kw_only=True):
    key: str
    job_id: str
    categories: dict[str, Any]
    completed_at: str
    reason: str | None = None
    error_code: str | None = None


class BatchNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery: the last text of a batch has ended."""

    batch_id: str
    status: str
    items: list[NoticedItem]
    completed_at: str
    delivery_id: str
    type: Literal["text_batch"]


# --- the machine -----------------------------------------------------------------------------------------------------


class Health(msgspec.Struct, frozen=True):
    status: str
    version: str
    database: str
    queue: str
    gpu: str
    models: dict[str, str]
    degraded: list[str] = []
    """What is wrong, in sentences."""
