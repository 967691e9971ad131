-- Every statement that writes a row of `files`. Each begins with `-- name --` and a sentence.

-- record_version --
-- New or changed bytes: the file waits from its first attempt on; what readers see (generation_id) stays until it is indexed.
INSERT INTO files (source, path, size_bytes, revision, version, media_type, status, last_scan)
VALUES (%(source)s, %(path)s, %(size_bytes)s, %(revision)s, %(version)s, %(media_type)s, 'synced', %(scan)s)
ON CONFLICT (source, path) DO UPDATE SET
    size_bytes = excluded.size_bytes, revision = excluded.revision, version = excluded.version,
    media_type = excluded.media_type, status = 'synced', last_scan = greatest(files.last_scan, excluded.last_scan), batch = NULL,
    error = NULL, message = NULL, retryable = NULL, attempts = 0, kills = 0, gaps = '[]', warnings = '[]',
    pages = NULL, predicted_peak_bytes = NULL, measured_peak_bytes = NULL, embed_peak_bytes = NULL, seconds = NULL,
    fingerprint = NULL, updated_at = now()

-- record_refusal --
-- A file that the catalog run could not read, or that no parser is for.
INSERT INTO files (source, path, size_bytes, revision, version, media_type, status, last_scan, error, message, retryable,
                   fingerprint)
VALUES (%(source)s, %(path)s, %(size_bytes)s, %(revision)s, %(version)s, %(media_type)s, 'failed', %(scan)s,
        %(error)s, %(message)s, %(retryable)s, %(fingerprint)s)
ON CONFLICT (source, path) DO UPDATE SET
    size_bytes = excluded.size_bytes, revision = excluded.revision, version = excluded.version,
    media_type = excluded.media_type, status = 'failed', last_scan = greatest(files.last_scan, excluded.last_scan), batch = NULL,
    error = excluded.error, message = excluded.message, retryable = excluded.retryable,
    fingerprint = excluded.fingerprint, updated_at = now()

-- mark_seen --
-- These paths are there, with the revision that is known.
UPDATE files SET last_scan = greatest(last_scan, %(scan)s) WHERE source = %(source)s AND path = ANY(%(paths)s)

-- record_touch --
-- Another revision of the same bytes.
UPDATE files SET size_bytes = %(size_bytes)s, revision = %(revision)s, last_scan = greatest(last_scan, %(scan)s)
WHERE source = %(source)s AND path = %(path)s

-- forget_revision --
-- Bytes that changed while they were read must be hashed again, even if the revision is the same then.
UPDATE files SET revision = '' WHERE file_id = %(file_id)s

-- delete_unseen --
-- What a finished scan did not see is out of every reader's sight.
UPDATE files SET status = 'deleted', generation_id = NULL, batch = NULL, error = NULL, message = NULL,
       retryable = NULL, updated_at = now()
WHERE source = %(source)s AND last_scan < %(scan)s AND status <> 'deleted'

-- adopt_known_versions --
-- Equal bytes that are searchable already: a renamed file, a copy, a file that came back. A file that shows them itself
-- waits for something else: an answer about a section, entities. `FOR KEY SHARE`: who deletes what nobody uses is ahead of
-- this statement, and then there is nothing to adopt, or leaves it alone.
UPDATE files f SET generation_id = g.generation_id, model_id = %(model)s, status = 'indexed',
       fingerprint = %(fingerprint)s, pages = g.pages, gaps = g.gaps, warnings = g.warnings, batch = NULL,
       error = NULL, message = NULL, retryable = NULL, updated_at = now()
FROM (
    SELECT g.generation_id, g.version, g.fingerprint, g.pages, g.gaps, g.warnings FROM generations g
    JOIN generation_models m ON m.generation_id = g.generation_id AND m.model_id = %(model)s
    WHERE g.complete AND g.version IN (SELECT version FROM files WHERE status = 'synced') FOR KEY SHARE OF g
) g
WHERE f.status = 'synced' AND g.version = f.version
  AND g.fingerprint = %(fingerprint)s || ':' || f.media_type
  AND f.generation_id IS DISTINCT FROM g.generation_id
  AND NOT EXISTS (SELECT FROM waiting_chunks c WHERE c.generation_id = g.generation_id AND c.model_id = %(model)s)

