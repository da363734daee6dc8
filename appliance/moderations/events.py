"""The events of the synchronous surfaces as rows: scores and a hash, never the text.

A verdict goes in with `record`, and comes back out of `get` as it was answered: the scores to six decimals.
"""

from collections.abc import Sequence

import msgspec

from appliance import clock
from appliance.database import Connection, Row
from appliance.errors import InvalidRequest, NotFound
from appliance.moderations import quota
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies import rows as policies
from appliance.text import analysis
from appliance.text.analysis import Analysis, Result
from appliance.text.language import Language


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


class Event(msgspec.Struct, frozen=True):
    """An event as it is listed. Its version's number is 0 where the version is not there any more."""

    seq: int
    id: str
    request_id: str
    origin: str
    modality: str
    policy_id: str
    version_id: str
    version: int
    decision: str
    engine_action: str
    severity: str
    language: str
    content_hash: str
    key_id: str | None
    external_id: str | None
    job_id: str | None
    created_at: int


class Whole(msgspec.Struct, frozen=True):
    """An event with all that is kept of it."""

    event: Event
    verdict: Verdict
    """As it was answered."""
    metadata: dict[str, str]


class Filter(msgspec.Struct, frozen=True):
    """Which events; None = any. `since` is inclusive, `until` is not."""

    decision: str | None = None
    policy_id: str | None = None
    external_id: str | None = None
    language: str | None = None
    origin: str | None = None
    since: int | None = None
    until: int | None = None


def record(
    conn: Connection, org_id: str, key_id: str | None, ask: Ask, made: Verdict, *, job_id: str | None = None
) -> None:
    """The event, its count in the day's use and the month's quota. Raises QuotaExceeded: then nothing is kept."""
    record_all(conn, org_id, key_id, [(ask, made)], job_id=job_id)


def record_all(
    conn: Connection,
    org_id: str,
    key_id: str | None,
    asked: Sequence[tuple[Ask, Verdict]],
    *,
    job_id: str | None = None,
) -> None:
    """`record` of a whole batch: all of it is counted and kept, or, when it does not fit in the quota, none."""
    quota.spend(conn, org_id, [made for _, made in asked])
    conn.executemany(
        """
        INSERT INTO moderation_event (id, org_id, key_id, request_id, origin, modality, policy_id, version_id, decision,
            engine_action, severity, language, content_hash, scores, body, external_id, job_id, created_at)
        VALUES (:id, :org, :key, :request, :origin, :modality, :policy, :version, :decision, :action, :severity,
            :language, :hash, :scores, :body, :external, :job, :now)
        """,
        [{**_bound(ask, made), "org": org_id, "key": key_id, "job": job_id} for ask, made in asked],
    )


_CLAUSES = {
    "decision": "event.decision = :decision",
    "policy_id": "event.policy_id = :policy_id",
    "external_id": "event.external_id = :external_id",
    "language": "event.language = :language",
    "origin": "event.origin = :origin",
    "since": "event.created_at >= :since",
    "until": "event.created_at < :until",
}
_LISTED = """
    SELECT event.seq, event.id, event.request_id, event.origin, event.modality, event.policy_id, event.version_id,
        ifnull(policy_version.number, 0) AS version, event.decision, event.engine_action, event.severity,
        event.language, event.content_hash, event.key_id, event.external_id, event.job_id, event.created_at
    FROM moderation_event AS event LEFT JOIN policy_version ON policy_version.id = event.version_id
"""


