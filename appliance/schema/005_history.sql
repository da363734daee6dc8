-- What the list of jobs counts with, and what usage sums. The two are kept apart: the list tells of rows that exist, so
-- its counts go down when retention deletes a job; usage is accounting, and stays. Both are kept by triggers, so that they
-- are right whichever way a job is made, closed or deleted. Inside a trigger a semicolon begins its line, because
-- statements are told apart by one that ends a line.

-- The input lies in the job's order, by its seq, so that reading many jobs reads neighbouring pages: an export of a million
-- jobs went at 316,000 rows/s by job_id, and at 1,294,000 by seq.
CREATE TABLE job_input_made (
    seq INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    job_id TEXT NOT NULL UNIQUE,
    text TEXT,
    url TEXT,
    path TEXT,  -- below <home>/media
    purge_at INTEGER
) STRICT;
INSERT INTO job_input_made
    SELECT job.seq, job_id, text, url, path, purge_at FROM job_input JOIN job ON job.id = job_id ORDER BY job.seq;
DROP TABLE job_input;
ALTER TABLE job_input_made RENAME TO job_input;

-- What the list can be filtered by, as one number: kind × 6 + state; states 0 and 1 are open. jobs/history.py names them.
ALTER TABLE job ADD COLUMN facet INTEGER GENERATED ALWAYS AS (
    CASE kind WHEN 'PROMPT_MODERATION' THEN 0 WHEN 'IMAGE_MODERATION' THEN 6 ELSE 12 END
    + CASE status WHEN 'queued' THEN 0 WHEN 'processing' THEN 1 WHEN 'failed' THEN 5
        ELSE CASE is_prohibited WHEN 0 THEN 2 WHEN 1 THEN 3 ELSE 4 END END
    ) VIRTUAL;
CREATE INDEX job_listed ON job (org_id, facet, created_at DESC, id);

