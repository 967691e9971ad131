-- What the remaining time is computed from: the predicted seconds of each file, and the size of what was parsed.

ALTER TABLE files ADD predicted_seconds double precision;
ALTER TABLE generations ADD chunks integer NOT NULL DEFAULT 0, ADD tokens bigint NOT NULL DEFAULT 0;
UPDATE generations g SET chunks = c.chunks, tokens = c.tokens
FROM (SELECT generation_id, count(*) AS chunks, sum(tokens) AS tokens FROM chunks GROUP BY 1) c
WHERE c.generation_id = g.generation_id AND g.complete;
