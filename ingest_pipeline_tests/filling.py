"""Fills a store with published files, for tests of what asks it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.models import START, ListedFile, ParsedFile, Section
from ingest_pipeline.store import embedding_models, generations, vectors
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, chunk, files_of, seal


def publish(
    connection: Connection,
    embedder: FakeEmbedder,
    path: str,
    texts: Sequence[str],
    *,
    source: str = SOURCE,
    media_type: str = "text/plain",
    sections: Sequence[Section] = (),
) -> int:
    """Publish a file whose chunks are these texts, one on each page, in the first section if there is one.

    Returns:
        The file's id.
    """
    version = hashlib.sha256(repr((source, path, texts)).encode()).hexdigest()
    scanned = store_files.ScannedFile(source, ListedFile(path, 100, "1"), 1, version=version, media_type=media_type)
    store_files.record_versions(connection, scanned)
    file = files_of(connection, seal(connection))[path]
    model = embedding_models.model_id(connection, CARD)
    with generations.claimed_generation(connection, file, fingerprint=FINGERPRINT, card=CARD) as generation:
        rows = [
            (replace(chunk(number, text, number + 1), section=0 if sections else None), text_hash(text))
            for number, text in enumerate(texts)
        ]
        generations.write_chunks(connection, generation, rows, checkpoint=START, gaps=[], sections=sections)
        generations.complete_generation(connection, generation, ParsedFile(pages=len(texts)))
    store_files.mark_processed(connection, file, generation_id=generation.generation_id, pages=len(texts))
    pending = vectors.pending_chunks(connection, model, [generation.generation_id], limit=1000)
    if pending:
        vectors.write_vectors(connection, model, pending, embedder.embed([one.text for one in pending]))
    assert generations.publish_file(connection, file, generation, fingerprint=FINGERPRINT, model=model)
    return file.file_id
