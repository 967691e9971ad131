-- The ledger, the chunks, the vectors, and the two views that the world may read.

CREATE TABLE models (
    model_id   smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    identity   text NOT NULL,           -- SHA-256 of the weights
    dimension  integer NOT NULL CHECK (dimension BETWEEN 1 AND 4000),  -- what an HNSW index of halfvec can hold
    max_tokens integer NOT NULL,
    UNIQUE (identity, max_tokens)
);

-- One version of a file's bytes under one recipe (parser, chunker, model): parsed once, however many paths hold it.
CREATE TABLE generations (
    generation_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version               text NOT NULL,
    recipe                text NOT NULL,
    model_id              smallint NOT NULL REFERENCES models,
    complete              boolean NOT NULL DEFAULT false,
    title                 text,
    pages                 integer NOT NULL DEFAULT 0,
    gaps                  jsonb NOT NULL DEFAULT '[]',
    warnings              jsonb NOT NULL DEFAULT '[]',
    checkpoint_pages      integer NOT NULL DEFAULT 0,
    checkpoint_characters bigint NOT NULL DEFAULT 0,
    checkpoint_chunks     integer NOT NULL DEFAULT 0,
    created_at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (version, recipe)
);

CREATE TABLE chunks (
    generation_id bigint NOT NULL REFERENCES generations ON DELETE CASCADE,
    ordinal       integer NOT NULL,
    page_from     integer NOT NULL,
    page_to       integer NOT NULL,
    char_from     bigint NOT NULL,
    char_to       bigint NOT NULL,
    tokens        integer NOT NULL,
    heading       text,
    text          text NOT NULL,
    text_hash     bytea NOT NULL,
    PRIMARY KEY (generation_id, ordinal)
);
CREATE INDEX chunks_text_hash ON chunks (text_hash);

-- halfvec without a dimension: models differ. Each model has an HNSW index of its own (see vectors.py).
CREATE TABLE embeddings (
    model_id  smallint NOT NULL REFERENCES models,
    text_hash bytea NOT NULL,
    embedding halfvec NOT NULL,
    PRIMARY KEY (model_id, text_hash)
);

CREATE TABLE batches (
    batch                text PRIMARY KEY,
    status               text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    memory_limit_bytes   bigint NOT NULL,
    predicted_peak_bytes bigint NOT NULL,
    predicted_seconds    double precision NOT NULL,
    measured_peak_bytes  bigint,
    message              text,
    run_id               text,
    runs                 integer NOT NULL DEFAULT 0,   -- runs that began on it
    failures             integer NOT NULL DEFAULT 0,   -- runs that ended without finishing it
    sealed_at            timestamptz NOT NULL DEFAULT now(),
    started_at           timestamptz,
    ended_at             timestamptz
);
CREATE SEQUENCE batch_numbers;

CREATE TABLE files (
    file_id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source               text NOT NULL,
    path                 text NOT NULL,
    size_bytes           bigint NOT NULL,
    modified_ns          bigint NOT NULL,
    version              text NOT NULL DEFAULT '',     -- SHA-256 of the bytes; '' when they were never read
    media_type           text NOT NULL,
    status               text NOT NULL
        CHECK (status IN ('synced', 'processing', 'processed', 'indexed', 'failed', 'deleted')),
    error                text,                         -- the error's type
    message              text,
    retryable            boolean,
    attempts             integer NOT NULL DEFAULT 0,
    deaths               integer NOT NULL DEFAULT 0,   -- attempts during which the run was killed
    batch                text REFERENCES batches,      -- the batch that has it now
    generation_id        bigint REFERENCES generations, -- what readers see
    recipe               text,                         -- under which it was last indexed or refused
    pages                integer,
    gaps                 jsonb NOT NULL DEFAULT '[]',
    warnings             jsonb NOT NULL DEFAULT '[]',
    predicted_peak_bytes bigint,
    measured_peak_bytes  bigint,
    seconds              double precision,
    last_scan            bigint NOT NULL DEFAULT 0,
    first_seen_at        timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, path)
);
CREATE SEQUENCE scan_numbers;
CREATE INDEX files_status ON files (status);
CREATE INDEX files_version ON files (version);
CREATE INDEX files_batch ON files (batch);
CREATE INDEX files_generation ON files (generation_id);

CREATE TABLE batch_files (
    batch   text NOT NULL REFERENCES batches,
    file_id bigint NOT NULL REFERENCES files,
    version text NOT NULL,
    PRIMARY KEY (batch, file_id)
);

-- Written before work on a file begins. `open` names the file that a killed run was at.
CREATE TABLE attempts (
    attempt_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id           bigint NOT NULL REFERENCES files,
    batch             text NOT NULL,
    run_id            text NOT NULL,
    version           text NOT NULL,
    stage             text NOT NULL,
    open              boolean NOT NULL DEFAULT true,
    outcome           text,
    error             text,
    pages             integer NOT NULL DEFAULT 0,
    chunks_embedded   integer NOT NULL DEFAULT 0,
    parse_seconds     double precision NOT NULL DEFAULT 0,
    embed_seconds     double precision NOT NULL DEFAULT 0,
    parse_peak_bytes  bigint,
    embed_peak_bytes  bigint,
    started_at        timestamptz NOT NULL DEFAULT now(),
    ended_at          timestamptz,
    UNIQUE (file_id, run_id)
);
CREATE INDEX attempts_open ON attempts (batch) WHERE open;

CREATE VIEW public.searchable_chunks AS
SELECT f.source, f.path, g.version, g.title, c.ordinal, c.page_from, c.page_to, c.char_from, c.char_to,
       c.heading, c.text, c.tokens, m.name AS model, e.embedding
FROM files f
JOIN generations g USING (generation_id)
JOIN chunks c USING (generation_id)
JOIN models m ON m.model_id = g.model_id
JOIN embeddings e ON e.model_id = g.model_id AND e.text_hash = c.text_hash;
COMMENT ON VIEW public.searchable_chunks IS 'Every chunk that a search can return: the live version of each file.';

CREATE VIEW public.file_status AS
SELECT f.source, f.path, f.version, f.media_type, f.size_bytes AS bytes, f.pages, f.status, f.attempts, f.error,
       f.message, f.retryable, f.gaps, coalesce(n.chunks, 0) AS chunks, f.predicted_peak_bytes,
       f.measured_peak_bytes, f.seconds, f.batch, f.warnings, f.updated_at
FROM files f
LEFT JOIN LATERAL (SELECT count(*) AS chunks FROM chunks c WHERE c.generation_id = f.generation_id) n ON true;
COMMENT ON VIEW public.file_status IS 'What is true of every file that a source ever held.';
