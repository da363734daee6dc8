-- Events as they are listed, replayed and removed: by an index each, newest first.

-- The seq of the table stands at the end of every index: two events of one millisecond have an order too.
DROP INDEX moderation_event_org;
DROP INDEX moderation_event_external;
CREATE INDEX moderation_event_created ON moderation_event (org_id, created_at);
-- Most are allowed, and are found by walking the one above; these are not.
CREATE INDEX moderation_event_decision ON moderation_event (org_id, decision, created_at) WHERE decision != 'allow';
CREATE INDEX moderation_event_policy ON moderation_event (org_id, policy_id, created_at);
CREATE INDEX moderation_event_language ON moderation_event (org_id, language, created_at);
CREATE INDEX moderation_event_origin ON moderation_event (org_id, origin, created_at);
CREATE INDEX moderation_event_external ON moderation_event (org_id, external_id, created_at) WHERE external_id IS NOT NULL;
CREATE INDEX moderation_event_job ON moderation_event (job_id) WHERE job_id IS NOT NULL;
