"""What callers say that a comment's scores should have been: a reviewer's word, kept with a hash of the text."""

import hashlib
import hmac
import json
import unicodedata
from collections.abc import Mapping

import msgspec

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.database import Connection


class Suggested(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one attribute."""

    summary: float | None = None
    spans: list[tuple[int, int, float]] = []


class Suggestion(msgspec.Struct, frozen=True):
    content_hash: bytes
    scores: Mapping[str, Suggested]
    languages: tuple[str, ...] = ()
    client_token: str | None = None
    session_id: str | None = None
    community_id: str | None = None


def hash_of(pepper: bytes, text: str) -> bytes:
    """The same for every policy, so that one comment is found again whatever it was decided by."""
    return hmac.new(
        pepper, unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass"), hashlib.sha256
    ).digest()


def record(conn: Connection, caller: Caller, made: Suggestion) -> None:
    conn.execute(
        """
        INSERT INTO suggested_score
            (org_id, key_id, content_hash, scores, languages, client_token, session_id, community_id, created_at)
        VALUES (:org, :key, :hash, :scores, :languages, :token, :session, :community, :now)
        """,
        {
            "org": caller.org_id,
            "key": caller.key_id,
            "hash": made.content_hash,
            "scores": msgspec.json.encode(made.scores).decode(),
            "languages": json.dumps(made.languages),
            "token": made.client_token,
            "session": made.session_id,
            "community": made.community_id,
            "now": clock.now_ms(),
        },
    )
