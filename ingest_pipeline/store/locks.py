"""Advisory locks of transactions: they end with their transaction, also behind a transaction pooler.

Vectors belong to texts, and no foreign key can say that a chunk relies on one. Two rules make it impossible that a
vector is deleted under a chunk:

- whoever stores chunks does so in a transaction that shares the vector lock (`rely_on_vectors`);
- whoever deletes vectors does so in a transaction that holds it alone (`hold_vectors`), and selects chunks in a
  statement that begins after the lock was granted.

So a chunk is stored either before that statement, which then sees it, or after the deletion is committed, and then the
run that stored it finds the vector missing and computes it. `FOR KEY SHARE` on the vector cannot do this: the run would
have to know which vectors a deletion that is not committed yet is about to take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ingest_pipeline.store.connection import Connection, connected

SEALING, VECTORS, INDEXES, TABLES = 7_261_002, 7_261_003, 7_261_004, 7_261_005  # any numbers of our own
SHARE = "SELECT pg_advisory_xact_lock_shared(%s)"
HOLD = "SELECT pg_advisory_xact_lock(%s)"


def rely_on_vectors(connection: Connection) -> None:
    """Keep vectors from being deleted until this transaction ends."""
    connection.execute(SHARE, (VECTORS,))


def hold_vectors(connection: Connection) -> None:
    """Keep chunks from being stored until this transaction ends."""
    connection.execute(HOLD, (VECTORS,))


def hold_sealing(connection: Connection) -> None:
    """Let one process seal batches at a time: catalog, sensor and command line may all find the same files waiting."""
    connection.execute(HOLD, (SEALING,))


def hold_indexes(connection: Connection) -> None:
    """Let one process make an index at a time: of two that ask whether it is there, both would make it, one in vain."""
    connection.execute(HOLD, (INDEXES,))


@contextmanager
def making_tables(url: str) -> Iterator[None]:
    """Let one process at a time make Dagster's tables, which it does not do in a way that bears a second one.

    Raises:
        StoreUnavailable: Postgres cannot be reached.
    """
    with connected(url) as connection, connection.transaction():
        connection.execute(HOLD, (TABLES,))
        yield
