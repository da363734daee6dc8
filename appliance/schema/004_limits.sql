-- What was answered to a request that named an Idempotency-Key. Born in the transaction of the effect; for work that
-- calls out it is born before, without an answer, and the lease says until when somebody is at it.

DROP TABLE idempotency;
CREATE TABLE idempotency (
    seq INTEGER PRIMARY KEY,
    org_id TEXT NOT NULL,  -- '' = the operators'
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,  -- HMAC-SHA-256(pepper, what was asked): the text cannot be guessed from it
    work_id TEXT NOT NULL,  -- the same for every try of the same work
    status INTEGER,  -- of the answer; NULL = not answered yet
    body BLOB,
    lease_until INTEGER,
    created_at INTEGER NOT NULL,
    UNIQUE (org_id, route, key)
) STRICT;
CREATE INDEX idempotency_age ON idempotency (created_at);
