-- Thresholds that the administrator has moved. A change is only ever added; a value that is NULL means the file's again.
CREATE TABLE threshold_change (
    id INTEGER PRIMARY KEY,
    category TEXT NOT NULL,
    source TEXT NOT NULL,  -- MODEL:LABEL+LABEL as config/categories.toml has it, or judge
    value REAL CHECK (value > 0 AND value <= 1),
    was REAL NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER threshold_change_not_changed BEFORE UPDATE ON threshold_change BEGIN SELECT raise(ABORT, 'changes of a threshold are only ever added to'); END;
CREATE TRIGGER threshold_change_not_removed BEFORE DELETE ON threshold_change BEGIN SELECT raise(ABORT, 'changes of a threshold are only ever added to'); END;

-- What holds in place of the file: a few rows, so that each job reads them.
CREATE TABLE threshold_now (
    category TEXT NOT NULL,
    source TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (category, source)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER threshold_moved AFTER INSERT ON threshold_change WHEN NEW.value IS NOT NULL BEGIN INSERT INTO threshold_now VALUES (NEW.category, NEW.source, NEW.value) ON CONFLICT DO UPDATE SET value = excluded.value; END;
CREATE TRIGGER threshold_given_back AFTER INSERT ON threshold_change WHEN NEW.value IS NULL BEGIN DELETE FROM threshold_now WHERE category = NEW.category AND source = NEW.source; END;
