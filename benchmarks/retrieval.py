"""How well search finds: nDCG@10 and recall@100 of each arm and of both, on SciFact and XQuAD (English, Chinese).

Every document goes through the pipeline as a text file: parsed in the sandbox, chunked, embedded, stored. Then each
query is asked of the functions that `ingest search` asks: `vector` (HNSW), `lexical` (words), `hybrid` (both, fused by
reciprocal rank). A document has the rank of its best chunk. `exact` is a full product of the vectors in the store. The
settings are the defaults, whatever `INGEST_*` variables are set. The weight of the words was chosen on XQuAD's English
questions; the ablation shows what other weights, constants and scores would give.

`p` is that of a paired bootstrap: the share of 10,000 resamples of the queries in which hybrid is not above the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ndcg import ndcg
from psycopg import sql
from scifact import Document, Task, corpus_folder, ingested, read_task, say

from ingest_pipeline.stages.query_models import QueryModels, QueryVector
from ingest_pipeline.store import embedding_models
from ingest_pipeline.store.connection import Connection

DEPTH = 300
"""Chunks that each arm returns: at least 100 documents, if none has more than three of them."""
TOP, RECALLED, RESAMPLES = 10, 100, 10_000
POOL = 100
"""Chunks of each arm that are fused, as `hybrid_texts` does for up to 20 hits."""
VECTOR = "SELECT text_hash FROM nearest_texts(%(vector)s, %(model)s, '{}', %(depth)s) ORDER BY distance, text_hash"
LEXICAL = "SELECT text_hash FROM lexical_texts(%(words)s, %(model)s, '{}', 1000, %(depth)s)"
HYBRID = "SELECT text_hash FROM hybrid_texts(%(words)s, %(vector)s, %(model)s, '{}', %(depth)s, %(weight)s)"
# What PostgreSQL offers by itself: all words joined by OR, without their rarity; and all of them required.
PLAIN_OR = """
SELECT text_hash FROM chunks, (SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS asked
    FROM unnest(to_tsvector('english', %(words)s))) q