def page(
    conn: Connection, org_id: str, wanted: Filter, *, cursor: str | None = None, limit: int = 50
) -> tuple[list[Event], str | None]:
    """The newest events of that kind, or those that come after `cursor`; and the cursor for the next ones, None at the
    end. Raises InvalidRequest on a cursor that is none."""
    sql, named = query(org_id, wanted, _place(conn, org_id, cursor), limit + 1)
    found = [_event(row) for row in conn.execute(sql, named)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def query(org_id: str, wanted: Filter, place: tuple[int, int] | None, limit: int) -> tuple[str, dict[str, object]]:
    """The list's SELECT and what it is bound to. Each filter has an index, and all of them lie in the list's order."""
    given = msgspec.structs.asdict(wanted)
    clauses = ["event.org_id = :org", *(clause for name, clause in _CLAUSES.items() if given[name] is not None)]
    if wanted.decision not in (None, "allow"):
        clauses.append("event.decision != 'allow'")  # said so, for the index that holds no others
    if place is not None:
        clauses.append("(event.created_at, event.seq) < (:at, :seq)")
    at, seq = place or (0, 0)
    sql = f"{_LISTED} WHERE {' AND '.join(clauses)} ORDER BY event.created_at DESC, event.seq DESC LIMIT :limit"
    return sql, {**given, "org": org_id, "at": at, "seq": seq, "limit": limit}


def get(conn: Connection, org_id: str, event_id: str) -> Whole:
    """Raises NotFound."""
    row = conn.execute(
        f"{_LISTED.replace('event.created_at', 'event.created_at, event.scores, event.body')} "
        "WHERE event.id = :id AND event.org_id = :org",
        {"id": event_id, "org": org_id},
    ).fetchone()
    if row is None:
        raise NotFound("There is no such event; see GET /v1/events")
    about = msgspec.json.decode(row["body"], type=Detail)
    return Whole(_event(row), _verdict(conn, row, about), about.metadata)


# --- in --------------------------------------------------------------------------------------------------------------


def _bound(ask: Ask, made: Verdict) -> dict[str, object]:
    results = made.analysis.results
    about = Detail(
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
    return {
        "id": made.event_id,
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
        "body": msgspec.json.encode(about).decode(),
        "external": ask.metadata.get("external_id"),
        "now": made.created_at,
    }


# --- out -------------------------------------------------------------------------------------------------------------


def _place(conn: Connection, org_id: str, cursor: str | None) -> tuple[int, int] | None:
    """Where the last event shown stands: its id says when it was, should it be gone meanwhile."""
    if cursor is None:
        return None
    at = _made_at(cursor)
    row = conn.execute(
        "SELECT created_at, seq FROM moderation_event WHERE id = :id AND org_id = :org", {"id": cursor, "org": org_id}
    ).fetchone()
    return (at, 0) if row is None else (row["created_at"], row["seq"])


def _made_at(event_id: str) -> int:
    """The millisecond in which an event was made, as its id tells. Raises InvalidRequest when it is no such id."""
    try:
        return clock.of_ulid(event_id.removeprefix("mev_"))
    except ValueError:
        issue = "is not one that was answered here; leave it out to begin with the newest"
        raise InvalidRequest(f"cursor {issue}", details=[{"field": "cursor", "issue": issue}]) from None


def _event(row: Row) -> Event:
    fields = {name: row[name] for name in Event.__struct_fields__ if name != "content_hash"}
    return Event(**fields, content_hash=_hash(row))


def _hash(row: Row) -> str:
    return f"sha256:{bytes(row['content_hash']).hex()}"


def _verdict(conn: Connection, row: Row, about: Detail) -> Verdict:
    scores = analysis.unpack(row["scores"])
    results = {
        name: Result(score, about.matched.get(name, ()), about.severities.get(name, ""))
        for name, score in scores.items()
    }
    return Verdict(
        event_id=row["id"],
        request_id=row["request_id"],
        decision=row["decision"],
        action=row["engine_action"],
        severity=row["severity"],
        flagged=about.flagged,
        analysis=Analysis(Language(row["language"], about.language_confidence), results, about.labels),
        version=policies.version(conn, row["policy_id"], row["version_id"]),
        content_hash=_hash(row),
        created_at=row["created_at"],
        processing_ms=about.processing_ms,
        modality=row["modality"],
        provider_status=about.provider_status,
        degraded_reason=about.degraded_reason,
        mode=about.mode,
        reason=about.reason,
        text_llm_credits=about.text_llm_credits,
        is_cached=about.mode == "cache_hit",
        explanation=about.explanation,
    )
