-- One word for one concept (docs/glossary.md): the columns that code and documentation call otherwise are renamed.

ALTER TABLE generations RENAME COLUMN recipe TO fingerprint;
ALTER TABLE files RENAME COLUMN recipe TO fingerprint;
ALTER TABLE files RENAME COLUMN deaths TO kills;
ALTER TABLE incidents RENAME COLUMN forgiven TO reset;

-- The one place that says when a vector is missing: planner, publishing, checks and repair all ask it.
CREATE VIEW chunks_without_vector AS
SELECT c.generation_id, c.ordinal, c.text, c.text_hash, c.tokens, g.model_id
FROM chunks c JOIN generations g USING (generation_id)
WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.model_id = g.model_id AND e.text_hash = c.text_hash);
