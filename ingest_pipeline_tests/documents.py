"""Ledger rows and chunks for tests, in one line each."""

from __future__ import annotations

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.models import START, Chunk, FileCost, ListedFile, ModelCard, ParsedFile, PlannedBatch, RawFile
from ingest_pipeline.store import batches, generations, ledger
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection

SOURCE = "/documents"
FINGERPRINT = "fingerprint0"


def add_file(connection: Connection, path: str, version: str = "v1", *, source: str = SOURCE, scan: int = 1) -> None:
    """A file that waits."""
    file = ListedFile(path, 100, "1")
    store_files.record_versions(
        connection, store_files.ScannedFile(source, file, scan, version=version, media_type="text/plain")
    )


def seal(connection: Connection, *, alone: bool = False) -> str:
    """Every waiting file in one batch."""
    costs = tuple(
        FileCost(file.file_id, f"{file.source}/{file.path}", file.version, 1000, 1.0, alone)
        for file in ledger.waiting_files(connection)
    )
    return batches.seal_batch(connection, PlannedBatch(costs, 1000, 1.0), memory_limit_bytes=2**30)


def files_of(connection: Connection, batch: str) -> dict[str, RawFile]:
    """The files that a batch answers for, by path."""
    return {file.path: file for file in ledger.batch_files(connection, batch)}


def chunk(ordinal: int, text: str, page: int = 1) -> Chunk:
    """A chunk."""
    return Chunk(ordinal, text, len(text.split()), page, page, ordinal * 100, ordinal * 100 + len(text))


def write(connection: Connection, file: RawFile, texts: list[str], card: ModelCard) -> generations.Generation:
    """A complete generation of a file with these chunks, the file processed."""
    fingerprint = f"{FINGERPRINT}:{file.media_type}"
    with generations.claimed_generation(connection, file, fingerprint=fingerprint, card=card) as generation:
        rows = [(chunk(number, text), text_hash(text)) for number, text in enumerate(texts)]
        generations.write_chunks(connection, generation, rows, checkpoint=START, gaps=[])
        generations.complete_generation(connection, generation, ParsedFile(pages=1))
    store_files.mark_processed(connection, file, generation_id=generation.generation_id, pages=1)
    return generations.find_generation(connection, generation.generation_id)


def status_of(connection: Connection, path: str) -> tuple[str, str | None]:
    """A file's status and error."""
    row = connection.execute("SELECT status, error FROM files WHERE path = %s", (path,)).fetchone()
    assert row is not None, f"{path} is not in the ledger"
    return row[0], row[1]


def count(connection: Connection, table: str) -> int:
    """Rows of a table."""
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])
