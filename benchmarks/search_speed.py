"""How fast search is on a large store of generated chunks: p50, p95 and p99 of each arm and of both, and recall@10.

Texts are drawn from a vocabulary in which the word of rank r has the frequency of Zipf's law, vectors from clusters on
the unit sphere. The store is made once below a folder (half an hour for a million chunks on two cores) and kept. A
search is what a request costs after the query is embedded: both arms, fusion, places and marks, over a warm connection;
queries are 3 to 12 words, drawn as the texts are, so that many have frequent words only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingest_pipeline.search_models import SearchQuery, SearchScope
from ingest_pipeline.store.connection import Connection, scalar, store
from ingest_pipeline.store.coverage import coverage
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.search import search
from ingest_pipeline.store.server import EmbeddedServer

DIMENSION, CLUSTERS, SPREAD = 384, 5_000, 0.9
"""Noise of this length around a cluster's centre: texts of one subject have a cosine of about 0.55."""
WORDS, TEXT_WORDS = 200_000, 150
CHUNKS_PER_FILE, SLAB = 20, 10_000
BUILD_MEMORY = "2GB"
"""The graph of a million vectors has 1.4 GB; what exceeds this is built through the disk, many times slower."""
TOP = 10


@dataclass(frozen=True, slots=True)
class Drawn:
    """Where texts and vectors are drawn from."""

    centres: np.ndarray
    vocabulary: np.ndarray
    cumulative: np.ndarray

    def words(self, random: np.random.Generator, count: int) -> list[str]:
        """Return some words, frequent ones more often."""
        return list(self.vocabulary[np.searchsorted(self.cumulative, random.random(count))])

    def vectors(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Return some unit vectors, shape (count, DIMENSION)."""
        noise = random.standard_normal((count, DIMENSION)).astype(np.float32)
        near = self.centres[random.integers(0, CLUSTERS, count)] + SPREAD * noise / np.sqrt(DIMENSION)
        unit: np.ndarray = near / np.linalg.norm(near, axis=1, keepdims=True)
        return unit


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, metavar="FOLDER", help="where the store is, or is made")
    parser.add_argument("--chunks", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--queries", type=int, default=500, metavar="N")
    options = parser.parse_args(arguments)
    server = EmbeddedServer(options.home.absolute())
    try:
        url = server.start()
        migrate(url)
        with store(url) as connection:
            drawn = draw()
            fill(connection, drawn, options.chunks)
            measure(connection, drawn, options.queries)
    finally:
        server.stop()
    return 0


def draw() -> Drawn:
    """Return the same clusters and vocabulary each time."""
    random = np.random.default_rng(7)
    centres = random.standard_normal((CLUSTERS, DIMENSION)).astype(np.float32)
    letters = np.array(list("abcdefghiklmnoprstuvw"))
    vocabulary = np.array(["".join(random.choice(letters, 4 + rank % 7)) + f"{rank:x}" for rank in range(WORDS)])
    shares = 1 / np.arange(3, WORDS + 3)
    return Drawn(centres / np.linalg.norm(centres, axis=1, keepdims=True), vocabulary, np.cumsum(shares / shares.sum()))


def fill(connection: Connection, drawn: Drawn, chunks: int) -> None:
    """Make the store, if it is not there yet."""
    from pgvector import HalfVector

    made = int(scalar(connection, "SELECT count(*) FROM embeddings"))
    if not made:
        connection.execute("INSERT INTO models (name, identity, dimension, max_tokens) VALUES ('drawn', 'i', 384, 256)")
    began = time.monotonic()
    for start in range(made, chunks, SLAB):
        random = np.random.default_rng(start)
        vectors = drawn.vectors(random, SLAB)
        with connection.transaction(), connection.cursor() as cursor:
            _files(connection, start)
            with cursor.copy(
                "COPY chunks (generation_id, ordinal, page_from, page_to, char_from, char_to, tokens, text, text_hash)"
                " FROM STDIN"
            ) as copy:
                for number in range(start, start + SLAB):
                    text = " ".join(drawn.words(random, TEXT_WORDS))
                    generation, ordinal = divmod(number, CHUNKS_PER_FILE)
                    copy.write_row((1 + generation, ordinal, 1, 1, 0, len(text), 200, text, number.to_bytes(8, "big")))
            with cursor.copy("COPY embeddings (model_id, text_hash, embedding) FROM STDIN") as copy:
                for offset, vector in enumerate(vectors):
                    copy.write_row((1, (start + offset).to_bytes(8, "big"), HalfVector(vector).to_text()))
        print(f"{start + SLAB:,} chunks after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if not int(scalar(connection, "SELECT count(*) FROM pg_class WHERE relname = 'embeddings_hnsw_1'")):
        connection.execute(f"SET maintenance_work_mem = '{BUILD_MEMORY}'")
        connection.execute("SET max_parallel_maintenance_workers = 1")
        connection.execute(
            "CREATE INDEX embeddings_hnsw_1 ON embeddings USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops)"
            " WHERE model_id = 1"
        )
        connection.execute("VACUUM (ANALYZE)")
        print(f"indexed after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _files(connection: Connection, start: int) -> None:
    first, last = 1 + start // CHUNKS_PER_FILE, (start + SLAB) // CHUNKS_PER_FILE
    connection.execute(
        """
        INSERT INTO generations (generation_id, version, fingerprint, complete, chunks, pages) OVERRIDING SYSTEM VALUE
        SELECT i, 'v' || i, 'f', true, %s, 1 FROM generate_series(%s::bigint, %s::bigint) i
        """,
        (CHUNKS_PER_FILE, first, last),
    )
    connection.execute(
        "INSERT INTO generation_models SELECT i, 1 FROM generate_series(%s::bigint, %s::bigint) i", (first, last)
    )
    connection.execute(
        """
        INSERT INTO files (source, path, size_bytes, version, media_type, status, generation_id, model_id)
        SELECT '/data/' || i %% 10, 'folder' || i %% 1000 || '/' || i || '.txt', 1000, 'v' || i, 'text/plain',
               'indexed', i, 1
        FROM generate_series(%s::bigint, %s::bigint) i
        """,
        (first, last),
    )


def measure(connection: Connection, drawn: Drawn, queries: int) -> None:
    """Print the times of each kind of search over some queries, and what the index finds of exact search."""
    random = np.random.default_rng(99)
    vectors = drawn.vectors(random, queries)
    texts = [" ".join(drawn.words(random, int(count))) for count in random.integers(3, 13, queries)]
    narrow, broad = SearchScope(path="folder77/"), SearchScope(source="/data/3")
    kinds: dict[str, Callable[[int], object]] = {
        "vector": lambda number: search(connection, 1, vectors[number], SearchQuery("", TOP)),
        "lexical": lambda number: search(connection, 1, None, SearchQuery(texts[number], TOP)),
        "hybrid": lambda number: search(connection, 1, vectors[number], SearchQuery(texts[number], TOP)),
        "hybrid, 1 source of 10": lambda number: search(
            connection, 1, vectors[number], SearchQuery(texts[number], TOP, broad)
        ),
        "hybrid, 1 folder of 1,000": lambda number: search(
            connection, 1, vectors[number], SearchQuery(texts[number], TOP, narrow)
        ),
        "coverage": lambda number: coverage(connection, SearchQuery(texts[number], TOP)),
        "coverage of 1 source": lambda number: coverage(connection, SearchQuery(texts[number], TOP, broad)),
    }
    print("| ms | p50 | p95 | p99 | most |\n|---|---|---|---|---|")
    for name, ask in kinds.items():
        for number in range(min(50, queries)):
            ask(number)  # warm
        seconds = np.array([_timed(ask, number) for number in range(queries)]) * 1000
        p50, p95, p99 = np.percentile(seconds, (50, 95, 99))
        print(f"| {name} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {seconds.max():.0f} |", flush=True)
    print(f"\nrecall@{TOP} of the index against exact search: {recall(connection, vectors[:50]):.3f}")


def _timed(ask: Callable[[int], object], number: int) -> float:
    began = time.perf_counter()
    ask(number)
    return time.perf_counter() - began


def recall(connection: Connection, vectors: np.ndarray) -> float:
    """Return the share of the exactly nearest texts that the index finds."""
    from pgvector import HalfVector

    shares = []
    for vector in vectors:
        by_index = {
            hit.ordinal + CHUNKS_PER_FILE * hit.file_id for hit in search(connection, 1, vector, SearchQuery("", TOP))
        }
        with connection.transaction():
            connection.execute("SET LOCAL enable_indexscan = off")
            rows = connection.execute(
                """
                SELECT c.ordinal + %s * f.file_id FROM (
                    SELECT text_hash FROM embeddings WHERE model_id = 1
                    ORDER BY embedding::halfvec(384) <=> %s::halfvec(384) LIMIT %s
                ) e JOIN chunks c USING (text_hash) JOIN files f USING (generation_id)
                """,
                (CHUNKS_PER_FILE, HalfVector(vector), TOP),
            ).fetchall()
        shares.append(len(by_index & {number for (number,) in rows}) / TOP)
    return float(np.mean(shares))


if __name__ == "__main__":
    sys.exit(main())