WHERE terms @@ asked ORDER BY ts_rank(terms, asked) DESC, text_hash LIMIT %(depth)s
"""
PLAIN_AND = """
SELECT text_hash FROM chunks WHERE terms @@ plainto_tsquery('english', %(words)s)
ORDER BY ts_rank(terms, plainto_tsquery('english', %(words)s)) DESC, text_hash LIMIT %(depth)s
"""
DOCUMENTS = "SELECT c.text_hash, f.path FROM chunks c JOIN files f USING (generation_id)"
VECTORS = "SELECT text_hash, embedding FROM embeddings WHERE model_id = %s ORDER BY text_hash"
Texts = list[bytes]
Ranked = dict[str, Texts]
"""The hashes of the texts that answer each query, best first."""


@dataclass(frozen=True, slots=True)
class Store:
    """An ingested task: what each arm answers to each query."""

    task: Task
    documents: dict[bytes, list[str]]
    """The documents of each text."""
    arms: dict[str, Ranked]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--keep", type=Path, required=True, metavar="FOLDER", help="ingest below it; again: only search"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args(arguments)
    figures: dict[str, dict[str, float]] = {}
    for name, task in tasks().items():
        store = asked(task, options.keep.absolute() / name)
        figures[name] = report(name, store)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def tasks() -> dict[str, Task]:
    """Return the tasks by name."""
    folder = corpus_folder() / "retrieval"
    return {
        "xquad-en": _xquad(folder / "xquad" / "xquad.en.json"),
        "xquad-zh": _xquad(folder / "xquad" / "xquad.zh.json"),
        "scifact": read_task(folder / "scifact"),
    }


def _xquad(path: Path) -> Task:
    """Return the paragraphs as documents, the questions as queries; one paragraph answers each."""
    documents, queries, judgements = [], {}, {}
    articles = json.loads(path.read_text())["data"]
    paragraphs = [(article["title"], part) for article in articles for part in article["paragraphs"]]
    for number, (title, part) in enumerate(paragraphs):
        documents.append(Document(str(number), title, part["context"]))
        for question in part["qas"]:
            queries[question["id"]] = question["question"]
            judgements[question["id"]] = {str(number): 1}
    return Task(documents, queries, judgements)


def asked(task: Task, home: Path) -> Store:
    """Ingest a task below a folder if that is not done yet; return what each arm answers."""
    with ingested(task, home / "documents") as (connection, settings, _):
        models = QueryModels(settings)
        model = embedding_models.model_id(connection, models.card)
        documents: dict[bytes, list[str]] = defaultdict(list)
        for text_hash, path in connection.execute(DOCUMENTS):
            documents[text_hash].append(Path(path).stem)
        vectors = {key: models.vector(text) for key, text in task.queries.items()}
        arms = _arms(connection, model, task.queries, vectors)
    return Store(task, documents, arms)


def _arms(
    connection: Connection, model: int, queries: dict[str, str], vectors: dict[str, QueryVector]
) -> dict[str, Ranked]:
    from pgvector import HalfVector

    arms: dict[str, Ranked] = {"exact": _exact(connection, model, vectors)}
    statements = {"vector": VECTOR, "lexical": LEXICAL, "hybrid": HYBRID, "or": PLAIN_OR, "and": PLAIN_AND}
    for name, statement in statements.items():
        arms[name] = {}
        for key, words in queries.items():
            values = {"words": words, "vector": HalfVector(vectors[key].vector), "model": model, "depth": DEPTH}
            values["weight"] = vectors[key].weight
            arms[name][key] = [text for (text,) in connection.execute(sql.SQL(statement), values)]
    return arms


def _exact(connection: Connection, model: int, queries: dict[str, QueryVector]) -> Ranked:
    rows = connection.execute(VECTORS, (model,)).fetchall()
    matrix = np.stack([np.asarray(vector.to_list(), dtype=np.float32) for _, vector in rows])
    order = np.argsort(-(np.stack([query.vector for query in queries.values()]) @ matrix.T), axis=1, kind="stable")[
        :, :DEPTH
    ]
    return {key: [rows[column][0] for column in row] for key, row in zip(queries, order, strict=True)}


def report(name: str, store: Store) -> dict[str, float]:
    """Print the tables of a task; return its figures."""
    figures: dict[str, float] = {}
    scores = {arm: scores_of(store, ranked) for arm, ranked in store.arms.items()}
    print(f"\n{name}: {len(store.task.documents):,} documents, {len(store.task.queries):,} queries\n")
    print("| | nDCG@10 | recall@100 |\n|---|---|---|")
    for arm in ("exact", "vector", "lexical", "hybrid"):
        figures |= {f"{arm} ndcg@10": scores[arm][:, 0].mean(), f"{arm} recall@100": scores[arm][:, 1].mean()}
        print(f"| {arm} | {scores[arm][:, 0].mean():.4f} | {scores[arm][:, 1].mean():.4f} |")
    better = max(("vector", "lexical"), key=lambda arm: scores[arm][:, 0].mean())
    figures["p"] = bootstrap_p(scores["hybrid"][:, 0], scores[better][:, 0])
    gain = scores["hybrid"][:, 0].mean() - scores[better][:, 0].mean()
    print(f"\nhybrid - {better} = {gain:+.4f}, p = {figures['p']:.4f}\n")
    print("| ablation | nDCG@10 | recall@100 |\n|---|---|---|")
    for label, ranked in ablations(store).items():
        one = scores_of(store, ranked)
        figures |= {f"{label} ndcg@10": one[:, 0].mean(), f"{label} recall@100": one[:, 1].mean()}
        print(f"| {label} | {one[:, 0].mean():.4f} | {one[:, 1].mean():.4f} |", flush=True)
    return {key: round(float(value), 4) for key, value in figures.items()}


def ablations(store: Store) -> dict[str, Ranked]:
    """Return what other fusions and other lexical arms would answer."""
    arms = store.arms
    ranked = {
        f"RRF, lexical weighs {weight:g}": fused(arms["vector"], arms["lexical"], weight=weight)
        for weight in (0.5, 1, 1.5, 2)
    }
    ranked |= {f"RRF, k = {k}": fused(arms["vector"], arms["lexical"], k=k) for k in (10, 30, 120)}
    ranked |= {f"RRF of {pool} chunks": fused(arms["vector"], arms["lexical"], pool=pool) for pool in (50, 200)}
    ranked["lexical: OR, ts_rank, no rarity"] = arms["or"]
    ranked["RRF with it"] = fused(arms["vector"], arms["or"])
    ranked["lexical: all words required"] = arms["and"]
    ranked["RRF with that"] = fused(arms["vector"], arms["and"])
    return ranked


def fused(first: Ranked, second: Ranked, *, weight: float = 1.0, k: int = 60, pool: int = POOL) -> Ranked:
    """Return two rankings fused by reciprocal rank."""
    return {key: _fused(first[key][:pool], second[key][:pool], weight, k) for key in first}


def _fused(first: Texts, second: Texts, weight: float, k: int) -> Texts:
    scores: dict[bytes, float] = defaultdict(float)
    for factor, texts in ((1.0, first), (weight, second)):
        for rank, text in enumerate(texts, start=1):
            scores[text] += factor / (k + rank)
    return sorted(scores, key=lambda text: -scores[text])


def scores_of(store: Store, ranked: Ranked) -> np.ndarray:
    """Return nDCG@10 and recall@100 of each query, shape (queries, 2)."""
    rows = []
    for key, gains in store.task.judgements.items():
        documents = documents_of(ranked[key], store.documents)
        relevant = {document for document, gain in gains.items() if gain > 0}
        rows.append((ndcg(documents, gains, k=TOP), len(relevant & set(documents[:RECALLED])) / len(relevant)))
    return np.array(rows)


def documents_of(texts: Iterable[bytes], documents: dict[bytes, list[str]]) -> list[str]:
    """Return the documents of these texts, each at the rank of its best one."""
    return list(dict.fromkeys(document for text in texts for document in documents[text]))


def bootstrap_p(ours: np.ndarray, others: np.ndarray) -> float:
    """Return the share of resamples of the queries in which the mean of ours is not above that of the others."""
    picks = np.random.default_rng(0).integers(0, len(ours), size=(RESAMPLES, len(ours)))
    return float(((ours - others)[picks].mean(axis=1) <= 0).mean())


if __name__ == "__main__":
    say("asking every arm; the first time the documents are ingested")
    sys.exit(main())
