-- Models side by side, the state of each text under each of them, extracts, entities, and what calls of servers cost.

-- Who computes the vectors: this machine, or the protocol of a server.
ALTER TABLE models ADD embedder text NOT NULL DEFAULT 'local';

-- A text that has no vector and waits for none. A text that is neither here nor in `embeddings` waits.
CREATE TABLE unembedded_texts (
    model_id  smallint NOT NULL REFERENCES models,
    text_hash bytea NOT NULL,
    state     text NOT NULL CHECK (state IN ('rejected', 'deferred')),
    reason    text NOT NULL DEFAULT '',     -- of the server that rejected it
    PRIMARY KEY (model_id, text_hash)
);

-- What readers see of a file: a generation, under this model unless they ask for another.
ALTER TABLE files ADD model_id smallint REFERENCES models;
UPDATE files f SET model_id = g.model_id FROM generations g WHERE g.generation_id = f.generation_id;

-- What a processed file waits to show. Not a reference: a file that changes leaves it behind.
ALTER TABLE files ADD next_generation_id bigint;
UPDATE files SET status = 'synced', batch = NULL WHERE status = 'processed';

-- A generation belongs to no model, but its chunks were cut by a tokenizer to a limit.
CREATE OR REPLACE VIEW public.searchable_chunks AS
SELECT f.source, f.path, g.version, g.title, c.ordinal, c.page_from, c.page_to, c.char_from, c.char_to,
       c.heading, c.text, c.tokens, m.name AS model, e.embedding, c.page_label, c.section, s.path AS section_path
FROM files f
JOIN generations g USING (generation_id)
JOIN chunks c USING (generation_id)
JOIN models m ON m.model_id = f.model_id
JOIN embeddings e ON e.model_id = f.model_id AND e.text_hash = c.text_hash
LEFT JOIN sections s ON s.generation_id = c.generation_id AND s.ordinal = c.section;
DROP VIEW chunks_without_vector;
ALTER TABLE generations ADD tokenizer text NOT NULL DEFAULT '', ADD max_tokens integer NOT NULL DEFAULT 0;
UPDATE generations g SET max_tokens = m.max_tokens FROM models m WHERE m.model_id = g.model_id;
ALTER TABLE generations DROP model_id, DROP CONSTRAINT generations_version_recipe_key,
    ADD UNIQUE (version, fingerprint, tokenizer, max_tokens);

-- The longest chunk of a generation as each tokenizer counts it: a model whose limit it keeps can embed the generation.
CREATE TABLE generation_lengths (
    generation_id  bigint NOT NULL REFERENCES generations ON DELETE CASCADE,
    tokenizer      text NOT NULL,
    longest_tokens integer NOT NULL,
    PRIMARY KEY (generation_id, tokenizer)
);

-- Generations of which no chunk waits under a model any more: it can answer for them.
CREATE TABLE generation_models (
    generation_id bigint NOT NULL REFERENCES generations ON DELETE CASCADE,
    model_id      smallint NOT NULL REFERENCES models,
    PRIMARY KEY (generation_id, model_id)
);
INSERT INTO generation_models
SELECT DISTINCT generation_id, model_id FROM files WHERE generation_id IS NOT NULL;

-- The one place that says what state a chunk has under a model: planner, publishing, checks and repair all ask it.
CREATE VIEW chunk_states AS
SELECT c.generation_id, c.ordinal, c.text_hash, m.model_id,
       CASE WHEN e.text_hash IS NULL THEN coalesce(u.state, 'waiting') ELSE 'done' END AS state,
       CASE WHEN e.text_hash IS NULL THEN u.reason END AS reason
FROM chunks c CROSS JOIN models m
LEFT JOIN embeddings e ON e.model_id = m.model_id AND e.text_hash = c.text_hash
LEFT JOIN unembedded_texts u ON u.model_id = m.model_id AND u.text_hash = c.text_hash;

-- Those of them that wait; written so that the first one is found without reading all.
CREATE VIEW waiting_chunks AS
SELECT c.generation_id, c.ordinal, c.text, c.text_hash, c.tokens, m.model_id
FROM chunks c CROSS JOIN models m
WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.model_id = m.model_id AND e.text_hash = c.text_hash)
  AND NOT EXISTS (SELECT FROM unembedded_texts u WHERE u.model_id = m.model_id AND u.text_hash = c.text_hash);

