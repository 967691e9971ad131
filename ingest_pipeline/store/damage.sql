-- What `ingest cleanup` looks for. Each statement returns a key and a name for each row that is wrong; each begins with
-- `-- name --` and a sentence. None of them finds anything in a store that only this program has written to, also while
-- runs are at work, but leftovers of killed runs.

-- rows_without_generation --
-- Rows of a generation that does not exist: a constraint was switched off.
SELECT DISTINCT generation_id, 'generation ' || generation_id FROM (
    SELECT generation_id FROM chunks UNION SELECT generation_id FROM sections
    UNION SELECT generation_id FROM section_extracts UNION SELECT generation_id FROM extract_plans
    UNION SELECT generation_id FROM generation_lengths UNION SELECT generation_id FROM generation_models
) r WHERE NOT EXISTS (SELECT FROM generations g WHERE g.generation_id = r.generation_id)

-- shown_generation_missing --
-- Files that show a generation that does not exist.
SELECT file_id, source || '/' || path FROM files f
WHERE generation_id IS NOT NULL AND NOT EXISTS (SELECT FROM generations g WHERE g.generation_id = f.generation_id)

-- incomplete_generation_shown --
-- Files that show half a document.
SELECT f.file_id, f.source || '/' || f.path FROM files f JOIN generations g USING (generation_id) WHERE NOT g.complete

-- other_bytes_shown --
-- Indexed files that show chunks of other bytes.
SELECT f.file_id, f.source || '/' || f.path FROM files f JOIN generations g USING (generation_id)
WHERE f.status = 'indexed' AND g.version <> f.version

-- deleted_but_shown --
-- Files that are deleted and still searchable.
SELECT file_id, source || '/' || path FROM files WHERE status = 'deleted' AND generation_id IS NOT NULL

-- indexed_without_chunks --
-- Indexed files that show nothing.
SELECT file_id, source || '/' || path FROM files WHERE status = 'indexed' AND generation_id IS NULL

-- chunks_incomplete --
-- Complete generations of which chunks are missing, or that have more than they were completed with.
SELECT g.generation_id, 'generation ' || g.generation_id FROM generations g
LEFT JOIN (SELECT generation_id, count(*) AS chunks, max(ordinal) AS last FROM chunks GROUP BY 1) c USING (generation_id)
WHERE g.complete AND (coalesce(c.chunks, 0) <> g.chunks OR coalesce(c.last, -1) <> g.chunks - 1)

-- chunk_text_changed --
-- Generations with a chunk whose text is not the one that its vector was made of.
SELECT DISTINCT generation_id, 'generation ' || generation_id FROM chunks
WHERE text_hash <> sha256(convert_to(text, 'UTF8'))

-- vectors_unusable --
-- Vectors that are not of the model's dimension, not of length 1 (half precision: within 0.01), or of no model.
SELECT e.model_id || ' ' || encode(e.text_hash, 'hex'), 'a vector of model ' || e.model_id FROM embeddings e
LEFT JOIN models m USING (model_id)
WHERE m.model_id IS NULL OR vector_dims(e.embedding) <> m.dimension OR NOT abs(l2_norm(e.embedding) - 1) <= 0.01

-- indexed_without_vector --
-- Indexed files with a chunk that has no vector under the model that readers see it by, or without such a model.
SELECT file_id, source || '/' || path FROM files f WHERE status = 'indexed' AND generation_id IS NOT NULL
AND (model_id IS NULL
     OR EXISTS (SELECT FROM waiting_chunks c WHERE c.generation_id = f.generation_id AND c.model_id = f.model_id))

-- model_noted_too_early --
-- Models that are noted to answer for a generation, but a chunk of it waits or is deferred under them.
SELECT m.generation_id || ' ' || m.model_id, 'generation ' || m.generation_id FROM generation_models m
WHERE EXISTS (SELECT FROM waiting_chunks c WHERE c.generation_id = m.generation_id AND c.model_id = m.model_id)
   OR EXISTS (SELECT FROM chunks c JOIN unembedded_texts u ON u.model_id = m.model_id AND u.text_hash = c.text_hash
              WHERE c.generation_id = m.generation_id AND u.state = 'deferred'
                AND NOT EXISTS (SELECT FROM embeddings e WHERE e.model_id = m.model_id AND e.text_hash = c.text_hash))

-- model_not_noted --
-- Files that readers see under a model that is not noted to answer for them, though no chunk waits or is deferred.
SELECT DISTINCT f.generation_id || ' ' || f.model_id, 'generation ' || f.generation_id FROM files f
JOIN generations g USING (generation_id)
WHERE f.status = 'indexed' AND g.complete AND f.model_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM generation_models m WHERE m.generation_id = f.generation_id AND m.model_id = f.model_id)
  AND NOT EXISTS (SELECT FROM chunk_states s WHERE s.generation_id = f.generation_id AND s.model_id = f.model_id
                  AND s.state IN ('waiting', 'deferred'))

-- answers_missing --
-- Sections that count as answered, without an answer.
SELECT x.generation_id || ' ' || x.ordinal || ' ' || x.prompt, 'generation ' || x.generation_id || ' section ' || x.ordinal
FROM section_extracts x WHERE x.status = 'done' AND NOT EXISTS (
    SELECT FROM extract_answers a WHERE a.content_hash = x.content_hash AND a.prompt_version = x.prompt_version
      AND a.model = x.model)

-- waiting_without_version --
-- Files that wait though their bytes were never read.
SELECT file_id, source || '/' || path FROM files WHERE status IN ('synced', 'processing', 'processed') AND version = ''

