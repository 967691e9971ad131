-- What predictions are made of, and the errors that are no file's fault.

-- One row for each media type of each edition; the highest version is in use, none means the shipped rates.
CREATE TABLE cost_models (
    version         integer NOT NULL,
    media_type      text NOT NULL,
    base_bytes      double precision NOT NULL,
    bytes_per_byte  double precision NOT NULL,
    factor          double precision NOT NULL,
    seconds_per_mib double precision NOT NULL,
    seen_bytes      bigint NOT NULL,
    observations    integer NOT NULL,
    fitted_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (version, media_type)
);

ALTER TABLE batches ADD cost_model integer NOT NULL DEFAULT 0;  -- the edition that its predictions were made with

-- Runs that ended for a reason that is no file's: database, model, disk. `forgiven` at a new beginning.
CREATE TABLE incidents (
    incident_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch       text NOT NULL,
    run_id      text NOT NULL,
    cause       text NOT NULL,
    message     text NOT NULL,
    forgiven    boolean NOT NULL DEFAULT false,
    happened_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE files ADD embed_peak_bytes bigint;  -- of the whole run while this file's chunks were embedded
CREATE OR REPLACE VIEW public.file_status AS
SELECT f.source, f.path, f.version, f.media_type, f.size_bytes AS bytes, f.pages, f.status, f.attempts, f.error,
       f.message, f.retryable, f.gaps, coalesce(n.chunks, 0) AS chunks, f.predicted_peak_bytes,
       f.measured_peak_bytes, f.seconds, f.batch, f.warnings, f.updated_at, f.embed_peak_bytes
FROM files f
LEFT JOIN LATERAL (SELECT count(*) AS chunks FROM chunks c WHERE c.generation_id = f.generation_id) n ON true;
