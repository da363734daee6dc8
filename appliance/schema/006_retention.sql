-- What is kept, for how long, and how it goes so that its bytes are gone as well.

-- secure_delete zeroes what is deleted, but a page that is split or joined leaves copies of the rows that moved in its
-- unused space, and those outlive the rows: with texts by job_id, secure_delete always on, 67 of 6,000 deleted ones were
-- still found in the file. So content never moves: it is appended, overwritten in place by as many zero bytes when it is
-- to go, and such empty rows are removed from the front only, far from any that is kept (jobs/content.py): 0 of 8,956.
-- There is no reference to job, whose cascade would remove a row where it stands.
CREATE TABLE job_content (
    seq INTEGER PRIMARY KEY,  -- the job's
    job_id TEXT NOT NULL UNIQUE,  -- when the job is gone: seq, in as many digits as the id had characters
    is_kept INTEGER NOT NULL DEFAULT 1,  -- 0 and 1 take the same room in a row
    text TEXT,
    url TEXT,
    path TEXT  -- below <home>/media
) STRICT;
INSERT INTO job_content (seq, job_id, text, url, path) SELECT seq, job_id, text, url, path FROM job_input ORDER BY seq;
DROP TABLE job_input;

-- The submitted content that is still there. To delete a row of it is to empty it.
CREATE VIEW job_input AS SELECT seq, job_id, text, url, path FROM job_content WHERE is_kept = 1;
CREATE TRIGGER job_input_added INSTEAD OF INSERT ON job_input BEGIN
    INSERT INTO job_content (seq, job_id, text, url, path) VALUES (new.seq, new.job_id, new.text, new.url, new.path)
    ; END;
CREATE TRIGGER job_input_emptied INSTEAD OF DELETE ON job_input BEGIN
    UPDATE job_content
    SET is_kept = 0, text = iif(text IS NULL, NULL, CAST(zeroblob(octet_length(text)) AS TEXT)),
        url = iif(url IS NULL, NULL, CAST(zeroblob(octet_length(url)) AS TEXT)),
        path = iif(path IS NULL, NULL, CAST(zeroblob(octet_length(path)) AS TEXT))
    WHERE seq = old.seq
    ; END;
CREATE TRIGGER job_content_emptied AFTER DELETE ON job BEGIN
    DELETE FROM job_input WHERE seq = old.seq
    ; UPDATE job_content SET job_id = printf('%0*d', octet_length(job_id), seq) WHERE seq = old.seq
    ; END;

-- What a closed job still has. A job is first without its trace, then it goes itself: it stands in one index at a time.
ALTER TABLE job ADD COLUMN has_input INTEGER NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN has_trace INTEGER NOT NULL DEFAULT 1;
CREATE INDEX job_with_input ON job (org_id, completed_at) WHERE has_input = 1 AND completed_at IS NOT NULL;
CREATE INDEX job_with_trace ON job (completed_at) WHERE has_trace = 1 AND completed_at IS NOT NULL;
CREATE INDEX job_without_trace ON job (completed_at) WHERE has_trace = 0 AND completed_at IS NOT NULL;

-- A deleted row's references are looked for: without these, by reading whole tables.
CREATE INDEX child_of_parent ON child (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX delivery_of_job ON delivery (job_id);
CREATE INDEX delivery_finished ON delivery (finished_at) WHERE finished_at IS NOT NULL;

-- When each purge ran last, for the operator; `log` is when nothing of it was left in the write-ahead log.
CREATE TABLE retention_run (
    what TEXT PRIMARY KEY,
    ran_at INTEGER NOT NULL,
    removed INTEGER NOT NULL,  -- by that run
    removed_at INTEGER NOT NULL,  -- when something was removed last; 0 = never
    removed_ever INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
