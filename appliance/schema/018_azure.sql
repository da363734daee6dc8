-- Blocklists by name, as Azure AI Content Safety has them: a request says which of them it is held against.

CREATE TABLE named_blocklist (
    id INTEGER PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    name TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL DEFAULT 1,  -- one more with every change of its items: what was built of it is then old
    created_at INTEGER NOT NULL,
    UNIQUE (org_id, name)
) STRICT;

CREATE TABLE named_blocklist_item (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    list_id INTEGER NOT NULL REFERENCES named_blocklist (id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    description TEXT,
    UNIQUE (list_id, text)
) STRICT;
CREATE INDEX named_blocklist_item_list ON named_blocklist_item (list_id, seq);
CREATE INDEX named_blocklist_item_org ON named_blocklist_item (org_id);
