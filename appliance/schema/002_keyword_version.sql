-- Counts the changes of each blocklist, so that a worker sees with one small read whether the list it built still stands.

CREATE TABLE keyword_version (
    org_id TEXT PRIMARY KEY,  -- '' = the list of every organisation
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER keyword_added AFTER INSERT ON keyword BEGIN INSERT INTO keyword_version VALUES (ifnull(NEW.org_id, ''), 1) ON CONFLICT DO UPDATE SET version = version + 1; END;

CREATE TRIGGER keyword_changed AFTER UPDATE ON keyword BEGIN INSERT INTO keyword_version VALUES (ifnull(NEW.org_id, ''), 1) ON CONFLICT DO UPDATE SET version = version + 1; END;

CREATE TRIGGER keyword_removed AFTER DELETE ON keyword BEGIN INSERT INTO keyword_version VALUES (ifnull(OLD.org_id, ''), 1) ON CONFLICT DO UPDATE SET version = version + 1; END;
