-- What policy versions were worth on labelled data: figures, and hashes of the worst misses, never a text.

CREATE TABLE policy_evaluation (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    version_id TEXT NOT NULL REFERENCES policy_version (id),
    data TEXT NOT NULL,  -- the file's name
    data_digest TEXT NOT NULL,  -- sha256 of its bytes
    texts INTEGER NOT NULL,
    answered_by TEXT NOT NULL,  -- JSON: model → digest of its weights
    report TEXT NOT NULL,  -- JSON: text/evaluation.py's Report
    made_by TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX policy_evaluation_of ON policy_evaluation (org_id, version_id, created_at);
