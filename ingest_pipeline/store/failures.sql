-- What went wrong, grouped by reason: a reason, a count, the name of an example, and its message.

-- failed_files --
-- Files that failed, most frequent reason first.
SELECT coalesce(error, '') AS reason, count(*)::int AS count, min(source || '/' || path) AS example,
       (array_agg(message ORDER BY source, path))[1] AS message
FROM files WHERE status = 'failed' GROUP BY 1 ORDER BY 2 DESC, 1

-- gapped_files --
-- Searchable files with pages that could not be read; each file counts once for each reason.
SELECT reason, count(*)::int AS count, min(name) AS example, (array_agg(message ORDER BY name))[1] AS message
FROM (
    SELECT DISTINCT ON (f.file_id, reason) f.source || '/' || f.path AS name,
           split_part(split_part(gap->>'reason', ':', 1), ';', 1) AS reason,
           'page ' || (gap->>'page_from') || ': ' || (gap->>'reason') AS message
    FROM files f, jsonb_array_elements(f.gaps) gap WHERE f.status = 'indexed'
    ORDER BY f.file_id, reason, (gap->>'page_from')::int
) g GROUP BY 1 ORDER BY 2 DESC, 1

-- failed_sections --
-- Sections of searchable files without a usable answer.
SELECT coalesce(x.error, '') AS reason, count(*)::int AS count,
       min(f.source || '/' || f.path || ', section ' || x.ordinal) AS example,
       (array_agg(x.message ORDER BY f.source, f.path, x.ordinal))[1] AS message
FROM section_extracts x JOIN files f USING (generation_id) WHERE x.status = 'failed' GROUP BY 1 ORDER BY 2 DESC, 1

-- given_up_batches --
-- Batches whose runs failed three times in a row; the reason is the first word of the message.
SELECT coalesce(substring(message FROM '^[A-Za-z]+'), '') AS reason, count(*)::int AS count, min(batch) AS example,
       (array_agg(message ORDER BY batch))[1] AS message
FROM batches WHERE status = 'failed' GROUP BY 1 ORDER BY 2 DESC, 1

-- incidents --
-- Runs that ended for a reason that is no file's, since the last catalog run.
SELECT cause AS reason, count(*)::int AS count, min(batch) AS example,
       (array_agg(message ORDER BY incident_id DESC))[1] AS message
FROM incidents WHERE NOT reset GROUP BY 1 ORDER BY 2 DESC, 1
