-- How runs ended, and their memory over time. Both are written on the machine of the run first, because Postgres may be
-- what a run loses, and copied here: at the end of a stage, or when the run is reconciled.

CREATE TABLE run_ends (
    run_id           text PRIMARY KEY,
    batch            text,                    -- NULL: the catalog, the index
    host             text NOT NULL,           -- on which the run's processes were
    exit_code        integer,                 -- negative: the signal; NULL: nobody was left to see the end
    cause            text NOT NULL,
    oom_kills        integer,                 -- NULL: the run had no cgroup, as for the next one
    group_peak_bytes bigint,
    limit_bytes      bigint,
    cpu_seconds      double precision,
    ended_at         timestamptz NOT NULL,    -- where nobody saw the end: when it was noticed
    copied_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX run_ends_batch ON run_ends (batch);

-- One row for each stage of a run. Element n of the arrays is point n: the highest use within it, which file was at work
-- then (0: none) and which of its pages was reached (0: none).
CREATE TABLE memory_records (
    run_id            text NOT NULL,
    stage             text NOT NULL,
    batch             text NOT NULL,
    began_at          timestamptz NOT NULL,
    limit_bytes       bigint NOT NULL,
    seconds_per_point double precision NOT NULL,
    used_kib          integer[] NOT NULL,
    file_ids          bigint[] NOT NULL,
    pages             integer[] NOT NULL,
    steps             jsonb NOT NULL,         -- the degradation steps: [second, step, bytes]
    shown             boolean NOT NULL,       -- whether an event in Dagster shows the picture
    PRIMARY KEY (run_id, stage)
);
CREATE INDEX memory_records_batch ON memory_records (batch);
CREATE INDEX memory_records_began_at ON memory_records (began_at);
CREATE INDEX memory_records_not_shown ON memory_records (run_id) WHERE NOT shown;

-- The same as one row for each point.
CREATE VIEW memory_samples AS
SELECT m.run_id, m.stage, m.batch, nullif(p.file_id, 0) AS file_id, nullif(p.page, 0) AS page,
       (p.point - 1) * m.seconds_per_point AS second, p.used_kib * 1024::bigint AS used_bytes
FROM memory_records m, unnest(m.used_kib, m.file_ids, m.pages) WITH ORDINALITY AS p (used_kib, file_id, page, point);
