-- Numbers for a monitor, which asks every few seconds: each statement reads narrow rows once.

-- files --
SELECT status, count(*) FROM files GROUP BY status

-- failures --
SELECT error, count(*) FROM files WHERE status = 'failed' GROUP BY error

-- chunks --
-- As counted when each generation was completed: counting the rows themselves takes a second for a million. Until the
-- next run of `vector_index` also of versions that were replaced.
SELECT coalesce(sum(chunks), 0)::bigint, coalesce(sum(pages), 0)::bigint FROM generations WHERE complete

-- unembedded --
SELECT state, count(*) FROM unembedded_texts GROUP BY state

-- embeddings --
-- Of many, PostgreSQL's estimate, which each run of `vector_index` renews.
SELECT CASE WHEN reltuples > 100000 THEN reltuples::bigint ELSE (SELECT count(*) FROM embeddings) END
FROM pg_class WHERE oid = 'embeddings'::regclass

-- batches --
SELECT status, count(*), coalesce(sum(predicted_seconds), 0) FROM batches GROUP BY status

-- peaks --
-- Of the last batches that a run measured, the latest first.
SELECT predicted_peak_bytes, measured_peak_bytes, extract(epoch FROM ended_at)::float8 FROM batches
WHERE ended_at IS NOT NULL AND measured_peak_bytes IS NOT NULL ORDER BY ended_at DESC LIMIT 20

-- attempts --
SELECT count(*), count(*) FILTER (WHERE outcome = 'killed'), coalesce(sum(pages), 0)::bigint,
       coalesce(sum(chunks_embedded), 0)::bigint, coalesce(sum(parse_seconds), 0), coalesce(sum(embed_seconds), 0),
       coalesce(sum(extract_seconds), 0)
FROM attempts

-- incidents --
SELECT cause, count(*) FROM incidents GROUP BY cause

-- usage --
SELECT stage, model, sum(calls)::bigint, sum(failed_calls)::bigint, sum(prompt_tokens)::bigint,
       sum(completion_tokens)::bigint
FROM api_usage GROUP BY stage, model
