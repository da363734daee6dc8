-- Of what was passed without the judge, what it said afterwards of a sample. Its texts are in no table.

CREATE TABLE moderation_sample (
    event_id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    policy_id TEXT NOT NULL,
    version_id TEXT NOT NULL,
    action TEXT NOT NULL,  -- of the cheap stage
    judge TEXT NOT NULL,  -- the model
    probability REAL NOT NULL,
    judge_action TEXT NOT NULL,  -- by the version's own thresholds
    is_agreed INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX moderation_sample_version ON moderation_sample (org_id, version_id);
-- A sample goes with its event.
CREATE TRIGGER moderation_sample_event AFTER DELETE ON moderation_event BEGIN DELETE FROM moderation_sample WHERE event_id = OLD.id; END;
