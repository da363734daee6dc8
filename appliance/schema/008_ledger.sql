-- The ledger: only ever added to. A job's id stands here without a reference: the job goes sooner than its entry.

CREATE TABLE ledger (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    type TEXT NOT NULL CHECK (type IN ('charge', 'credit', 'refund', 'stripe_refund')),
    amount_micros INTEGER NOT NULL,  -- signed: charge and stripe_refund are negative
    balance_micros INTEGER NOT NULL,  -- after it
    source_type TEXT NOT NULL,  -- why: job, job_failed, manual, checkout, …
    source_id TEXT NOT NULL,
    job_id TEXT,
    modality TEXT,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (source_type, source_id)
) STRICT;
CREATE INDEX ledger_of_org ON ledger (org_id, seq DESC);
CREATE INDEX ledger_of_type ON ledger (org_id, type, seq DESC);
CREATE TRIGGER ledger_not_changed BEFORE UPDATE ON ledger BEGIN SELECT raise(ABORT, 'the ledger is only ever added to'); END;
CREATE TRIGGER ledger_not_removed BEFORE DELETE ON ledger BEGIN SELECT raise(ABORT, 'the ledger is only ever added to'); END;

-- What a job costs, as it was agreed when it was accepted: flat, or for a second of a GPU; NULL = not charged so.
ALTER TABLE job ADD COLUMN price_micros INTEGER;
ALTER TABLE job ADD COLUMN gpu_second_micros INTEGER;
