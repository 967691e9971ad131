"""Readers that query in a loop while a file is replaced: all chunks of one version, never a mix, half, or none."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import psycopg

from ingest_pipeline.store import embedding_models, generations, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import FINGERPRINT, add_file, files_of, seal, write

PATH = "a.txt"
FEWEST_VERSIONS = 4
READ = "SELECT version, array_agg(ordinal ORDER BY ordinal) FROM searchable_chunks WHERE path = %s GROUP BY version"


@dataclass
class Readings:
    """What the readers saw, all together."""

    wanted: int
    reads: int = 0
    versions: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def enough(self) -> bool:
        """Whether the readers may stop."""
        return (self.reads >= self.wanted and len(self.versions) >= FEWEST_VERSIONS) or bool(self.wrong)

    def add(self, reads: int, versions: set[str]) -> None:
        """Add what one reader saw."""
        with self.lock:
            self.reads += reads
            self.versions |= versions


def chunks_of(version: str) -> int:
    """Return how many chunks a version has; two versions in a row never have as many."""
    return 3 + int(version.removeprefix("v")) % 5


def replace_while_read(connection: Connection, url: str, *, reads: int, readers: int = 3) -> Readings:
    """Replace a file again and again until readers have looked so often; return what they saw."""
    publish(connection, 0)
    seen = Readings(reads)
    threads = [threading.Thread(target=_read, args=(url, seen)) for _ in range(readers)]
    for thread in threads:
        thread.start()
    number = 0
    while not seen.enough:
        number += 1
        publish(connection, number)
        if number % 10 == 0:
            generations.drop_unused_generations(connection)
            vectors.drop_unused_vectors(connection)
    for thread in threads:
        thread.join()
    return seen


def publish(connection: Connection, number: int) -> None:
    """What catalog and run do with a version of the file; half of its texts are those of the version before."""
    version, model = f"v{number}", embedding_models.model_id(connection, CARD)
    add_file(connection, PATH, version, scan=number + 1)
    file = files_of(connection, seal(connection))[PATH]
    texts = [f"text {place} of {number if place % 2 else 'all'}" for place in range(chunks_of(version))]
    generation = write(connection, file, texts, CARD)
    pending = vectors.pending_chunks(connection, model, [generation.generation_id], limit=10)
    vectors.write_vectors(connection, model, pending, FakeEmbedder().embed([one.text for one in pending]))
    assert generations.publish_file(connection, file, generation, fingerprint=FINGERPRINT, model=model)


def _read(url: str, seen: Readings) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while not seen.enough:
            versions = set()
            for _ in range(100):
                rows = connection.execute(READ, (PATH,)).fetchall()
                if problem := wrong(rows):
                    seen.wrong.append(problem)
                versions |= {version for version, _ in rows}
            seen.add(100, versions)


def wrong(rows: list[tuple[str, list[int]]]) -> str:
    """Return what is wrong with one reading; '' if it has all chunks of exactly one version."""
    if len(rows) != 1:
        return f"{len(rows)} versions: {rows}"
    [(version, ordinals)] = rows
    return "" if ordinals == list(range(chunks_of(version))) else f"{version} with chunks {ordinals}"