-- failed_without_reason --
-- Files that failed, and nobody knows why.
SELECT file_id, source || '/' || path FROM files WHERE status = 'failed' AND error IS NULL

-- batches_without_run --
-- Batches that are at work by no run at all.
SELECT batch, 'batch ' || batch FROM batches WHERE status = 'running' AND coalesce(run_id, '') = ''

-- scans_run_backwards --
-- Files that were seen by a scan which has not happened yet: later scans could not notice that they are gone.
SELECT file_id, source || '/' || path FROM files
WHERE last_scan > (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM scan_numbers)

-- stuck_files --
-- Unfinished files that no batch which waits, is at work, or was given up has.
SELECT f.file_id, f.source || '/' || f.path FROM files f
WHERE f.status IN ('synced', 'processing', 'processed') AND (f.batch IS NOT NULL OR f.status <> 'synced')
  AND NOT EXISTS (SELECT FROM batch_files m JOIN batches b USING (batch)
                  WHERE m.batch = f.batch AND m.file_id = f.file_id AND m.version = f.version
                    AND (b.status IN ('waiting', 'running') OR b.status = 'failed' AND f.status <> 'processing'))

-- given_up_batches --
-- Batches whose runs failed three times in a row, with files left; the next `ingest run` takes them up, too.
SELECT b.batch, 'batch ' || b.batch FROM batches b WHERE b.status = 'failed' AND EXISTS (
    SELECT FROM files f WHERE f.batch = b.batch AND f.status IN ('synced', 'processing', 'processed'))

-- open_attempts --
-- Attempts of runs that are not at work any more.
SELECT a.attempt_id, 'attempt ' || a.attempt_id FROM attempts a WHERE a.open AND NOT EXISTS (
    SELECT FROM batches b WHERE b.batch = a.batch AND b.status = 'running' AND b.run_id = a.run_id)

-- empty_batches --
-- Batches that wait, and whose files have all moved on.
SELECT b.batch, 'batch ' || b.batch FROM batches b WHERE b.status = 'waiting' AND NOT EXISTS (
    SELECT FROM batch_files m JOIN files f USING (file_id)
    WHERE m.batch = b.batch AND f.batch = b.batch AND f.version = m.version)

-- unused_generations --
-- Chunks that no file shows or is on the way to: of deleted and replaced files, after a kill.
SELECT g.generation_id, 'generation ' || g.generation_id FROM generations g
WHERE NOT EXISTS (SELECT FROM files f WHERE f.generation_id = g.generation_id)
  AND NOT EXISTS (SELECT FROM files f WHERE f.version = g.version AND f.status IN ('synced', 'processing', 'processed'))

-- unused_vectors --
-- Vectors, and states of texts, that no chunk relies on. While files wait, their chunks may need them soon.
SELECT encode(text_hash, 'hex'), 'a vector of model ' || model_id FROM (
    SELECT model_id, text_hash FROM embeddings UNION ALL SELECT model_id, text_hash FROM unembedded_texts
) t WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = t.text_hash)
  AND NOT EXISTS (SELECT FROM files WHERE status IN ('synced', 'processing', 'processed'))

-- contradicting_states --
-- Texts that have a vector and are noted to have none.
SELECT u.model_id || ' ' || encode(u.text_hash, 'hex'), 'a text under model ' || u.model_id FROM unembedded_texts u
WHERE EXISTS (SELECT FROM embeddings e WHERE e.model_id = u.model_id AND e.text_hash = u.text_hash)

-- unused_entities --
-- Entities of texts that are in no chunk, while no file waits, or that no model is noted to have read.
SELECT encode(text_hash, 'hex'), 'a text read by ' || model FROM (
    SELECT model, text_hash FROM entity_texts t
    WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = t.text_hash)
      AND NOT EXISTS (SELECT FROM files WHERE status IN ('synced', 'processing', 'processed'))
    UNION
    SELECT model, text_hash FROM entities n
    WHERE NOT EXISTS (SELECT FROM entity_texts t WHERE t.model = n.model AND t.text_hash = n.text_hash)
) e

-- index_missing --
-- Models with vectors whose HNSW index is missing, or was left invalid by an interrupted rebuild. While a run is at
-- work the index is not due yet, and one that is being made is not missing.
SELECT m.model_id, 'model ' || m.name FROM models m
WHERE EXISTS (SELECT FROM embeddings e WHERE e.model_id = m.model_id)
  AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
                  WHERE c.relname = 'embeddings_hnsw_' || m.model_id AND i.indisvalid)
  AND NOT EXISTS (SELECT FROM batches WHERE status = 'running' AND run_id <> '')
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE relid = 'embeddings'::regclass)

-- gaps_under_lower_limits --
-- Indexed files with gaps that were recorded under lower limits than those of the settings.
SELECT f.file_id, f.source || '/' || f.path FROM files f JOIN generations g USING (generation_id)
WHERE f.status = 'indexed' AND EXISTS (
    SELECT FROM jsonb_array_elements(f.gaps) gap WHERE
        gap->>'reason' LIKE 'ParserTimedOut%%' AND (
            coalesce((g.limits->>'page_seconds')::float8, 0) < %(page_seconds)s
            OR coalesce((g.limits->>'file_seconds')::float8, 0) < %(file_seconds)s)
        OR gap->>'reason' LIKE 'ParserOutOfMemory%%'
            AND coalesce((g.limits->>'parser_bytes')::float8, 0) < %(parser_bytes)s)
