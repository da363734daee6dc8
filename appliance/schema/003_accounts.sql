-- Plans: limits, how use is charged, and at what price, in millionths of a dollar. NULL = as the settings say.

CREATE TABLE plan (
    slug TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    requests_per_minute INTEGER,
    burst_per_second INTEGER,  -- 0 = no burst limit
    charge_method TEXT NOT NULL DEFAULT 'none' CHECK (charge_method IN ('per_job', 'gpu_time', 'none')),
    prompt_micros INTEGER NOT NULL DEFAULT 0,
    image_micros INTEGER NOT NULL DEFAULT 0,
    video_micros INTEGER NOT NULL DEFAULT 0,
    gpu_second_micros INTEGER NOT NULL DEFAULT 0,
    stripe_price TEXT,  -- what a subscription to it is sold as
    is_hidden INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

INSERT INTO plan (slug, name, created_at, updated_at) VALUES ('standard', 'Standard', 0, 0);

-- What is set here goes before what the plan says.
ALTER TABLE organisation ADD COLUMN plan TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE organisation ADD COLUMN requests_per_minute INTEGER;
ALTER TABLE organisation ADD COLUMN burst_per_second INTEGER;
ALTER TABLE organisation ADD COLUMN charge_method TEXT CHECK (charge_method IN ('per_job', 'gpu_time', 'none'));
ALTER TABLE organisation ADD COLUMN retain_prompts_days INTEGER;

ALTER TABLE job ADD COLUMN batch_id TEXT;
ALTER TABLE job ADD COLUMN batch_key TEXT;
-- What the models spent on it, summed as it closes.
ALTER TABLE job ADD COLUMN gpu_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_of_batch ON job (batch_id) WHERE batch_id IS NOT NULL;