-- How many closed jobs there are. Open ones are counted as they are asked for: server.max_pending_jobs bounds them, and
-- every count that is not kept makes accepting and claiming cheaper.
CREATE TABLE job_count_day (
    org_id TEXT NOT NULL,
    at INTEGER NOT NULL,  -- the day's first millisecond, UTC
    facet INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (org_id, at, facet)
) STRICT, WITHOUT ROWID;
CREATE TABLE job_count_hour (
    org_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    facet INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (org_id, at, facet)
) STRICT, WITHOUT ROWID;
-- Of a day, by the first character of the id, and by the first two; for more there is job_by_id.
CREATE TABLE job_count_head (
    org_id TEXT NOT NULL,
    head TEXT NOT NULL,
    at INTEGER NOT NULL,
    facet INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (org_id, head, at, facet)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_by_id ON job (org_id, id, facet, created_at) WHERE facet % 6 > 1;

CREATE TRIGGER job_counted AFTER INSERT ON job WHEN new.facet % 6 > 1 BEGIN
    INSERT INTO job_count_day VALUES (new.org_id, new.created_at - new.created_at % 86400000, new.facet, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1
    ; INSERT INTO job_count_hour VALUES (new.org_id, new.created_at - new.created_at % 3600000, new.facet, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1
    ; INSERT INTO job_count_head
        VALUES (new.org_id, substr(new.id, 1, 1), new.created_at - new.created_at % 86400000, new.facet, 1),
            (new.org_id, substr(new.id, 1, 2), new.created_at - new.created_at % 86400000, new.facet, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1
    ; END;
CREATE TRIGGER job_closed_counted AFTER UPDATE OF status, is_prohibited ON job
    WHEN old.facet <> new.facet AND new.facet % 6 > 1 BEGIN
    INSERT INTO job_count_day VALUES (new.org_id, new.created_at - new.created_at % 86400000, new.facet, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1
    ; INSERT INTO job_count_hour VALUES (new.org_id, new.created_at - new.created_at % 3600000, new.facet, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1
    ; INSERT INTO job_count_head
        VALUES (new.org_id, substr(new.id, 1, 1), new.created_at - new.created_at % 86400000, new.facet, 1),
            (new.org_id, substr(new.id, 1, 2), new.created_at - new.created_at % 86400000, new.facet, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1
    ; END;
CREATE TRIGGER job_opened_uncounted AFTER UPDATE OF status, is_prohibited ON job
    WHEN old.facet <> new.facet AND old.facet % 6 > 1 BEGIN
    UPDATE job_count_day SET jobs = jobs - 1
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet
    ; UPDATE job_count_hour SET jobs = jobs - 1
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 3600000 AND facet = old.facet
    ; UPDATE job_count_head SET jobs = jobs - 1
        WHERE org_id = old.org_id AND head IN (substr(old.id, 1, 1), substr(old.id, 1, 2))
            AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet
    ; DELETE FROM job_count_day
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet AND jobs = 0
    ; DELETE FROM job_count_hour
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 3600000 AND facet = old.facet AND jobs = 0
    ; DELETE FROM job_count_head
        WHERE org_id = old.org_id AND head IN (substr(old.id, 1, 1), substr(old.id, 1, 2))
            AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet AND jobs = 0
    ; END;
CREATE TRIGGER job_uncounted AFTER DELETE ON job WHEN old.facet % 6 > 1 BEGIN
    UPDATE job_count_day SET jobs = jobs - 1
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet
    ; UPDATE job_count_hour SET jobs = jobs - 1
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 3600000 AND facet = old.facet
    ; UPDATE job_count_head SET jobs = jobs - 1
        WHERE org_id = old.org_id AND head IN (substr(old.id, 1, 1), substr(old.id, 1, 2))
            AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet
    ; DELETE FROM job_count_day
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet AND jobs = 0
    ; DELETE FROM job_count_hour
        WHERE org_id = old.org_id AND at = old.created_at - old.created_at % 3600000 AND facet = old.facet AND jobs = 0
    ; DELETE FROM job_count_head
        WHERE org_id = old.org_id AND head IN (substr(old.id, 1, 1), substr(old.id, 1, 2))
            AND at = old.created_at - old.created_at % 86400000 AND facet = old.facet AND jobs = 0
    ; END;

-- What an organisation used, by the bucket in which the job was submitted: whenever it closes or is paid for, it counts
-- there. Minutes are kept for two days, hours for good; a day is the sum of its hours.
CREATE TABLE usage (
    org_id TEXT NOT NULL,
    step INTEGER NOT NULL,  -- the bucket's length in milliseconds: 60000 or 3600000
    at INTEGER NOT NULL,
    prompt_jobs INTEGER NOT NULL DEFAULT 0,
    image_jobs INTEGER NOT NULL DEFAULT 0,
    video_jobs INTEGER NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    ai_adult_general INTEGER NOT NULL DEFAULT 0,
    underage INTEGER NOT NULL DEFAULT 0,
    nsfw INTEGER NOT NULL DEFAULT 0,
    gpu_ms INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    prompt_micros INTEGER NOT NULL DEFAULT 0,  -- charged less refunded
    image_micros INTEGER NOT NULL DEFAULT 0,
    video_micros INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, step, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_minute ON usage (at) WHERE step = 60000;

-- The same of custom categories, by the hour: how many jobs each judged, and how many it found true.
CREATE TABLE usage_custom (
    org_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    slug TEXT NOT NULL,
    judged INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (org_id, at, slug)
) STRICT, WITHOUT ROWID;

-- What a closed job adds to each of its buckets.
CREATE VIEW job_yield AS
    SELECT seq, org_id, step, created_at - created_at % step AS at,
        status = 'completed' AND is_prohibited IS 0 AS passed,
        status = 'completed' AND is_prohibited IS 1 AS rejected,
        status = 'completed' AND is_prohibited IS 1 AND categories ->> 'ai_adult_general' IS 1 AS ai_adult_general,
        status = 'completed' AND is_prohibited IS 1 AND categories ->> 'underage' IS 1 AS underage,
        status = 'completed' AND is_prohibited IS 1 AND categories ->> 'nsfw' IS 1 AS nsfw,
        gpu_ms, tokens
    FROM job, (SELECT 60000 AS step UNION ALL SELECT 3600000)
    WHERE status IN ('completed', 'failed');
CREATE VIEW job_yield_custom AS
    SELECT seq, org_id, created_at - created_at % 3600000 AS at, each.key AS slug,
        is_prohibited IS 1 AND each.value IS 1 AS is_true
    FROM job, json_each(categories, '$.custom') AS each
    WHERE status = 'completed';

CREATE TRIGGER usage_submitted AFTER INSERT ON job BEGIN
    INSERT INTO usage (org_id, step, at, prompt_jobs, image_jobs, video_jobs)
        SELECT new.org_id, step, new.created_at - new.created_at % step, new.kind = 'PROMPT_MODERATION',
            new.kind = 'IMAGE_MODERATION', new.kind = 'VIDEO_MODERATION'
        FROM (SELECT 60000 AS step UNION ALL SELECT 3600000) WHERE true
        ON CONFLICT DO UPDATE SET prompt_jobs = prompt_jobs + excluded.prompt_jobs,
            image_jobs = image_jobs + excluded.image_jobs, video_jobs = video_jobs + excluded.video_jobs
    ; END;
CREATE TRIGGER usage_submitted_closed AFTER INSERT ON job WHEN new.status IN ('completed', 'failed') BEGIN
    INSERT INTO usage (org_id, step, at, passed, rejected, ai_adult_general, underage, nsfw, gpu_ms, tokens)
        SELECT org_id, step, at, passed, rejected, ai_adult_general, underage, nsfw, gpu_ms, tokens
        FROM job_yield WHERE seq = new.seq
        ON CONFLICT DO UPDATE SET passed = passed + excluded.passed, rejected = rejected + excluded.rejected,
            ai_adult_general = ai_adult_general + excluded.ai_adult_general, underage = underage + excluded.underage,
            nsfw = nsfw + excluded.nsfw, gpu_ms = gpu_ms + excluded.gpu_ms, tokens = tokens + excluded.tokens
    ; INSERT INTO usage_custom SELECT org_id, at, slug, 1, is_true FROM job_yield_custom WHERE seq = new.seq
        ON CONFLICT DO UPDATE SET judged = judged + 1, rejected = rejected + excluded.rejected
    ; END;
CREATE TRIGGER usage_closed AFTER UPDATE OF status, is_prohibited, categories, gpu_ms, tokens ON job
    WHEN new.status IN ('completed', 'failed') BEGIN
    INSERT INTO usage (org_id, step, at, passed, rejected, ai_adult_general, underage, nsfw, gpu_ms, tokens)
        SELECT org_id, step, at, passed, rejected, ai_adult_general, underage, nsfw, gpu_ms, tokens
        FROM job_yield WHERE seq = new.seq
        ON CONFLICT DO UPDATE SET passed = passed + excluded.passed, rejected = rejected + excluded.rejected,
            ai_adult_general = ai_adult_general + excluded.ai_adult_general, underage = underage + excluded.underage,
            nsfw = nsfw + excluded.nsfw, gpu_ms = gpu_ms + excluded.gpu_ms, tokens = tokens + excluded.tokens
    ; INSERT INTO usage_custom SELECT org_id, at, slug, 1, is_true FROM job_yield_custom WHERE seq = new.seq
        ON CONFLICT DO UPDATE SET judged = judged + 1, rejected = rejected + excluded.rejected
    ; END;
-- A closed job that changes gives back first what it added.
CREATE TRIGGER usage_taken_back BEFORE UPDATE OF status, is_prohibited, categories, gpu_ms, tokens ON job
    WHEN old.status IN ('completed', 'failed') BEGIN
    INSERT INTO usage (org_id, step, at, passed, rejected, ai_adult_general, underage, nsfw, gpu_ms, tokens)
        SELECT org_id, step, at, -passed, -rejected, -ai_adult_general, -underage, -nsfw, -gpu_ms, -tokens
        FROM job_yield WHERE seq = old.seq
        ON CONFLICT DO UPDATE SET passed = passed + excluded.passed, rejected = rejected + excluded.rejected,
            ai_adult_general = ai_adult_general + excluded.ai_adult_general, underage = underage + excluded.underage,
            nsfw = nsfw + excluded.nsfw, gpu_ms = gpu_ms + excluded.gpu_ms, tokens = tokens + excluded.tokens
    ; INSERT INTO usage_custom SELECT org_id, at, slug, -1, -is_true FROM job_yield_custom WHERE seq = old.seq
        ON CONFLICT DO UPDATE SET judged = judged - 1, rejected = rejected + excluded.rejected
    ; END;
