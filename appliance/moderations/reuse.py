"""Hash reuse: the same text under the same version is answered from what was decided before, by any process: the events
are the cache (22 µs to find one; a copy in memory would save little and could be wrong)."""

import hashlib
import hmac
import unicodedata
from collections.abc import Mapping

import msgspec

from appliance.database import Connection
from appliance.moderations import events
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies.version import Version

_TRIED = 3  # the newest few: one of a moment in which a model was down must not hide the good one before it


def content_hash(pepper: bytes, org_id: str, ask: Ask, version: Version, lists: Mapping[str | None, int]) -> str:
    """sha256:… of the text in NFKC and the version's id, under the server's secret. What else may change the
    decision goes in where there is any: the language that the caller named, and the versions of the operator's lists
    that answer (`Lexicons.standing`), so that nothing the former list decided outlives it."""
    said = [unicodedata.normalize("NFKC", ask.text).encode("utf-8", "surrogatepass"), version.id.encode()]
    if ask.language != "auto" or lists:
        said.append(f"{ask.language} {lists.get(None, 0)} {lists.get(org_id, 0)}".encode())
    return "sha256:" + hmac.new(pepper, b"".join(said), hashlib.sha256).hexdigest()


def find(
    conn: Connection, org_id: str, content_hash: str, version: Version, now: int, *, with_heads: bool
) -> Verdict | None:
    """What was decided of this text within the policy's time, by all that the policy asks; with the heads' labels when
    they are needed."""
    # named, for left to itself SQLite takes the index by time, and goes through all that was decided since
    rows = conn.execute(
        """
        SELECT id FROM moderation_event INDEXED BY moderation_event_hash
        WHERE org_id = :org AND content_hash = :hash AND version_id = :version AND created_at > :since
            AND modality = 'text'
        ORDER BY seq DESC
        LIMIT :tried
        """,
        {
            "org": org_id,
            "hash": bytes.fromhex(content_hash.removeprefix("sha256:")),
            "version": version.id,
            "since": now - version.body.hash_reuse.ttl_seconds * 1000,
            "tried": _TRIED,
        },
    ).fetchall()
    for row in rows:
        found = events.get(conn, org_id, row["id"]).verdict
        if found.provider_status == "complete" and not (with_heads and not found.analysis.labels):
            return found
    return None


def again(found: Verdict, event_id: str, request_id: str, now: int, ms: float) -> Verdict:
    """The same decision as an event of its own."""
    return msgspec.structs.replace(
        found,
        event_id=event_id,
        request_id=request_id,
        created_at=now,
        processing_ms=ms,
        mode="cache_hit",
        reason="cache_hit",
        text_llm_credits=0,
        is_cached=True,
    )
