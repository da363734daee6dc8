-- What callers of Perspective's comments:suggestscore say of a comment's scores: never its text.

CREATE TABLE suggested_score (
    id INTEGER PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    key_id TEXT REFERENCES api_key (id),
    content_hash BLOB NOT NULL,  -- 32 bytes: HMAC-SHA-256 of the text under the server's pepper
    scores TEXT NOT NULL,  -- JSON: attribute → {summary, spans: [[begin, end, score], …]}
    languages TEXT NOT NULL,  -- JSON: as given, else as detected
    client_token TEXT,
    session_id TEXT,
    community_id TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX suggested_score_org ON suggested_score (org_id, id);