-- show_under_model --
-- Files whose chunks have all their vectors under the model: readers see them under it.
UPDATE files f SET model_id = %(model)s, updated_at = now()
FROM generation_models m
WHERE f.status = 'indexed' AND f.model_id IS DISTINCT FROM %(model)s
  AND m.generation_id = f.generation_id AND m.model_id = %(model)s

-- forget_model --
-- The model is deleted; files that readers see are under another one.
UPDATE files SET model_id = NULL WHERE model_id = %(model)s

-- requeue_outdated --
-- Indexed or failed under a fingerprint (parser, chunker, model, settings) that is none of these. What no parser is for
-- has no media type to be parsed by: the catalog run reads it again.
UPDATE files SET status = 'synced', batch = NULL, error = NULL, message = NULL, retryable = NULL, attempts = 0,
       kills = 0, updated_at = now()
WHERE status IN ('indexed', 'failed') AND fingerprint IS NOT NULL AND fingerprint <> ALL(%(fingerprints)s)
  AND fingerprint NOT LIKE 'formats:%%' AND version <> ''

-- requeue_affordable --
-- Refused for memory, and a run has enough by now.
UPDATE files SET status = 'synced', batch = NULL, error = NULL, message = NULL, retryable = NULL
WHERE status = 'failed' AND error = 'FileNeedsMoreMemory' AND predicted_peak_bytes <= %(file_budget_bytes)s

-- requeue_with_gaps --
-- Failed only because gaps were not allowed.
UPDATE files SET status = 'synced', batch = NULL, error = NULL, message = NULL, retryable = NULL
WHERE status = 'failed' AND error = 'UnreadablePages'

-- requeue_without_vector --
-- Indexed, but a chunk that readers should see waits under the model: embedded again, parsed again only if the model
-- does not take its chunks. Readers see the file as before until then.
UPDATE files f SET status = 'synced', batch = NULL, attempts = 0, kills = 0, updated_at = now()
WHERE f.status = 'indexed' AND EXISTS (
    SELECT FROM waiting_chunks c WHERE c.generation_id = f.generation_id AND c.model_id = %(model)s)

-- requeue_without_extract --
-- Indexed, but its sections were not planned as they are asked about now, or some wait for an answer. Nothing that a
-- batch is still at work on. Readers see the file as before.
UPDATE files f SET status = 'synced', batch = NULL, attempts = 0, kills = 0, updated_at = now()
WHERE f.status = 'indexed'
  AND NOT EXISTS (SELECT FROM batches b WHERE b.batch = f.batch AND b.status = ANY(%(held)s))
  AND (NOT EXISTS (SELECT FROM extract_plans p WHERE p.generation_id = f.generation_id AND p.prompt = %(prompt)s
                   AND starts_with(p.plan_version, %(plan_version)s))
       OR EXISTS (SELECT FROM section_extracts x WHERE x.generation_id = f.generation_id AND x.prompt = %(prompt)s
                  AND (x.status = 'waiting' OR x.status = 'failed' AND x.attempts < %(max_attempts)s)))

-- requeue_without_entities --
-- Indexed, but a text was not read by the model that finds entities. Nothing that a batch is still at work on.
UPDATE files f SET status = 'synced', batch = NULL, attempts = 0, kills = 0, updated_at = now()
WHERE f.status = 'indexed'
  AND NOT EXISTS (SELECT FROM batches b WHERE b.batch = f.batch AND b.status = ANY(%(held)s))
  AND EXISTS (SELECT FROM chunks c WHERE c.generation_id = f.generation_id AND NOT EXISTS (
      SELECT FROM entity_texts t WHERE t.model = %(model)s AND t.text_hash = c.text_hash))

-- requeue_unparsed --
-- Parsed under another fingerprint than the run has now, or for a model that takes longer chunks: the batch's run
-- parses it again.
UPDATE files f SET status = 'synced', updated_at = now()
WHERE f.batch = %(batch)s AND f.status = 'processed' AND NOT EXISTS (
    SELECT FROM generations g JOIN generation_lengths l ON l.generation_id = g.generation_id
    WHERE g.generation_id = f.next_generation_id AND g.version = f.version AND g.complete
      AND g.fingerprint = %(fingerprint)s || ':' || f.media_type
      AND l.tokenizer = %(tokenizer)s AND l.longest_tokens <= %(takes_tokens)s)

