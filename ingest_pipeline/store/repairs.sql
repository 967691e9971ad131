-- How `ingest cleanup --auto-fix` repairs what is not a row of `files`. Each begins with `-- name --` and a sentence.

-- drop_rows_without_generation --
-- Rows of generations that do not exist; what is shown of them is repaired elsewhere.
WITH c AS (DELETE FROM chunks WHERE generation_id = ANY(%(keys)s)),
     s AS (DELETE FROM sections WHERE generation_id = ANY(%(keys)s)),
     x AS (DELETE FROM section_extracts WHERE generation_id = ANY(%(keys)s)),
     p AS (DELETE FROM extract_plans WHERE generation_id = ANY(%(keys)s)),
     l AS (DELETE FROM generation_lengths WHERE generation_id = ANY(%(keys)s))
DELETE FROM generation_models WHERE generation_id = ANY(%(keys)s)

-- drop_vectors --
-- Vectors by model and hash; their texts wait again.
DELETE FROM embeddings WHERE model_id || ' ' || encode(text_hash, 'hex') = ANY(%(keys)s)

-- drop_states --
-- What is noted of texts that have a vector all the same.
DELETE FROM unembedded_texts WHERE model_id || ' ' || encode(text_hash, 'hex') = ANY(%(keys)s)

-- drop_noted_models --
-- They are noted again when the last chunk has its vector.
DELETE FROM generation_models WHERE generation_id || ' ' || model_id = ANY(%(keys)s)

-- note_models --
-- Searches by the model find these generations again.
INSERT INTO generation_models (generation_id, model_id)
SELECT split_part(key, ' ', 1)::bigint, split_part(key, ' ', 2)::smallint FROM unnest(%(keys)s::text[]) key
ON CONFLICT DO NOTHING

-- ask_again --
-- Sections that lost their answer wait for another one.
UPDATE section_extracts SET status = 'waiting', attempts = 0, updated_at = now()
WHERE generation_id || ' ' || ordinal || ' ' || prompt = ANY(%(keys)s) AND status = 'done'

-- release_batches --
-- Batches without a run wait for one.
UPDATE batches SET status = 'waiting', run_id = NULL WHERE batch = ANY(%(keys)s) AND status = 'running'

-- finish_batches --
-- Batches without files need no run.
UPDATE batches SET status = 'done', ended_at = now(), message = 'its files have moved on'
WHERE batch = ANY(%(keys)s) AND status = 'waiting'

-- close_attempts --
-- Their runs have ended.
UPDATE attempts SET open = false, outcome = 'interrupted', ended_at = now() WHERE attempt_id = ANY(%(keys)s) AND open

-- drop_entities --
-- Entities that no model is noted to have read; those of texts without a chunk go with the sweep.
DELETE FROM entities n WHERE encode(n.text_hash, 'hex') = ANY(%(keys)s)
  AND NOT EXISTS (SELECT FROM entity_texts t WHERE t.model = n.model AND t.text_hash = n.text_hash)

-- advance_scans --
-- The next scan has a higher number than any file was seen by.
SELECT setval('scan_numbers', (SELECT max(last_scan) FROM files))
