-- What a job cost stands in the usage of the bucket in which it was submitted, whenever it is charged or refunded. A job
-- that is gone already counts where its entry was made. The ledger is as new as this: there is nothing to fill in.

CREATE TRIGGER usage_paid AFTER INSERT ON ledger WHEN new.job_id IS NOT NULL AND new.type IN ('charge', 'refund') BEGIN
    INSERT INTO usage (org_id, step, at, prompt_micros, image_micros, video_micros)
        SELECT new.org_id, step, made - made % step, iif(new.modality = 'prompt', -new.amount_micros, 0),
            iif(new.modality = 'image', -new.amount_micros, 0), iif(new.modality = 'video', -new.amount_micros, 0)
        FROM (SELECT 60000 AS step UNION ALL SELECT 3600000),
            (SELECT ifnull((SELECT created_at FROM job WHERE id = new.job_id), new.created_at) AS made)
        WHERE true
        ON CONFLICT DO UPDATE SET prompt_micros = prompt_micros + excluded.prompt_micros,
            image_micros = image_micros + excluded.image_micros, video_micros = video_micros + excluded.video_micros
    ; END;
