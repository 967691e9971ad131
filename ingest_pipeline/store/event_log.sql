-- Dagster's own tables: what of old runs nobody reads any more is deleted (docs/dagster.md, H1).
-- Written for dagster 1.13. Nothing here deletes a run or a partition.

-- exists --
SELECT to_regclass('dagster.event_logs') IS NOT NULL

-- checks --
SELECT asset_key, check_name, max(id) FROM dagster.asset_check_executions GROUP BY 1, 2

-- newest --
SELECT asset_key, max(id) AS id FROM dagster.event_logs
WHERE asset_key IS NOT NULL AND dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY 1

-- full_until --
-- The runs up to this id are not among the newest.
SELECT coalesce((SELECT id FROM dagster.runs ORDER BY id DESC OFFSET %(full_runs)s LIMIT 1), 0)

-- next_runs --
-- The last of the next runs by their ids.
SELECT max(id) FROM (SELECT id FROM dagster.runs WHERE id > %(after)s ORDER BY id LIMIT %(slab)s) runs

-- old_runs --
-- Old runs among them that have more than they need. A run that the ledger has not reconciled is not old. `last`: no
-- later run has begun on the same partition, or of the same job without one: its failure is shown.
SELECT * FROM (
    SELECT r.run_id, r.status <> 'SUCCESS' AND NOT CASE
        WHEN r.partition IS NULL THEN EXISTS (
            SELECT FROM dagster.runs n WHERE n.pipeline_name = r.pipeline_name AND n.id > r.id)
        ELSE EXISTS (
            SELECT FROM dagster.run_tags t JOIN dagster.runs n USING (run_id)
            WHERE t.key = 'dagster/partition' AND t.value = r.partition AND n.id > r.id)
        END AS last
    FROM dagster.runs r
    WHERE r.id > %(after)s AND r.id <= %(until)s AND r.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
      AND (r.update_timestamp < (now() AT TIME ZONE 'UTC') - make_interval(days => %(days)s) OR r.id <= %(full_until)s)
      AND NOT EXISTS (SELECT FROM batches b WHERE b.run_id = r.run_id AND b.status = 'running')
) old
WHERE (  -- not EXISTS, which is planned as a join that reads every event
    SELECT true FROM dagster.event_logs e WHERE e.run_id = old.run_id
      AND (e.dagster_event_type IS NULL OR e.dagster_event_type <> ALL(%(kept)s))
      AND NOT (old.last AND e.dagster_event_type = ANY(%(kept_of_last)s)) LIMIT 1)

-- delete_events --
DELETE FROM dagster.event_logs WHERE run_id = ANY(%(runs)s)
  AND (dagster_event_type IS NULL OR dagster_event_type <> ALL(%(kept)s))

-- delete_planned --
-- What was planned is needed until something later is known of the same partition.
DELETE FROM dagster.event_logs e
WHERE e.run_id = ANY(%(runs)s) AND e.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' AND CASE
    WHEN e.partition IS NULL THEN EXISTS (
        SELECT FROM dagster.event_logs n WHERE n.asset_key = e.asset_key AND n.id > e.id
          AND n.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED'))
    ELSE EXISTS (
        SELECT FROM dagster.event_logs n WHERE n.asset_key = e.asset_key AND n.partition = e.partition AND n.id > e.id
          AND n.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED'))
    END

-- shorten_materializations --
-- Which partition was materialized when and by which run: without tables, numbers and data versions. Dagster's reader
-- wants what is named here and null; everything else that is left out has a default.
UPDATE dagster.event_logs SET event = jsonb_build_object(
    '__class__', 'EventLogEntry', 'error_info', NULL, 'level', event::jsonb -> 'level', 'user_message', '',
    'run_id', run_id, 'timestamp', event::jsonb -> 'timestamp', 'step_key', step_key,
    'dagster_event', jsonb_build_object(
        '__class__', 'DagsterEvent', 'event_type_value', dagster_event_type, 'step_key', step_key,
        'pipeline_name', event::jsonb -> 'pipeline_name',
        'event_specific_data', jsonb_build_object(
            '__class__', 'StepMaterializationData',
            'materialization', jsonb_build_object(
                '__class__', 'AssetMaterialization', 'partition', partition,
                'asset_key', event::jsonb #> '{dagster_event,event_specific_data,materialization,asset_key}'))))::text
WHERE run_id = ANY(%(runs)s) AND dagster_event_type = 'ASSET_MATERIALIZATION' AND id <> ALL(%(newest)s)

-- delete_run_tags --
-- By them runs can be found; the page of a run shows them all the same.
DELETE FROM dagster.run_tags WHERE run_id = ANY(%(runs)s) AND key LIKE 'ingest/%%'

-- delete_tags --
-- Data versions, which conditions of automation ask for; there are none here.
DELETE FROM dagster.asset_event_tags t USING dagster.event_logs e
WHERE t.event_id = e.id AND e.run_id = ANY(%(runs)s) AND e.dagster_event_type = 'ASSET_MATERIALIZATION'
  AND e.id <> ALL(%(newest)s)

-- delete_executions --
-- The newest execution of each check is what the UI shows.
DELETE FROM dagster.asset_check_executions
WHERE asset_key = %(asset_key)s AND check_name = %(check_name)s AND run_id = ANY(%(runs)s) AND id <> %(newest)s

-- delete_states --
-- Freshness and health of an asset, which belong to no run: the newest says all.
DELETE FROM dagster.event_logs e WHERE e.asset_key IS NOT NULL AND e.dagster_event_type = ANY(%(states)s)
  AND e.timestamp < (now() AT TIME ZONE 'UTC') - make_interval(days => %(days)s)
  AND EXISTS (SELECT FROM dagster.event_logs n WHERE n.asset_key = e.asset_key AND n.id > e.id
                AND n.dagster_event_type = e.dagster_event_type)

-- sizes --
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint, (SELECT count(*) FROM dagster.runs)
FROM pg_class c WHERE c.relnamespace = to_regnamespace('dagster') AND c.relkind = 'r'

-- unfinished_indexes --
-- What drops the indexes that a killed rebuilding left behind; nothing while one is at work.
SELECT format('DROP INDEX dagster.%I', c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace('dagster') AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)'
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
