"""Makes each kind of damage once in a store, for `ingest cleanup` to find: never in one that you need.

`python -m benchmarks.damage` damages the store of the settings; a file that is searchable is needed for most kinds.
"""

from __future__ import annotations

import sys

from ingest_pipeline.settings import read_settings
from ingest_pipeline.store.connection import Connection, database_url, store

# As a restore that went wrong, or somebody with psql, would: constraints are switched off.
UNCONSTRAINED = "SET session_replication_role = replica"
# The searchable file at a place in the order of paths.
PICK = """
SELECT file_id, generation_id FROM files WHERE status = 'indexed' AND generation_id IS NOT NULL
ORDER BY path OFFSET {place} LIMIT 1
"""
DAMAGES = {
    "shown_generation_missing": ["UPDATE files SET generation_id = 999999 WHERE file_id = {file}"],
    "rows_without_generation": [
        "INSERT INTO sections (generation_id, ordinal, level, title, path, page_from) "
        "VALUES (999998, 0, 1, 't', 't', 1)"
    ],
    "incomplete_generation_shown": ["UPDATE generations SET complete = false WHERE generation_id = {generation}"],
    "other_bytes_shown": ["UPDATE files SET version = 'another' WHERE file_id = {file}"],
    "deleted_but_shown": ["UPDATE files SET status = 'deleted' WHERE file_id = {file}"],
    "indexed_without_chunks": ["UPDATE files SET generation_id = NULL WHERE file_id = {file}"],
    "chunks_incomplete": ["DELETE FROM chunks WHERE generation_id = {generation} AND ordinal = 0"],
    "chunk_text_changed": ["UPDATE chunks SET text = text || '!' WHERE generation_id = {generation} AND ordinal = 0"],
    "vectors_unusable": [
        "UPDATE embeddings SET embedding = (embedding + embedding) WHERE text_hash = "
        "(SELECT text_hash FROM chunks WHERE generation_id = {generation} AND ordinal = 0)"
    ],
    "contradicting_states": [
        "INSERT INTO unembedded_texts (model_id, text_hash, state) SELECT model_id, text_hash, 'rejected' "
        "FROM embeddings ORDER BY text_hash LIMIT 1"
    ],
    "model_noted_too_early": [
        "INSERT INTO models (name, identity, dimension, max_tokens) VALUES ('another', 'another', 8, 40)",
        "INSERT INTO generation_models SELECT {generation}, max(model_id) FROM models",
    ],
    "indexed_without_vector": [
        "DELETE FROM embeddings WHERE text_hash = "
        "(SELECT text_hash FROM chunks WHERE generation_id = {generation} AND ordinal = 0)"
    ],
    "model_not_noted": ["DELETE FROM generation_models WHERE generation_id = {generation}"],
    "answers_missing": [
        "INSERT INTO section_extracts (generation_id, prompt, ordinal, title, page_from, page_to, content_hash, "
        "prompt_version, model, status) VALUES ({generation}, 'p', 0, 't', 1, 1, '\\x00', 'v', 'm', 'done')"
    ],
    "waiting_without_version": [
        "INSERT INTO files (source, path, size_bytes, media_type, status) "
        "VALUES ('/nowhere', 'unread.txt', 1, 'text/plain', 'synced')"
    ],
    "failed_without_reason": [
        "INSERT INTO files (source, path, size_bytes, version, media_type, status) "
        "VALUES ('/nowhere', 'silent.txt', 1, 'v', 'text/plain', 'failed')"
    ],
    "scans_run_backwards": ["SELECT setval('scan_numbers', 1, false)"],
    "batches_without_run": [
        "INSERT INTO batches (batch, status, memory_limit_bytes, predicted_peak_bytes, predicted_seconds) "
        "VALUES ('20200101-000001-a', 'running', 1, 1, 1)"
    ],
    "stuck_files": ["UPDATE files SET status = 'processing', batch = NULL WHERE file_id = {file}"],
    "given_up_batches": [
        "INSERT INTO batches (batch, status, memory_limit_bytes, predicted_peak_bytes, predicted_seconds, failures) "
        "VALUES ('20200101-000002-b', 'failed', 1, 1, 1, 3)",
        "INSERT INTO batch_files SELECT '20200101-000002-b', file_id, version FROM files WHERE file_id = {file}",
        "UPDATE files SET status = 'synced', batch = '20200101-000002-b' WHERE file_id = {file}",
    ],
    "open_attempts": [
        "INSERT INTO attempts (file_id, batch, run_id, version, stage) VALUES ({file}, 'gone', 'gone', 'v', 'chunks')"
    ],
    "empty_batches": [
        "INSERT INTO batches (batch, status, memory_limit_bytes, predicted_peak_bytes, predicted_seconds) "
        "VALUES ('20200101-000003-c', 'waiting', 1, 1, 1)"
    ],
    "unused_generations": [
        "INSERT INTO generations (version, fingerprint, complete) VALUES ('nobody''s', 'f', true)"
    ],
    "unused_vectors": [
        "INSERT INTO embeddings SELECT model_id, '\\x01', embedding FROM embeddings ORDER BY text_hash LIMIT 1"
    ],
    "unused_entities": [
        "INSERT INTO entities (model, text_hash, char_from, char_to, label, name) VALUES ('m', '\\x02', 0, 1, 'L', 'n')"
    ],
    "index_missing": ["DROP INDEX IF EXISTS embeddings_hnsw_1"],
    "gaps_under_lower_limits": [
        "UPDATE files SET gaps = '[{{\"page_from\": 1, \"page_to\": 1, \"reason\": \"ParserTimedOut\"}}]' "
        "WHERE file_id = {file}",
        "UPDATE generations SET limits = '{{}}' WHERE generation_id = {generation}",
    ],
}  # fmt: skip


def make_damage(connection: Connection, kind: str, *, place: int = 0) -> None:
    """Damage a store in one way; `place` chooses the file, by path."""
    row = connection.execute(PICK.format(place=place).encode()).fetchone()
    if row is None:
        raise LookupError(f"{kind}: there is no searchable file at place {place}")
    connection.execute(UNCONSTRAINED)
    for statement in DAMAGES[kind]:
        connection.execute(statement.format(file=row[0], generation=row[1]).encode())
    connection.execute("SET session_replication_role = origin")


def main() -> None:
    """Make every kind of damage, one after another; most take a searchable file away, so there must be many."""
    with store(database_url(read_settings())) as connection:
        for kind in DAMAGES:
            try:
                make_damage(connection, kind)
            except LookupError as error:
                sys.exit(f"{error}: `ingest run` with {len(DAMAGES)} files or more first")
            print(kind)


if __name__ == "__main__":
    main()