-- What calls of servers cost, by run, file, stage and model; failed calls count, too.
CREATE TABLE api_usage (
    run_id            text NOT NULL,
    file_id           bigint NOT NULL,
    stage             text NOT NULL,
    model             text NOT NULL,
    calls             integer NOT NULL DEFAULT 0,
    failed_calls      integer NOT NULL DEFAULT 0,
    prompt_tokens     bigint NOT NULL DEFAULT 0,
    completion_tokens bigint NOT NULL DEFAULT 0,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, file_id, stage, model)
);
CREATE INDEX api_usage_updated_at ON api_usage (updated_at);

ALTER TABLE attempts ADD extract_seconds double precision NOT NULL DEFAULT 0;

-- Answers of LLMs, kept by what was asked: an unchanged section of a new version is not asked again.
CREATE TABLE extract_answers (
    content_hash      bytea NOT NULL,
    prompt_version    text NOT NULL,
    model             text NOT NULL,
    answer            jsonb NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    seconds           double precision NOT NULL,
    answered_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (content_hash, prompt_version, model)
);

-- What is asked about each part of a generation, and how far that has come.
CREATE TABLE section_extracts (
    generation_id  bigint NOT NULL REFERENCES generations ON DELETE CASCADE,
    prompt         text NOT NULL,           -- its name
    ordinal        integer NOT NULL,        -- from 0, in document order
    title          text NOT NULL,
    page_from      integer NOT NULL,
    page_to        integer NOT NULL,
    content_hash   bytea NOT NULL,
    prompt_version text NOT NULL,
    model          text NOT NULL,
    status         text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'done', 'failed', 'skipped')),
    error          text,
    message        text,
    raw            text,                    -- the last answer that could not be used
    attempts       integer NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation_id, prompt, ordinal)
);

-- Generations that were divided into parts, even if there is nothing to ask about.
CREATE TABLE extract_plans (
    generation_id bigint NOT NULL REFERENCES generations ON DELETE CASCADE,
    prompt        text NOT NULL,
    plan_version  text NOT NULL,
    PRIMARY KEY (generation_id, prompt)
);

-- Files at a provider, written down before they are uploaded and struck off when they are deleted there.
CREATE TABLE remote_files (
    name        text PRIMARY KEY,
    provider    text NOT NULL,      -- and its server: another one cannot delete it
    run_id      text NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW public.extracts AS
SELECT f.source, f.path, g.version, x.ordinal AS section, x.title, x.page_from, x.page_to, x.prompt, x.prompt_version,
       x.model, x.status, a.answer, a.prompt_tokens, a.completion_tokens, a.seconds, x.error, x.message
FROM files f
JOIN generations g USING (generation_id)
JOIN section_extracts x USING (generation_id)
LEFT JOIN extract_answers a ON x.status = 'done' AND a.content_hash = x.content_hash
      AND a.prompt_version = x.prompt_version AND a.model = x.model;
COMMENT ON VIEW public.extracts IS 'What LLMs answered about each section of the live version of each file.';

-- Named entities belong to texts, as vectors do.
CREATE TABLE entity_texts (
    model     text NOT NULL,
    text_hash bytea NOT NULL,
    skipped   boolean NOT NULL DEFAULT false,   -- not in the language of the model
    PRIMARY KEY (model, text_hash)
);
CREATE TABLE entities (
    model     text NOT NULL,
    text_hash bytea NOT NULL,
    char_from integer NOT NULL,                 -- in the text of the chunk
    char_to   integer NOT NULL,
    label     text NOT NULL,
    name      text NOT NULL,
    PRIMARY KEY (model, text_hash, char_from, char_to, label)
);
CREATE INDEX entities_name ON entities (lower(name));

CREATE VIEW public.chunk_entities AS
SELECT f.source, f.path, g.version, c.ordinal, c.page_from, c.page_to, c.page_label, n.model, n.label, n.name AS entity,
       c.char_from + n.char_from AS char_from, c.char_from + n.char_to AS char_to
FROM files f
JOIN generations g USING (generation_id)
JOIN chunks c USING (generation_id)
JOIN entities n USING (text_hash);
COMMENT ON VIEW public.chunk_entities IS 'Named entities in the live version of each file, with their places in it.';
