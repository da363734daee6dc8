"""The events of the synchronous surfaces as rows: scores and a hash, never the text."""

import msgspec

from appliance.database import Connection
from appliance.moderations.verdict import Ask, Verdict
from appliance.text import analysis


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of an event is shown and not searched: its `body`."""

    flagged: tuple[str, ...] = ()
    matched: dict[str, tuple[str, ...]] = {}
    severities: dict[str, str] = {}
    labels: dict[str, float] = {}
    language_confidence: float = 0.0
    provider_status: str = "complete"
    degraded_reason: str | None = None
    mode: str = "rules_only"
    reason: str = "rules_clear"
    text_llm_credits: int = 0
    processing_ms: float = 0.0
    explanation: str | None = None
    metadata: dict[str, str] = {}


def record(conn: Connection, org_id: str, key_id: str | None, ask: Ask, made: Verdict) -> None:
    """The event, and its count in the day's use."""
    results = made.analysis.results
    detail = Detail(
        flagged=made.flagged,
        matched={name: one.matched for name, one in results.items() if one.matched},
        severities={name: one.severity for name, one in results.items() if one.severity},
        labels=made.analysis.labels,
        language_confidence=made.analysis.language.confidence,
        provider_status=made.provider_status,
        degraded_reason=made.degraded_reason,
        mode=made.mode,
        reason=made.reason,
        text_llm_credits=made.text_llm_credits,
        processing_ms=made.processing_ms,
        explanation=made.explanation,
        metadata=ask.metadata,
    )
    conn.execute(
        """
        INSERT INTO moderation_event (id, org_id, key_id, request_id, origin, modality, policy_id, version_id, decision,
            engine_action, severity, language, content_hash, scores, body, external_id, created_at)
        VALUES (:id, :org, :key, :request, :origin, :modality, :policy, :version, :decision, :action, :severity,
            :language, :hash, :scores, :body, :external, :now)
        """,
        {
            "id": made.event_id,
            "org": org_id,
            "key": key_id,
            "request": made.request_id,
            "origin": ask.origin,
            "modality": made.modality,
            "policy": made.version.policy_id,
            "version": made.version.id,
            "decision": made.decision,
            "action": made.action,
            "severity": made.severity,
            "language": made.analysis.language.code,
            "hash": bytes.fromhex(made.content_hash.removeprefix("sha256:")),
            "scores": analysis.pack(results),
            "body": msgspec.json.encode(detail).decode(),
            "external": ask.metadata.get("external_id"),
            "now": made.created_at,
        },
    )
