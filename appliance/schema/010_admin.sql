-- The administrator's own words for the built-in questions, and an audit log from which nothing goes.

CREATE TABLE prompt_version (
    slug TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),  -- 0 is what config/categories.toml says
    content TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    rolled_back_to INTEGER,  -- the version whose words these are, if they were not written anew
    created_at INTEGER NOT NULL,
    PRIMARY KEY (slug, version)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER prompt_version_not_changed BEFORE UPDATE ON prompt_version BEGIN SELECT raise(ABORT, 'versions of a prompt are only ever added to'); END;
CREATE TRIGGER prompt_version_not_removed BEFORE DELETE ON prompt_version BEGIN SELECT raise(ABORT, 'versions of a prompt are only ever added to'); END;

-- Which one is asked: four rows at most, so that each job reads them.
CREATE TABLE prompt_now (
    slug TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER prompt_version_added AFTER INSERT ON prompt_version BEGIN INSERT INTO prompt_now VALUES (NEW.slug, NEW.version) ON CONFLICT DO UPDATE SET version = excluded.version; END;

CREATE TRIGGER audit_not_removed BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit log is only ever added to'); END;
CREATE INDEX audit_of_subject ON audit (subject, id);
CREATE INDEX audit_of_actor ON audit (actor, id);
CREATE INDEX audit_of_action ON audit (action, id);
