-- What the synchronous surfaces decided: scores and a hash, never the text.

CREATE TABLE moderation_event (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,  -- mev_ and a ULID
    org_id TEXT NOT NULL REFERENCES organisation (id),
    key_id TEXT REFERENCES api_key (id),
    request_id TEXT NOT NULL,
    origin TEXT NOT NULL,  -- the surface: omnimod, openai, perspective, azure, litellm, dify, …
    modality TEXT NOT NULL,
    policy_id TEXT NOT NULL,
    version_id TEXT NOT NULL,
    decision TEXT NOT NULL,
    engine_action TEXT NOT NULL,
    severity TEXT NOT NULL,
    language TEXT NOT NULL,
    content_hash BLOB NOT NULL,  -- 32 bytes: HMAC-SHA-256 under the server's pepper
    scores BLOB NOT NULL,  -- little-endian float32 in the order of text/analysis.py's ANALYZERS; NaN = not asked
    body TEXT NOT NULL,  -- JSON: what is shown and not searched
    external_id TEXT,  -- the caller's metadata.external_id
    job_id TEXT,  -- of a picture
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX moderation_event_org ON moderation_event (org_id, seq);
CREATE INDEX moderation_event_hash ON moderation_event (org_id, content_hash, version_id, seq);
CREATE INDEX moderation_event_external ON moderation_event (org_id, external_id, seq) WHERE external_id IS NOT NULL;

-- What counts against the month's quota, by day, in UTC.
CREATE TABLE moderation_use (
    org_id TEXT NOT NULL REFERENCES organisation (id),
    day TEXT NOT NULL,  -- 2026-11-21
    requests INTEGER NOT NULL DEFAULT 0,
    allowed INTEGER NOT NULL DEFAULT 0,
    flagged INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    cache_hits INTEGER NOT NULL DEFAULT 0,
    text_llm_credits INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, day)
) STRICT, WITHOUT ROWID;
