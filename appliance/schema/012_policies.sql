-- Policies of the synchronous surfaces. A version never changes: an event names the one it was decided by.

-- Synchronous requests a month, in UTC; NULL = as many as are sent.
ALTER TABLE plan ADD COLUMN monthly_request_quota INTEGER;
INSERT OR IGNORE INTO plan (slug, name, monthly_request_quota, is_hidden, created_at, updated_at) VALUES
    ('free', 'Free', 100, 0, 0, 0),
    ('developer', 'Developer', 10000, 0, 0, 0),
    ('launch', 'Launch', 100000, 0, 0, 0),
    ('growth', 'Growth', 1000000, 0, 0, 0),
    ('flex', 'Flex', NULL, 1, 0, 0);

CREATE TABLE policy (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    is_default INTEGER NOT NULL DEFAULT 0,
    active INTEGER NOT NULL,  -- the number of the version in force
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (org_id, slug)
) STRICT;
CREATE UNIQUE INDEX policy_default ON policy (org_id) WHERE is_default;

CREATE TABLE policy_version (
    id TEXT PRIMARY KEY,
    policy_id TEXT NOT NULL REFERENCES policy (id),
    org_id TEXT NOT NULL REFERENCES organisation (id),
    number INTEGER NOT NULL,
    body TEXT NOT NULL,  -- JSON: policies/version.py's Body
    made_by TEXT NOT NULL,
    reason TEXT,
    copied_from INTEGER,  -- the number of the version that was rolled back to
    created_at INTEGER NOT NULL,
    UNIQUE (policy_id, number)
) STRICT;
CREATE TRIGGER policy_version_stays BEFORE UPDATE ON policy_version BEGIN SELECT raise(ABORT, 'a policy version never changes'); END;
