"""What Prometheus is told of the decisions: counts only."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from appliance.moderations.verdict import Verdict

REGISTRY = CollectorRegistry()
"""Shown with the API's own."""

_DECISIONS = Counter(
    "customhouse_moderations", "Synchronous decisions, by surface.", ["surface", "action"], registry=REGISTRY
)
_ROUTES = Counter(
    "customhouse_moderation_routes", "How they came about: routing.mode and reason.", ["mode", "reason"],
    registry=REGISTRY,
)  # fmt: skip
_DEGRADED = Counter(
    "customhouse_moderations_degraded", "Decisions that a model was missing from.", ["status", "reason"],
    registry=REGISTRY,
)  # fmt: skip
_JUDGE_SECONDS = Histogram(
    "customhouse_judge_seconds",
    "Time from asking the text judge to its answer, for one call of one or several texts.",
    ["outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 20),
    registry=REGISTRY,
)
_SAMPLES = Counter(
    "customhouse_moderation_samples",
    "Passed texts drawn for the judge to read afterwards: agreed, disagreed, failed, or dropped unread.",
    ["outcome"],
    registry=REGISTRY,
)


def decided(surface: str, made: Verdict) -> None:
    _DECISIONS.labels(surface, made.action).inc()
    _ROUTES.labels(made.mode, made.reason).inc()
    if made.provider_status != "complete":
        _DEGRADED.labels(made.provider_status, made.degraded_reason or "").inc()


def judged(seconds: float, outcome: str) -> None:
    _JUDGE_SECONDS.labels(outcome).observe(seconds)


def sampled(outcome: str, count: int = 1) -> None:
    _SAMPLES.labels(outcome).inc(count)
