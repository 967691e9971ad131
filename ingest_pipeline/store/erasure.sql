-- Erases documents. Each statement begins with `-- name --` and a sentence.

-- select_files --
-- The files of a path, with or without its source, whatever their state; locked against runs that want to begin.
SELECT f.file_id, f.source, f.path,
       EXISTS (SELECT FROM batches b WHERE b.batch = f.batch AND b.status = 'running') AS is_at_work
FROM files f WHERE f.path = %(path)s OR f.source || '/' || f.path = %(path)s ORDER BY f.source FOR UPDATE

-- hold_batches --
-- A run that is about to begin on a batch with one of these files waits, and does not see them then.
SELECT b.batch FROM batches b JOIN files f USING (batch)
WHERE f.file_id = ANY(%(file_ids)s) AND b.status = 'waiting' ORDER BY b.batch FOR UPDATE OF b

-- note_generations --
-- What is stored of the files, also of versions that were replaced and not swept yet, and of nothing else: the same
-- bytes at another path keep it.
CREATE TEMP TABLE erased_generations AS
SELECT g.generation_id FROM generations g
WHERE (g.version IN (SELECT version FROM attempts WHERE file_id = ANY(%(file_ids)s)
                     UNION SELECT version FROM batch_files WHERE file_id = ANY(%(file_ids)s))
       OR EXISTS (SELECT FROM files f WHERE f.file_id = ANY(%(file_ids)s)
                  AND (f.version = g.version OR g.generation_id IN (f.generation_id, f.next_generation_id))))
  AND NOT EXISTS (SELECT FROM files o WHERE o.file_id <> ALL(%(file_ids)s)
                  AND (o.generation_id = g.generation_id
                       OR o.version = g.version AND o.status IN ('synced', 'processing', 'processed')))

-- note_texts --
-- The texts of their chunks.
CREATE TEMP TABLE erased_texts AS
SELECT DISTINCT text_hash FROM chunks JOIN erased_generations USING (generation_id)

-- note_answers --
-- The content that questions about their sections were asked of, by this prompt and earlier ones.
CREATE TEMP TABLE erased_answers AS
SELECT DISTINCT content_hash FROM section_extracts JOIN erased_generations USING (generation_id)

-- count_rows --
-- The rows of the documents in each table.
SELECT 'files' AS name, count(*) FROM files WHERE file_id = ANY(%(file_ids)s)
UNION ALL SELECT 'attempts', count(*) FROM attempts WHERE file_id = ANY(%(file_ids)s)
UNION ALL SELECT 'batch_files', count(*) FROM batch_files WHERE file_id = ANY(%(file_ids)s)
UNION ALL SELECT 'generations', count(*) FROM generations JOIN erased_generations USING (generation_id)
UNION ALL SELECT 'chunks', count(*) FROM chunks JOIN erased_generations USING (generation_id)
UNION ALL SELECT 'sections', count(*) FROM sections JOIN erased_generations USING (generation_id)
UNION ALL SELECT 'section_extracts', count(*) FROM section_extracts JOIN erased_generations USING (generation_id)
UNION ALL SELECT 'extract_answers', count(*) FROM extract_answers
    JOIN erased_answers USING (content_hash)
UNION ALL SELECT 'embeddings', count(*) FROM embeddings JOIN erased_texts USING (text_hash)
UNION ALL SELECT 'unembedded_texts', count(*) FROM unembedded_texts JOIN erased_texts USING (text_hash)
UNION ALL SELECT 'entity_texts', count(*) FROM entity_texts JOIN erased_texts USING (text_hash)
UNION ALL SELECT 'entities', count(*) FROM entities JOIN erased_texts USING (text_hash)

-- delete_attempts --
-- The history of the files.
DELETE FROM attempts WHERE file_id = ANY(%(file_ids)s)

-- delete_batch_files --
-- Their places in batches.
DELETE FROM batch_files WHERE file_id = ANY(%(file_ids)s)

-- delete_generations --
-- Their chunks and sections go with them.
DELETE FROM generations g USING erased_generations e WHERE g.generation_id = e.generation_id

-- delete_answers --
-- Answers about content that no section of another document has.
DELETE FROM extract_answers a USING erased_answers e
WHERE a.content_hash = e.content_hash
  AND NOT EXISTS (SELECT FROM section_extracts x WHERE x.content_hash = a.content_hash)

-- hold_sections --
-- No section takes up an answer meanwhile that is about to be deleted.
LOCK TABLE section_extracts IN SHARE MODE

-- delete_unused_answers --
-- Answers about content that no document has any more: of versions that were replaced or deleted. They are kept so that
-- nobody pays for them twice, and nothing says whose they are.
DELETE FROM extract_answers a
WHERE NOT EXISTS (SELECT FROM section_extracts x WHERE x.content_hash = a.content_hash)

-- delete_vectors --
-- Vectors of texts that no chunk has any more.
DELETE FROM embeddings e USING erased_texts t
WHERE e.text_hash = t.text_hash AND NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = e.text_hash)

-- delete_states --
-- Likewise what is noted of them.
DELETE FROM unembedded_texts u USING erased_texts t
WHERE u.text_hash = t.text_hash AND NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = u.text_hash)

-- delete_entities --
-- Likewise what was found in them.
DELETE FROM entities n USING erased_texts t
WHERE n.text_hash = t.text_hash AND NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = n.text_hash)

-- delete_entity_texts --
-- Likewise that they were read.
DELETE FROM entity_texts n USING erased_texts t
WHERE n.text_hash = t.text_hash AND NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = n.text_hash)

-- erase_in_batches --
-- Messages of runs that name the files.
UPDATE batches SET message = replace(message, %(name)s, %(mark)s) WHERE position(%(name)s IN message) > 0

-- erase_in_incidents --
-- Likewise.
UPDATE incidents SET message = replace(message, %(name)s, %(mark)s) WHERE position(%(name)s IN message) > 0

-- copies --
-- Other files with the same bytes.
SELECT o.source || '/' || o.path FROM files o JOIN files f ON f.file_id = %(file_id)s AND o.version = f.version
WHERE o.file_id <> f.file_id AND o.version <> '' AND o.status <> 'deleted' ORDER BY 1 LIMIT 10

-- text_columns --
-- Every column of Dagster's tables that may hold a name.
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'dagster' AND data_type IN ('text', 'character varying')
  AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = 'dagster') ORDER BY 1, 2

-- dead_rows --
-- Rows that a VACUUM could not remove, because a transaction may still see them.
SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'ingest' AND relname = ANY(%(tables)s)
