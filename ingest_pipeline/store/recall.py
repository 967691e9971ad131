"""How well the HNSW index finds: its nearest vectors against those of an exact search, over a sample of the store."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ingest_pipeline.store.connection import Connection, scalar

TOP = 10
QUERIES = 100
LONGEST_SECONDS = 30.0
"""An exact search of 1,000,000 vectors takes half a second: the sample ends earlier then."""
BEAM = 100
"""`hnsw.ef_search`, as for a search for up to 20 hits (see `search.py`)."""
COUNT = "SELECT count(*) FROM embeddings WHERE model_id = %s"
# Hashes are even: the first of them are a sample that costs nothing, and is the same each time.
SAMPLE = "SELECT text_hash, embedding FROM embeddings WHERE model_id = %s ORDER BY text_hash LIMIT %s"
# The distance of the last one: as near as that counts as found, since equal texts have equal distances.
NEAREST = """
SELECT e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension}) AS distance
FROM embeddings e WHERE e.model_id = {model} AND e.text_hash <> %(own)s
ORDER BY e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension}) LIMIT {top}
"""


@dataclass(frozen=True, slots=True)
class Recall:
    """What the index of a model finds."""

    model: str
    vectors: int = 0
    queries: int = 0
    """Vectors of the store that were looked for; 0 if there are too few."""
    top: int = TOP
    recall: float = 1.0
    """Share of the nearest ones of an exact search that the index finds, too."""
    index_ms: float = 0.0
    exact_ms: float = 0.0


def measure(connection: Connection, model: int, name: str, *, dimension: int) -> Recall:
    """Measure recall and time of a model's index.

    Args:
        connection: from `store`, so that vectors are known.
        model: its number.
        name: its name.
        dimension: of its vectors.
    """
    count = int(scalar(connection, COUNT, (model,)))
    statement = sql.SQL(NEAREST).format(
        dimension=sql.Literal(dimension), model=sql.Literal(model), top=sql.Literal(TOP)
    )
    shares, seconds, began = [], [0.0, 0.0], time.monotonic()
    for own, vector in connection.execute(SAMPLE, (model, QUERIES)).fetchall() if count > TOP else []:
        wanted = {"own": own, "vector": vector}
        exact, took_exact = _distances(connection, statement, wanted, exact=True)
        by_index, took_index = _distances(connection, statement, wanted, exact=False)
        shares.append(sum(distance <= exact[-1] for distance in by_index) / len(exact))
        seconds = [seconds[0] + took_index, seconds[1] + took_exact]
        if time.monotonic() - began > LONGEST_SECONDS:
            break
    queries = len(shares)
    if not queries:
        return Recall(name, count)
    index_ms, exact_ms = (round(1000 * part / queries, 2) for part in seconds)
    return Recall(name, count, queries, TOP, round(sum(shares) / queries, 4), index_ms, exact_ms)


def _distances(
    connection: Connection, statement: sql.Composed, wanted: dict[str, Any], *, exact: bool
) -> tuple[list[float], float]:
    """Return the distances of the nearest vectors in order, and the seconds that it took."""
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL hnsw.ef_search = {beam}").format(beam=sql.Literal(BEAM)))
        scans, others = ("enable_indexscan", "enable_seqscan") if exact else ("enable_seqscan", "enable_indexscan")
        connection.execute(sql.SQL("SET LOCAL {scans} = off").format(scans=sql.Identifier(scans)))
        connection.execute(sql.SQL("SET LOCAL {others} = on").format(others=sql.Identifier(others)))
        began = time.monotonic()
        rows = connection.execute(statement, wanted).fetchall()
        return [distance for (distance,) in rows], time.monotonic() - began
