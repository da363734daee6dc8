-- Times are milliseconds since the epoch, UTC. JSON is TEXT. Ids that leave the house are UUIDs; seq and id integers do not.

CREATE TABLE organisation (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'terminated')),
    status_reason TEXT,
    checks_off TEXT NOT NULL DEFAULT '{}',  -- moderation-config: only the checks that are off, {"nsfw": false}
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,  -- the first characters, for display
    digest BLOB NOT NULL UNIQUE,  -- HMAC-SHA-256(pepper, raw key)
    scopes TEXT NOT NULL,
    surface TEXT NOT NULL DEFAULT 'stars' CHECK (surface IN ('stars', 'omnimod')),
    environment TEXT NOT NULL DEFAULT 'live' CHECK (environment IN ('live', 'test')),
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    expires_at INTEGER,
    revoked_at INTEGER,
    rotated_from TEXT REFERENCES api_key (id)
) STRICT;
CREATE INDEX api_key_org ON api_key (org_id);

CREATE TABLE custom_category (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    question TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (org_id, slug)
) STRICT;

CREATE TABLE keyword (
    id TEXT PRIMARY KEY,
    org_id TEXT REFERENCES organisation (id),  -- NULL = every organisation's
    keyword TEXT NOT NULL,
    match TEXT NOT NULL DEFAULT 'word' CHECK (match IN ('word', 'substring')),
    category TEXT,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX keyword_once ON keyword (ifnull(org_id, ''), keyword, match);

-- What a client submitted. Its children are in child.
CREATE TABLE job (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    key_id TEXT REFERENCES api_key (id),
    kind TEXT NOT NULL CHECK (kind IN ('PROMPT_MODERATION', 'IMAGE_MODERATION', 'VIDEO_MODERATION')),
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'completed', 'failed')),
    origin TEXT NOT NULL DEFAULT 'stars',  -- the surface it came through
    request_id TEXT,
    plan TEXT NOT NULL DEFAULT '{}',  -- the questions as they stood at submission: later changes do not touch it
    webhook_url TEXT,
    is_prohibited INTEGER,
    categories TEXT,
    reason TEXT,
    error_code TEXT,
    error TEXT,
    total INTEGER NOT NULL DEFAULT 0,  -- children that a progress bar counts: frames for a video
    done INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    completed_at INTEGER
) STRICT;
CREATE INDEX job_of_org ON job (org_id, created_at DESC, id);
CREATE INDEX job_open ON job (created_at) WHERE status IN ('queued', 'processing');

-- How many jobs are open, kept by triggers: a submission asks it, and counting 100,000 rows would cost more than the rest.
CREATE TABLE backlog (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    open_jobs INTEGER NOT NULL
) STRICT;
INSERT INTO backlog VALUES (1, 0);
CREATE TRIGGER job_opened AFTER INSERT ON job WHEN new.status IN ('queued', 'processing')
    BEGIN UPDATE backlog SET open_jobs = open_jobs + 1; END;
CREATE TRIGGER job_closed AFTER UPDATE OF status ON job
    WHEN old.status IN ('queued', 'processing') AND new.status NOT IN ('queued', 'processing')
    BEGIN UPDATE backlog SET open_jobs = open_jobs - 1; END;
CREATE TRIGGER job_opened_again AFTER UPDATE OF status ON job
    WHEN old.status NOT IN ('queued', 'processing') AND new.status IN ('queued', 'processing')
    BEGIN UPDATE backlog SET open_jobs = open_jobs + 1; END;
CREATE TRIGGER job_erased AFTER DELETE ON job WHEN old.status IN ('queued', 'processing')
    BEGIN UPDATE backlog SET open_jobs = open_jobs - 1; END;

-- The submitted content; gone sooner than the job.
CREATE TABLE job_input (
    job_id TEXT PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    text TEXT,
    url TEXT,
    path TEXT,  -- below <home>/media
    purge_at INTEGER
) STRICT, WITHOUT ROWID;

-- One check of a job: who works on it, how often it was tried, what was found.
CREATE TABLE child (
    id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    parent_id INTEGER REFERENCES child (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('TEXT_MODERATION', 'VLM_CLASSIFICATION', 'NSFW_CLASSIFICATION',
        'FRAME_EXTRACTION', 'FRAME_MODERATION')),
    subject TEXT NOT NULL DEFAULT '',  -- a category's slug, custom:SLUG, or '' where the kind says it all
    at_ms INTEGER,  -- a frame's time in its video
    path TEXT,  -- a frame's pixels, below <home>/media
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'completed', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER,
    worker TEXT,
    finding TEXT,  -- JSON: scores against thresholds, model, digest, device, milliseconds
    is_positive INTEGER,
    error_code TEXT,
    error TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER
) STRICT;
CREATE INDEX child_of_job ON child (job_id);
CREATE INDEX child_open ON child (status, not_before) WHERE status IN ('queued', 'processing');

CREATE TABLE webhook_endpoint (
    org_id TEXT PRIMARY KEY REFERENCES organisation (id),
    url TEXT NOT NULL,
    disabled_at INTEGER,
    disabled_reason TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- Signs every delivery of an organisation, to its endpoint and to per-request addresses alike.
CREATE TABLE webhook_secret (
    org_id TEXT PRIMARY KEY REFERENCES organisation (id),
    secret TEXT NOT NULL,
    previous TEXT,
    previous_until INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE delivery (
    id TEXT PRIMARY KEY,  -- wh_<job_id>: the same at every attempt
    org_id TEXT NOT NULL REFERENCES organisation (id),
    job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    is_global INTEGER NOT NULL,  -- to the registered endpoint, not to a per-request address
    body TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sending', 'delivered', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    lease_until INTEGER,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX delivery_open ON delivery (org_id, next_at) WHERE status IN ('pending', 'sending');
-- counts what one tenant has under way
CREATE INDEX delivery_sending ON delivery (org_id) WHERE status = 'sending';
CREATE INDEX delivery_of_org ON delivery (org_id, created_at DESC);

CREATE TABLE delivery_attempt (
    id INTEGER PRIMARY KEY,
    delivery_id TEXT NOT NULL REFERENCES delivery (id) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    http_status INTEGER,
    error TEXT,
    ms REAL NOT NULL
) STRICT;
CREATE INDEX delivery_attempt_of ON delivery_attempt (delivery_id);

CREATE TABLE idempotency (
    org_id TEXT NOT NULL REFERENCES organisation (id),
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, route, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    org_id TEXT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TRIGGER audit_only_inserted BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit log is only ever added to'); END;