-- reopen_failed --
-- Somebody materialized the batch by hand: its failed files get another chance.
UPDATE files SET status = 'synced', error = NULL, message = NULL, retryable = NULL, kills = 0
WHERE batch = %(batch)s AND status = 'failed'

-- reset_failed --
-- Failed files whose bytes are known, and that a parser is for, are tried again. Attempts stay in their history.
UPDATE files SET status = 'synced', batch = NULL, error = NULL, message = NULL, retryable = NULL, kills = 0,
       updated_at = now()
WHERE file_id = ANY(%(file_ids)s) AND status = 'failed' AND version <> ''
  AND (fingerprint IS NULL OR fingerprint NOT LIKE 'formats:%%')

-- look_again --
-- Failed files that were never read, or that no parser is for: the next catalog run reads them, and decides.
UPDATE files SET revision = '', updated_at = now() WHERE file_id = ANY(%(file_ids)s) AND status = 'failed'

-- release_stuck --
-- Unfinished files that belong to no batch which waits or is at work: they wait for a new batch.
UPDATE files f SET status = 'synced', batch = NULL, updated_at = now()
WHERE f.file_id = ANY(%(file_ids)s) AND f.status IN ('synced', 'processing', 'processed')
  AND NOT EXISTS (SELECT FROM batch_files m JOIN batches b USING (batch)
                  WHERE m.batch = f.batch AND m.file_id = f.file_id AND m.version = f.version
                    AND b.status IN ('waiting', 'running'))

-- requeue_indexed --
-- Indexed files that something is missing of: they are worked on again, and readers see them as before until then.
UPDATE files SET status = 'synced', batch = NULL, kills = 0, updated_at = now()
WHERE file_id = ANY(%(file_ids)s) AND status = 'indexed'

-- withdraw --
-- Files whose chunks cannot be relied on: readers see nothing of them until they are indexed again. What is deleted, or
-- failed, stays so.
UPDATE files SET generation_id = NULL, model_id = NULL,
       status = CASE WHEN status IN ('indexed', 'processed') THEN 'synced' ELSE status END,
       batch = CASE WHEN status IN ('indexed', 'processed') THEN NULL ELSE batch END, updated_at = now()
WHERE file_id = ANY(%(file_ids)s)

-- forget_revisions --
-- The next catalog run reads these files again, whatever their revision is then.
UPDATE files SET revision = '' WHERE file_id = ANY(%(file_ids)s)

-- withdraw_generations --
-- The same for the files that show these generations, or are about to.
UPDATE files SET generation_id = CASE WHEN generation_id = ANY(%(generation_ids)s) THEN NULL ELSE generation_id END,
       model_id = CASE WHEN generation_id = ANY(%(generation_ids)s) THEN NULL ELSE model_id END,
       status = CASE WHEN status IN ('indexed', 'processed') THEN 'synced' ELSE status END,
       batch = CASE WHEN status IN ('indexed', 'processed') THEN NULL ELSE batch END, updated_at = now()
WHERE generation_id = ANY(%(generation_ids)s)
   OR status = 'processed' AND next_generation_id = ANY(%(generation_ids)s)

-- refuse_unread --
-- Waiting files whose bytes were never read cannot be parsed: the next catalog run reads them.
UPDATE files SET status = 'failed', batch = NULL, error = 'FileChanged', retryable = true, revision = '',
       message = 'its bytes are not known; the next catalog run reads it', updated_at = now()
WHERE file_id = ANY(%(file_ids)s) AND status IN ('synced', 'processing', 'processed') AND version = ''

-- explain_failure --
-- A failed file without a reason: the next catalog run reads it again.
UPDATE files SET error = 'FileChanged', retryable = true, revision = '', updated_at = now(),
       message = 'it failed without a recorded reason; the next catalog run tries it again'
WHERE file_id = ANY(%(file_ids)s) AND status = 'failed' AND error IS NULL

-- erase_file --
-- The row itself, with all that refers to it gone before.
DELETE FROM files WHERE file_id = ANY(%(file_ids)s)

-- assign_batch --
-- Waiting files belong to the batch that was sealed with their versions.
UPDATE files f SET batch = %(batch)s, predicted_peak_bytes = cost.peak_bytes, predicted_seconds = cost.seconds
FROM unnest(%(file_ids)s::bigint[], %(versions)s::text[], %(peaks)s::bigint[], %(seconds)s::float8[])
     AS cost (file_id, version, peak_bytes, seconds)
