-- Which files `ingest reset` is about.

-- select_files --
-- Files by what was asked for, and what a reset would do to each; in the order of source and path.
SELECT file_id, source, path, status, error,
       CASE WHEN status = 'failed' AND (version = '' OR coalesce(fingerprint, '') LIKE 'formats:%%') THEN 'read again'
            WHEN status = 'failed' THEN 'try again'
            WHEN is_stuck THEN 'release'
            WHEN status = 'indexed' AND gaps <> '[]' THEN 'parse again'
            ELSE 'none' END AS action
FROM (
    SELECT f.*, f.status IN ('synced', 'processing', 'processed') AND (f.batch IS NOT NULL OR f.status <> 'synced')
           AND NOT EXISTS (SELECT FROM batch_files m JOIN batches b USING (batch)
                           WHERE m.batch = f.batch AND m.file_id = f.file_id AND m.version = f.version
                             AND b.status IN ('waiting', 'running')) AS is_stuck
    FROM files f WHERE f.status <> 'deleted'
) f
WHERE (%(failed)s AND status = 'failed') OR (%(stuck)s AND is_stuck)
   OR (%(reason)s::text IS NOT NULL AND (status = 'failed' AND error = %(reason)s OR status = 'indexed' AND EXISTS (
       SELECT FROM jsonb_array_elements(gaps) gap
       WHERE split_part(split_part(gap->>'reason', ':', 1), ';', 1) = %(reason)s)))
   OR EXISTS (SELECT FROM unnest(%(paths)s::text[]) wanted
              WHERE wanted IN (path, source || '/' || path)
                 OR starts_with(path, wanted || '/') OR starts_with(source || '/' || path, wanted || '/'))
ORDER BY source, path

-- forget_rejections --
-- Texts of these files that the embedder rejected are asked for again.
DELETE FROM unembedded_texts u USING files f JOIN chunks c ON c.generation_id IN (f.next_generation_id, f.generation_id)
WHERE f.file_id = ANY(%(file_ids)s) AND u.text_hash = c.text_hash AND u.state = 'rejected'
