-- Custom categories in versions; batches of texts; a delivery that belongs to a job or to a batch.

CREATE TABLE custom_category_made (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    slug TEXT NOT NULL,
    version INTEGER NOT NULL,  -- the present one
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    question TEXT NOT NULL,
    applies_to TEXT NOT NULL,  -- kinds of content, JSON: ["image", "video"]
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    removed_at INTEGER  -- then it is not enabled either
) STRICT;
INSERT INTO custom_category_made (id, org_id, slug, version, name, question, applies_to, enabled, created_at, updated_at)
    SELECT id, org_id, slug, 1, name, question, '["image","video"]', enabled, created_at, updated_at FROM custom_category;
DROP TABLE custom_category;
ALTER TABLE custom_category_made RENAME TO custom_category;
CREATE UNIQUE INDEX custom_category_once ON custom_category (org_id, slug) WHERE removed_at IS NULL;
CREATE INDEX custom_category_of_org ON custom_category (org_id, created_at);

-- Every state that a category had: a job names slug@version, and here stands what that was. The number goes on when a
-- slug is used again after its removal, so it never means two things.
CREATE TABLE custom_category_version (
    category_id TEXT NOT NULL REFERENCES custom_category (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    change TEXT NOT NULL CHECK (change IN ('added', 'changed', 'enabled', 'disabled', 'removed')),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    question TEXT NOT NULL,
    applies_to TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (category_id, version)
) STRICT, WITHOUT ROWID;
INSERT INTO custom_category_version
    SELECT id, 1, 'added', name, description, question, applies_to, enabled, 'system:upgrade', updated_at FROM custom_category;
CREATE TRIGGER custom_category_version_not_changed BEFORE UPDATE ON custom_category_version BEGIN SELECT raise(ABORT, 'versions of a category are only ever added to'); END;

-- Texts submitted together. Born after its jobs, in their transaction: while they are made, none of them can close it.
CREATE TABLE batch (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    webhook_url TEXT,
    total INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    completed_at INTEGER  -- as the last job closed
) STRICT;
CREATE INDEX batch_of_org ON batch (org_id, created_at);

-- Rebuilt, because job_id was NOT NULL. Its attempts are copied out and back: dropping it would take them along.
CREATE TABLE delivery_made (
    id TEXT PRIMARY KEY,  -- wh_<job_id> or wh_<batch_id>: the same at every attempt
    org_id TEXT NOT NULL REFERENCES organisation (id),
    job_id TEXT REFERENCES job (id) ON DELETE CASCADE,
    batch_id TEXT REFERENCES batch (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    is_global INTEGER NOT NULL,  -- to the registered endpoint, not to a per-request address
    body TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sending', 'delivered', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    lease_until INTEGER,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    CHECK ((job_id IS NULL) <> (batch_id IS NULL))
) STRICT;
INSERT INTO delivery_made (rowid, id, org_id, job_id, url, is_global, body, status, attempts, next_at, lease_until, created_at, finished_at)
    SELECT rowid, id, org_id, job_id, url, is_global, body, status, attempts, next_at, lease_until, created_at, finished_at FROM delivery;
CREATE TABLE delivery_attempt_made (
    id INTEGER PRIMARY KEY,
    delivery_id TEXT NOT NULL REFERENCES delivery_made (id) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    http_status INTEGER,
    error TEXT,
    ms REAL NOT NULL
) STRICT;
INSERT INTO delivery_attempt_made SELECT id, delivery_id, at, http_status, error, ms FROM delivery_attempt;
DROP TABLE delivery_attempt;
DROP TABLE delivery;
ALTER TABLE delivery_made RENAME TO delivery;
ALTER TABLE delivery_attempt_made RENAME TO delivery_attempt;
CREATE INDEX delivery_of_batch ON delivery (batch_id) WHERE batch_id IS NOT NULL;

-- A job that is erased takes along what a batch's delivery says of it, and the batch with its last job.
CREATE TRIGGER job_of_batch_erased AFTER DELETE ON job WHEN old.batch_id IS NOT NULL BEGIN DELETE FROM delivery WHERE batch_id = old.batch_id; DELETE FROM batch WHERE id = old.batch_id AND NOT EXISTS (SELECT 1 FROM job WHERE batch_id = old.batch_id); END;
