-- The jobs that were there before 005_history.sql.

INSERT INTO job_count_hour
    SELECT org_id, created_at - created_at % 3600000, facet, count(*) FROM job WHERE facet % 6 > 1 GROUP BY 1, 2, 3;
INSERT INTO job_count_day
    SELECT org_id, at - at % 86400000, facet, sum(jobs) FROM job_count_hour GROUP BY 1, 2, 3;
INSERT INTO job_count_head
    SELECT org_id, substr(id, 1, 2), created_at - created_at % 86400000, facet, count(*) FROM job WHERE facet % 6 > 1
    GROUP BY 1, 2, 3, 4;
INSERT INTO job_count_head
    SELECT org_id, substr(head, 1, 1), at, facet, sum(jobs) FROM job_count_head GROUP BY 1, 2, 3, 4;

INSERT INTO usage (org_id, step, at, prompt_jobs, image_jobs, video_jobs)
    SELECT org_id, step, created_at - created_at % step, sum(facet / 6 = 0), sum(facet / 6 = 1), sum(facet / 6 = 2)
    FROM job, (SELECT 60000 AS step UNION ALL SELECT 3600000)
    WHERE step = 3600000 OR created_at >= (unixepoch() - 172800) * 1000
    GROUP BY 1, 2, 3;
INSERT INTO usage (org_id, step, at, passed, rejected, ai_adult_general, underage, nsfw, gpu_ms, tokens)
    SELECT org_id, step, at, sum(passed), sum(rejected), sum(ai_adult_general), sum(underage), sum(nsfw), sum(gpu_ms),
        sum(tokens)
    FROM job_yield WHERE step = 3600000 OR at >= (unixepoch() - 172800) * 1000
    GROUP BY org_id, step, at
    ON CONFLICT DO UPDATE SET passed = excluded.passed, rejected = excluded.rejected,
        ai_adult_general = excluded.ai_adult_general, underage = excluded.underage, nsfw = excluded.nsfw,
        gpu_ms = excluded.gpu_ms, tokens = excluded.tokens;
INSERT INTO usage_custom
    SELECT org_id, at, slug, count(*), sum(is_true) FROM job_yield_custom GROUP BY org_id, at, slug;
