-- A term may be an expression too (RE2). SQLite cannot change a CHECK, so the table is made anew, and what stands on it.

CREATE TABLE keyword_made (
    id TEXT PRIMARY KEY,
    org_id TEXT REFERENCES organisation (id),  -- NULL = every organisation's
    keyword TEXT NOT NULL,
    match TEXT NOT NULL DEFAULT 'word' CHECK (match IN ('word', 'substring', 'regex')),
    category TEXT,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO keyword_made SELECT id, org_id, keyword, match, category, enabled, created_at FROM keyword;
DROP TABLE keyword;
ALTER TABLE keyword_made RENAME TO keyword;
CREATE UNIQUE INDEX keyword_once ON keyword (ifnull(org_id, ''), keyword, match);
CREATE TRIGGER keyword_added AFTER INSERT ON keyword BEGIN INSERT INTO keyword_version VALUES (ifnull(NEW.org_id, ''), 1) ON CONFLICT DO UPDATE SET version = version + 1; END;
CREATE TRIGGER keyword_changed AFTER UPDATE ON keyword BEGIN INSERT INTO keyword_version VALUES (ifnull(NEW.org_id, ''), 1) ON CONFLICT DO UPDATE SET version = version + 1; END;
CREATE TRIGGER keyword_removed AFTER DELETE ON keyword BEGIN INSERT INTO keyword_version VALUES (ifnull(OLD.org_id, ''), 1) ON CONFLICT DO UPDATE SET version = version + 1; END;
