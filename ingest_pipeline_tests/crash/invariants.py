"""What is true of the store after every commit, whatever runs, is killed, is swept or is repaired."""

from __future__ import annotations

from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.cleanup import find_damage
from ingest_pipeline.store import reports
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.files import MAX_KILLS

# Each statement counts what must not be there.
NEVER = {
    "a path shows chunks of two versions": """
        SELECT count(*) FROM (SELECT source, path FROM searchable_chunks
                              GROUP BY 1, 2 HAVING count(DISTINCT version) > 1) mixed
    """,
    "a generation that is shown is not whole": """
        SELECT count(*) FROM files f JOIN generations g USING (generation_id)
        WHERE NOT g.complete OR g.chunks <> (SELECT count(*) FROM chunks c WHERE c.generation_id = g.generation_id)
           OR g.chunks <> (SELECT coalesce(max(ordinal) + 1, 0) FROM chunks c WHERE c.generation_id = g.generation_id)
    """,
    "a chunk that is shown waits for its vector": """
        SELECT count(*) FROM files f JOIN chunk_states s USING (generation_id, model_id)
        WHERE s.state = 'waiting' AND f.status = 'indexed'
    """,
    "a text has a vector and is called rejected or deferred": """
        SELECT count(*) FROM embeddings e JOIN unembedded_texts u USING (model_id, text_hash)
    """,
    "a shown file names no model": """
        SELECT count(*) FROM files WHERE generation_id IS NOT NULL AND model_id IS NULL
    """,
    "a model answers for a generation of which a chunk waits or is deferred": """
        SELECT count(*) FROM generation_models m JOIN chunk_states s USING (generation_id, model_id)
        WHERE s.state IN ('waiting', 'deferred')
    """,
    "a file was killed too often and goes on": f"""
        SELECT count(*) FROM files WHERE kills > {MAX_KILLS}
           OR kills = {MAX_KILLS} AND status IN ('synced', 'processing', 'processed', 'indexed')
    """,
    "a file belongs to a batch that was not sealed with its version": """
        SELECT count(*) FROM files f WHERE f.batch IS NOT NULL AND NOT EXISTS (
            SELECT FROM batch_files b WHERE b.batch = f.batch AND b.file_id = f.file_id AND b.version = f.version)
    """,
    "a sealed batch has another number of files": """
        SELECT count(*) FROM batches b WHERE files <> (SELECT count(*) FROM batch_files f WHERE f.batch = b.batch)
    """,
    "a file waits in a batch that is done": """
        SELECT count(*) FROM files f JOIN batches b USING (batch)
        WHERE b.status = 'done' AND f.status IN ('synced', 'processing', 'processed')
    """,
    "a file is in the making without a batch": """
        SELECT count(*) FROM files WHERE batch IS NULL AND status IN ('processing', 'processed')
    """,
    "a failed file has no reason, or another file has one": """
        SELECT count(*) FROM files WHERE (status = 'failed') <> (error IS NOT NULL)
    """,
    "an attempt is open of a run whose batch has ended": """
        SELECT count(*) FROM attempts a JOIN batches b USING (batch)
        WHERE a.open AND a.run_id = b.run_id AND b.status <> 'running'
    """,
}  # fmt: skip


EVERYTHING = " UNION ALL ".join(f"SELECT '{name}', ({query})" for name, query in NEVER.items())


def violations(connection: Connection, settings: Settings, *, thorough: bool = True) -> list[str]:
    """Return what is true and must not be; one snapshot, so that runs may go on meanwhile.

    Args:
        connection: to the store.
        settings: the limits of gaps that `cleanup` would try again.
        thorough: also whatever `cleanup` calls damage, in 30 queries.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        counts = dict(connection.execute(EVERYTHING.encode()).fetchall())
        counts |= {f"report: {name}": count for name, count in reports.inconsistencies(connection).items()}
        damaged = [one for one in find_damage(connection, settings) if one.severity == "damage"] if thorough else []
    counts |= {f"cleanup: {one.kind} {one.example}": one.count for one in damaged}
    return [f"{name}: {count}" for name, count in counts.items() if count]


def unused(connection: Connection) -> dict[str, int]:
    """Return what a sweep leaves behind and must not, when no run is at work."""
    queries = {
        "vectors": "SELECT count(*) FROM embeddings e WHERE NOT EXISTS (SELECT FROM chunks c "
        "WHERE c.text_hash = e.text_hash)",
        "states": "SELECT count(*) FROM unembedded_texts u WHERE NOT EXISTS (SELECT FROM chunks c "
        "WHERE c.text_hash = u.text_hash)",
        "entities": "SELECT count(*) FROM entity_texts t WHERE NOT EXISTS (SELECT FROM chunks c "
        "WHERE c.text_hash = t.text_hash)",
        "generations": "SELECT count(*) FROM generations g WHERE NOT EXISTS (SELECT FROM files f "
        "WHERE f.generation_id = g.generation_id) AND NOT EXISTS (SELECT FROM files f WHERE f.version = g.version "
        "AND f.status IN ('synced', 'processing', 'processed'))",
    }
    counts = {name: connection.execute(query).fetchone() for name, query in queries.items()}  # type: ignore[call-overload]
    return {name: row[0] for name, row in counts.items() if row and row[0]}