WHERE f.file_id = cost.file_id AND f.version = cost.version AND f.status = 'synced' AND f.batch IS NULL
  AND f.file_id = ANY(%(file_ids)s)  -- by the primary key, also when the table has just been filled

-- dissolve_waiting --
-- Files of batches that wait under another budget are planned again; the batch stays on record, empty.
WITH dissolved AS (
    UPDATE batches SET status = 'done', ended_at = now(), message = 'its files were planned again'
    WHERE status = 'waiting' AND memory_limit_bytes <> %(memory_limit_bytes)s RETURNING batch
)
UPDATE files f SET batch = NULL, status = 'synced', updated_at = now() FROM dissolved
WHERE f.batch = dissolved.batch AND f.status IN ('synced', 'processing', 'processed')

-- begin_attempt --
-- A run works on the file; `is_new`: for the first time in this run. A file that has left the run's batch meanwhile goes
-- on waiting for another one.
UPDATE files SET attempts = attempts + (%(is_new)s::boolean)::int, updated_at = now(),
       status = CASE WHEN status = 'synced' AND batch = %(batch)s THEN 'processing' ELSE status END
WHERE file_id = %(file_id)s

-- add_cost --
-- Peaks are the highest of all attempts, seconds add up.
UPDATE files SET measured_peak_bytes = greatest(measured_peak_bytes, %(parse_peak_bytes)s),
       embed_peak_bytes = greatest(embed_peak_bytes, %(embed_peak_bytes)s),
       seconds = coalesce(seconds, 0) + %(parse_seconds)s + %(embed_seconds)s, updated_at = now()
WHERE file_id = %(file_id)s

-- mark_processed --
-- All chunks of this version are stored. A file that belongs to no batch goes on waiting for one: its run lost it, by a
-- change that was taken back, or by a kill of another run of the batch.
UPDATE files SET status = 'processed', next_generation_id = %(generation)s, pages = %(pages)s, gaps = %(gaps)s,
       warnings = %(warnings)s, updated_at = now()
WHERE file_id = %(file_id)s AND version = %(version)s AND batch IS NOT NULL
  AND status IN ('synced', 'processing', 'processed')

-- publish --
-- Readers see the new generation from now on; not while a vector is missing, nor after the file has changed.
UPDATE files SET generation_id = %(generation)s, status = 'indexed', fingerprint = %(fingerprint)s, error = NULL,
       -- The model that answered before goes on until this one has the vectors, which may be made on demand.
       model_id = CASE WHEN generation_id = %(generation)s AND model_id IS NOT NULL AND EXISTS (
           SELECT FROM chunk_states s WHERE s.generation_id = %(generation)s AND s.model_id = %(model)s
             AND s.state = 'deferred') THEN model_id ELSE %(model)s END, message = NULL, retryable = NULL, updated_at = now()
WHERE file_id = %(file_id)s AND version = %(version)s AND status = 'processed'
  AND EXISTS (SELECT FROM generations g WHERE g.generation_id = %(generation)s AND g.complete)
  AND NOT EXISTS (SELECT FROM waiting_chunks c WHERE c.generation_id = %(generation)s AND c.model_id = %(model)s)

-- refuse_file --
-- The file failed with a typed reason, under the fingerprint that is given; not if its bytes are others by now.
UPDATE files SET status = 'failed', error = %(error)s, message = %(message)s, retryable = %(retryable)s,
       fingerprint = %(fingerprint)s, updated_at = now(),
       predicted_peak_bytes = coalesce(%(predicted_peak_bytes)s, predicted_peak_bytes)
WHERE file_id = %(file_id)s AND (%(version)s::text IS NULL OR version = %(version)s)

-- attribute_kill --
-- A run was killed while these files were open: each leaves for a batch of its own.
UPDATE files SET kills = kills + 1, batch = NULL, status = 'synced', updated_at = now()
WHERE file_id = ANY(%(file_ids)s) AND batch = %(batch)s AND status IN ('processing', 'processed')
RETURNING file_id, kills, source || '/' || path

-- release_batch --
-- The run has ended: what it was processing waits again.
UPDATE files SET status = 'synced' WHERE batch = %(batch)s AND status = 'processing'

-- rename_source --
-- The files of a source are the same under another name of it: a restored ledger on another machine.
UPDATE files SET source = %(after)s WHERE source = %(before)s
