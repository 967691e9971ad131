-- What is known of files, for whoever looks at them: a list in pages, and all about one.

-- file --
-- One file, whatever became of it. A file that failed has the gaps that were found before in its generation.
SELECT f.file_id, f.source, f.path, f.version, f.media_type, f.size_bytes AS bytes, f.status, f.error, f.message,
       f.retryable, f.attempts AS attempt_count, f.kills, f.batch, f.pages, f.predicted_peak_bytes,
       f.measured_peak_bytes, f.embed_peak_bytes, f.seconds, f.first_seen_at, f.updated_at, f.warnings, f.generation_id,
       g.version AS searchable_version, g.title, coalesce(g.pages, 0) AS searchable_pages,
       coalesce(g.chunks, 0) AS chunks, coalesce(g.tokens, 0) AS tokens, m.name AS model,
       CASE WHEN f.gaps <> '[]' THEN f.gaps ELSE coalesce((
           SELECT n.gaps FROM generations n WHERE n.version = f.version AND f.status = 'failed' AND NOT n.complete
           ORDER BY n.generation_id DESC LIMIT 1), '[]') END AS gaps
FROM files f
LEFT JOIN generations g USING (generation_id)
LEFT JOIN models m ON m.model_id = f.model_id
WHERE f.file_id = %(file)s

-- attempts --
-- The latest first.
SELECT batch, run_id, stage, open, outcome, error, pages, chunks_embedded, parse_seconds, embed_seconds,
       extract_seconds, parse_peak_bytes, embed_peak_bytes, started_at, ended_at
FROM attempts WHERE file_id = %(file)s ORDER BY attempt_id DESC LIMIT %(limit)s

-- batch --
-- That it is in now; of a file that is in none, the one that had it last.
SELECT b.batch, b.status, b.files, b.runs, b.failures, b.message, b.memory_limit_bytes, b.predicted_peak_bytes,
       b.measured_peak_bytes, b.sealed_at, b.started_at, b.ended_at
FROM batches b JOIN batch_files m USING (batch) JOIN files f USING (file_id)
LEFT JOIN attempts a ON a.batch = b.batch AND a.file_id = f.file_id
WHERE m.file_id = %(file)s ORDER BY b.batch = f.batch DESC NULLS LAST, a.attempt_id DESC NULLS LAST, b.sealed_at DESC
LIMIT 1

-- sections --
-- Of what readers see, in document order, after one of them.
SELECT s.ordinal, s.level, s.title, s.path, s.page_from, s.page_to
FROM sections s JOIN files f USING (generation_id)
WHERE f.file_id = %(file)s AND s.ordinal > %(after)s ORDER BY s.ordinal LIMIT %(limit)s

-- section_count --
SELECT count(*) FROM sections s JOIN files f USING (generation_id) WHERE f.file_id = %(file)s

-- extracts --
-- What was asked about its sections, and the answers.
SELECT x.prompt, x.ordinal AS section, x.title, x.page_from, x.page_to, x.model, x.status, a.answer, a.prompt_tokens,
       a.completion_tokens, a.seconds, x.error, x.message
FROM files f JOIN section_extracts x USING (generation_id)
LEFT JOIN extract_answers a ON x.status = 'done' AND a.content_hash = x.content_hash
      AND a.prompt_version = x.prompt_version AND a.model = x.model
WHERE f.file_id = %(file)s ORDER BY x.prompt, x.ordinal LIMIT %(limit)s

-- extract_counts --
SELECT x.status, count(*) FROM files f JOIN section_extracts x USING (generation_id)
WHERE f.file_id = %(file)s GROUP BY 1 ORDER BY 1

-- entities --
-- The names that stand in it most often, without numbers and dates; names that differ in case alone are one.
SELECT n.label, mode() WITHIN GROUP (ORDER BY n.name) AS name,
       count(DISTINCT (c.ordinal, n.char_from))::int AS count    -- two models may have found it at one place
FROM files f JOIN chunks c USING (generation_id) JOIN entities n USING (text_hash)
WHERE f.file_id = %(file)s AND n.label <> ALL (%(without)s)
GROUP BY n.label, lower(n.name) ORDER BY 3 DESC, lower(n.name), n.label LIMIT %(limit)s

-- unembedded --
-- Chunks that readers see and no vector finds.
SELECT u.state, count(*) FROM files f JOIN chunks c USING (generation_id)
JOIN unembedded_texts u ON u.model_id = f.model_id AND u.text_hash = c.text_hash
WHERE f.file_id = %(file)s GROUP BY 1 ORDER BY 1

-- same_bytes --
-- Other files with the same bytes.
SELECT o.file_id, o.source, o.path, o.status FROM files f JOIN files o USING (version)
WHERE f.file_id = %(file)s AND o.file_id <> f.file_id AND f.version <> '' AND o.status <> 'deleted'
ORDER BY o.source, o.path LIMIT %(limit)s
