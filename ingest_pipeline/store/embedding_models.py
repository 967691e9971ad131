"""Models side by side: each has its vectors and its index, and files that readers see under it."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql
from psycopg.rows import class_row

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.models import ModelCard, StoredModel
from ingest_pipeline.store import files, locks
from ingest_pipeline.store.connection import Connection, scalar

UPSERT = """
INSERT INTO models (name, identity, dimension, max_tokens, embedder) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (identity, max_tokens) DO UPDATE SET name = excluded.name RETURNING model_id
"""
SELECT_ID = "SELECT model_id FROM models WHERE identity = %s AND max_tokens = %s"
LIST = """
SELECT m.model_id, m.name, m.embedder, m.dimension,
       (SELECT count(*) FROM embeddings e WHERE e.model_id = m.model_id) AS vectors,
       (SELECT count(*) FROM unembedded_texts u WHERE u.model_id = m.model_id AND u.state = 'rejected') AS rejected,
       (SELECT count(*) FROM unembedded_texts u WHERE u.model_id = m.model_id AND u.state = 'deferred') AS deferred,
       (SELECT count(*) FROM files f WHERE f.model_id = m.model_id AND f.generation_id IS NOT NULL) AS files
FROM models m ORDER BY m.model_id
"""
# Models under which readers see a file, other than one.
SHOWN_UNDER_OTHERS = """
SELECT model_id, name, identity, dimension, max_tokens, embedder FROM models
WHERE model_id IS DISTINCT FROM %s AND model_id IN (SELECT model_id FROM files WHERE generation_id IS NOT NULL)
ORDER BY model_id
"""
NAMED = """
SELECT model_id, name, identity, dimension, max_tokens, embedder FROM models WHERE name = %s OR model_id::text = %s
"""
DROP_VECTORS = """
DELETE FROM embeddings WHERE model_id = %(model)s AND text_hash IN (
    SELECT text_hash FROM embeddings WHERE model_id = %(model)s LIMIT %(limit)s)
"""
DROP_INDEX = "DROP INDEX IF EXISTS {name}"
DROP_REST = (
    "DELETE FROM unembedded_texts WHERE model_id = %(model)s",
    "DELETE FROM generation_models WHERE model_id = %(model)s",
)
DELETE = "DELETE FROM models WHERE model_id = %s"
SLAB_VECTORS = 10_000


def model_id(connection: Connection, card: ModelCard) -> int:
    """Return the number of a model in the store, adding it when it is new."""
    known = known_model_id(connection, card)
    if known is not None:
        return known
    row = (card.name, card.identity, card.dimension, card.takes_tokens, card.embedder)
    return int(scalar(connection, UPSERT, row))


def known_model_id(connection: Connection, card: ModelCard) -> int | None:
    """Return the number of a model in the store, or None when nothing was ever embedded with it."""
    number: int | None = scalar(connection, SELECT_ID, (card.identity, card.takes_tokens))
    return number


def list_models(connection: Connection) -> list[StoredModel]:
    """Return every model of the store, with what it has there."""
    with connection.cursor(row_factory=class_row(StoredModel)) as cursor:
        return cursor.execute(LIST).fetchall()


def shown_under_others(connection: Connection, model: int | None) -> Iterator[tuple[int, ModelCard]]:
    """Yield the other models under which readers see files that this one cannot answer for yet."""
    for number, *card in connection.execute(SHOWN_UNDER_OTHERS, (model,)).fetchall():
        name, identity, dimension, max_tokens, embedder = card
        yield number, ModelCard(name, identity, dimension, max_tokens, embedder=embedder)


def model_named(connection: Connection, name: str) -> tuple[int, ModelCard]:
    """Return the number and the card of a model of the store, by its name or number.

    Raises:
        ConfigurationError: there is none, or several have the name.
    """
    rows = connection.execute(NAMED, (name, name)).fetchall()
    if len(rows) != 1:
        why = "several models have this name: use the number" if rows else "no such model"
        raise ConfigurationError(f"{name}: {why}; `ingest models` lists them")
    number, name, identity, dimension, max_tokens, embedder = rows[0]
    return number, ModelCard(name, identity, dimension, max_tokens, embedder=embedder)


def dimension_of(connection: Connection, model: int) -> int:
    """Return the dimension of a model's vectors."""
    return int(scalar(connection, "SELECT dimension FROM models WHERE model_id = %s", (model,)))


def index_name(model: int) -> str:
    """Return the name of a model's HNSW index."""
    return f"embeddings_hnsw_{model}"


def drop_model(connection: Connection, model: int) -> int:
    """Delete a model with its index and its vectors, in slabs; return how many vectors went.

    Runs that store chunks wait for one slab at most (see `locks.py`).
    """
    connection.execute(sql.SQL(DROP_INDEX).format(name=sql.Identifier(index_name(model))))
    dropped = 0
    while True:
        with connection.transaction():
            locks.hold_vectors(connection)
            slab = connection.execute(DROP_VECTORS, {"model": model, "limit": SLAB_VECTORS}).rowcount
        dropped += slab
        if not slab:
            break
    with connection.transaction():
        for statement in DROP_REST:
            connection.execute(statement.encode(), {"model": model})
        files.forget_model(connection, model)
        connection.execute(DELETE, (model,))
    return dropped
