-- What the remaining time is computed from: the predicted seconds of each file, the size of what was parsed, and the
-- number of files in a batch, which is asked for at each look.

ALTER TABLE files ADD predicted_seconds double precision;
ALTER TABLE batches ADD files integer NOT NULL DEFAULT 0;
UPDATE batches b SET files = (SELECT count(*) FROM batch_files f WHERE f.batch = b.batch);
ALTER TABLE generations ADD chunks integer NOT NULL DEFAULT 0, ADD tokens bigint NOT NULL DEFAULT 0;
UPDATE generations g SET chunks = c.chunks, tokens = c.tokens
FROM (SELECT generation_id, count(*) AS chunks, sum(tokens) AS tokens FROM chunks GROUP BY 1) c
WHERE c.generation_id = g.generation_id AND g.complete;
