"""Compares the pipeline's search with an exact search by the model alone: nDCG@10 on SciFact.

    ndcg@10 pipeline=0.xxxx exact=0.xxxx

`pipeline` uses the code of production: each abstract is a text file in a source, which is catalogued, parsed in the
sandbox, chunked, embedded, stored, and searched through the HNSW index; a document has the rank of its best chunk.
`exact` uses sentence-transformers on the first 256 tokens of each abstract and a full matrix product, for which MTEB
reports 0.645 with all-MiniLM-L6-v2. Exit code 1 if the two differ by more than 0.01.

The settings are the defaults, whatever `INGEST_*` variables are set, so that the figures are those of the released
configuration. Only `INGEST_CORPUS` is read.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ndcg import mean_ndcg

from ingest_pipeline.chunking import load_encoder
from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.choice import budget_of, card_of
from ingest_pipeline.embedding.load import load_embedder
from ingest_pipeline.embedding.model import model_folder
from ingest_pipeline.errors import IngestError
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import ModelCard
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.search_models import SearchHit, SearchQuery
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.chunks import check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.fingerprint import fingerprint_of
from ingest_pipeline.stages.index import refresh_index
from ingest_pipeline.stages.run import BatchRun, FileOutcome, open_batch
from ingest_pipeline.stages.scan import scan_sources
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store import batches, embedding_models
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.search import search
from ingest_pipeline.store.server import EmbeddedServer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path("retrieval", "scifact")
DOCUMENTS = "scifact-documents"

RANKS = 10
CHUNKS_PER_QUERY = 50
"""The best 50 chunks contain at least ten documents if none has more than five of them; an abstract has about two."""
ENCODED_AT_ONCE = 32
TOLERANCE = 0.01
OK, TOO_FAR_APART, UNUSABLE = 0, 1, 2

Rankings = dict[str, list[str]]


class CannotRun(Exception):
    """No figure can be computed; the message is one line with the reason."""


@dataclass(frozen=True, slots=True)
class Document:
    """One abstract."""

    key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """The documents, the queries, and the relevance judgements."""

    documents: list[Document]
    queries: dict[str, str]
    """Only queries that have judgements."""
    judgements: dict[str, dict[str, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the line; return the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # raises SystemExit, so that the server is stopped
    try:
        task = read_task(corpus_folder() / DATA, limit=options.limit)
        actual = mean_ndcg(pipeline_rankings(task, keep=options.keep), task.judgements, k=RANKS)
        expected = mean_ndcg(exact_rankings(task), task.judgements, k=RANKS)
    except (CannotRun, IngestError) as error:
        say(str(error))
        return UNUSABLE
    print(f"ndcg@{RANKS} pipeline={actual:.4f} exact={expected:.4f}")
    if abs(actual - expected) > TOLERANCE:
        say(f"pipeline and exact are {actual - expected:+.4f} apart; {TOLERANCE} is allowed")
        return TOO_FAR_APART
    return OK


def say(text: str) -> None:
    """Print a message on stderr; stdout is for the result only."""
    print(f"scifact: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scifact", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    keep = "ingest into this folder and leave it; a second run only searches"
    limit = (
        "every judged document, filled up to N with others: the two figures can be compared with each\n"
        "other, but not with those of a full run, which has more irrelevant documents"
    )
    parser.add_argument("--keep", type=Path, metavar="HOME", help=keep)
    parser.add_argument("--limit", type=int, metavar="N", help=limit)
    return parser


# The data


def corpus_folder() -> Path:
    """Return where the corpus is: INGEST_CORPUS, or beside the repository."""
    return Path(os.environ.get("INGEST_CORPUS") or REPOSITORY.parent / "shared" / "corpus")


def read_task(folder: Path, *, limit: int | None = None) -> Task:
    """Return the documents and the judged queries.

    Raises:
        CannotRun: a file is missing.
    """
    files = folder / "corpus.jsonl.gz", folder / "queries.jsonl", folder / "qrels" / "test.tsv"
    for path in files:
        if not path.is_file():
            raise CannotRun(f"no {path}; set INGEST_CORPUS to the folder that holds {DATA}")
    judgements = _judgements(files[2])
    with gzip.open(files[0], "rt", encoding="utf-8") as lines:
        documents = [_document(json.loads(line)) for line in lines]
    with files[1].open(encoding="utf-8") as lines:
        queries = {row["_id"]: row["text"] for row in map(json.loads, lines) if row["_id"] in judgements}
    if missing := judgements.keys() - queries.keys():
        raise CannotRun(f"{files[1]} lacks {len(missing)} of the judged queries")
    return Task(_limited(documents, judgements, limit), queries, judgements)


def _document(row: dict[str, str]) -> Document:
    return Document(row["_id"], row["title"], row["text"])


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        judgements.setdefault(query, {})[document] = int(score)
    return judgements


def _limited(documents: list[Document], judgements: dict[str, dict[str, int]], limit: int | None) -> list[Document]:
    if limit is None:
        return documents
    judged = {document for gains in judgements.values() for document in gains}
    first = sorted(documents, key=lambda document: document.key not in judged)  # stable: else as they come
    return first[: max(limit, len(judged))]


# Search by the pipeline


def pipeline_rankings(task: Task, *, keep: Path | None = None) -> Rankings:
    """Return the documents for each query as the pipeline ranks them, with a database of its own."""
    with workspace(keep) as home, ingested(task, home / DOCUMENTS) as (connection, settings, embedder):
        return rank_queries(connection, card_of(settings), embedder, task.queries)


@contextmanager
def ingested(task: Task, source: Path) -> Iterator[tuple[Connection, Settings, Embedder]]:
    """Ingest the documents of a task, if that is not done yet, with a database beside them; yield it, its settings and
    its model.

    Args:
        task: whose documents.
        source: the folder that they are written into.
    """
    write_documents(task.documents, source)
    settings = replace(Settings(), sources=(str(source),), home=source.parent)
    card = card_of(settings)
    embedder = load_embedder(settings, card)
    with running_store(settings) as connection:
        ingest(connection, settings, card, embedder, expected_files=len(task.documents))
        yield connection, settings, embedder


@contextmanager
def workspace(keep: Path | None) -> Iterator[Path]:
    """Yield the folder to work in: a temporary one, or the one to keep."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="scifact-") as folder:
            yield Path(folder)
        return
    home = keep.expanduser().absolute()
    if home.is_dir() and any(home.iterdir()) and not (home / DOCUMENTS).is_dir():
        raise CannotRun(f"{home} holds something else; --keep wants a folder of its own")
    yield home


def write_documents(documents: Iterable[Document], folder: Path) -> None:
    """Write these documents as text files, title first, and delete all other text files in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.txt"):  # of an earlier run with another --limit
        stale.unlink()
    for document in documents:
        (folder / f"{document.key}.txt").write_text(f"{document.title}\n{document.text}", encoding="utf-8")


@contextmanager
def running_store(settings: Settings) -> Iterator[Connection]:
    """Yield a connection to an embedded server, and stop the server in any case."""
    server = EmbeddedServer(settings.home)
    try:
        url = server.start()
        migrate(url)
        with store(url) as connection:
            yield connection
    finally:
        server.stop()


def ingest(
    connection: Connection, settings: Settings, card: ModelCard, embedder: Embedder, *, expected_files: int
) -> None:
    """Ingest the source by the functions that the assets call, batch by batch.

    Raises:
        CannotRun: a file was not indexed; without it the figure would be for other documents.
    """
    began, fingerprint = time.monotonic(), fingerprint_of(settings)
    model = embedding_models.model_id(connection, card)
    scan_sources(connection, settings=settings, fingerprint=fingerprint, model=model)
    seal_waiting(connection, settings=settings, fingerprint=fingerprint)
    chunks = run_batches(connection, settings, embedder)
    work = refresh_index(connection, settings)
    seconds = time.monotonic() - began
    stored, pace = work.counts["chunks"], chunks / seconds
    say(f"{stored} chunks in the store; {chunks} embedded in {seconds:.0f} s, {pace:.1f} a second")
    indexed = work.counts["files"]["indexed"]
    if indexed != expected_files or any(work.inconsistencies.values()):
        raise CannotRun(f"{indexed} of {expected_files} documents are searchable; {work.inconsistencies}")


def run_batches(connection: Connection, settings: Settings, embedder: Embedder) -> int:
    """Run every batch that is not done; return how many chunks were embedded."""
    began, chunks = time.monotonic(), 0  # not only the new ones: a kept folder may have been interrupted
    keys = [batch.key for batch in batches.list_batches(connection) if batch.status != "done"]
    with _sandbox(settings) as sandbox:
        for number, key in enumerate(keys, start=1):
            run = open_batch(connection, settings, batch=key, run_id=f"scifact-{uuid.uuid4()}")
            chunks += run_batch(run, sandbox, embedder)
            say(f"batch {number} of {len(keys)}: {chunks} chunks after {time.monotonic() - began:.0f} s")
    return chunks


def run_batch(run: BatchRun, sandbox: Sandbox, embedder: Embedder) -> int:
    """Do the work of one Dagster run without Dagster; return how many chunks were embedded."""
    _drain(check_files(run))
    encode = load_encoder(model_folder(run.settings.model) / "tokenizer.json")
    _drain(chunk_files(run, encode=encode, sandbox=sandbox, degradation=Degradation(0)))
    outcomes = _drain(embed_files(run, load_embedder=lambda: embedder, watch=TreeWatch()))
    run.finish()
    return sum(outcome.chunks for outcome in outcomes)


def _drain(outcomes: Iterable[FileOutcome]) -> list[FileOutcome]:
    """Return all outcomes of a stage; a stage is a generator and works only while it is iterated.

    Raises:
        CannotRun: a file failed.
    """
    finished = list(outcomes)
    for outcome in finished:
        if not outcome.done:
            raise CannotRun(f"{outcome.file.path}: {outcome.reason}")
    return finished


def _sandbox(settings: Settings) -> Sandbox:
    return Sandbox(
        memory_limit_bytes=budget_of(settings).parser_bytes,
        page_seconds=settings.page_seconds,
        file_seconds=settings.file_seconds,
    )


def rank_queries(connection: Connection, card: ModelCard, embedder: Embedder, queries: dict[str, str]) -> Rankings:
    """Return the documents for each query, best first."""
    began, rankings, model = time.monotonic(), {}, embedding_models.model_id(connection, card)
    for keys in _groups(list(queries), ENCODED_AT_ONCE):
        for key, vector in zip(keys, embedder.embed([queries[key] for key in keys]), strict=True):
            hits = search(connection, model, vector, SearchQuery("", CHUNKS_PER_QUERY))  # without words: vectors only
            rankings[key] = documents_of(hits)
    seconds = time.monotonic() - began
    say(f"{len(queries)} queries in {seconds:.1f} s, {seconds / len(queries) * 1000:.0f} ms each")
    return rankings


def documents_of(hits: Iterable[SearchHit]) -> list[str]:
    """Return the documents of these chunks, each at the rank of its best chunk."""
    return list(dict.fromkeys(Path(hit.path).stem for hit in hits))[:RANKS]


def _groups(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# Exact search by the model


def exact_rankings(task: Task) -> Rankings:
    """Return the documents for each query by the model alone: one vector each, all pairs compared."""
    from sentence_transformers import SentenceTransformer

    began = time.monotonic()
    model = SentenceTransformer(str(model_folder(Settings().model)), local_files_only=True)
    texts = [f"{document.title} {document.text}".strip() for document in task.documents]
    documents, queries = _encoded(model, texts), _encoded(model, list(task.queries.values()))
    best = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :RANKS]
    say(f"exact: {len(texts)} documents in {time.monotonic() - began:.0f} s")
    return {key: [task.documents[column].key for column in row] for key, row in zip(task.queries, best, strict=True)}


def _encoded(model: SentenceTransformer, texts: list[str]) -> np.ndarray:
    return model.encode(texts, batch_size=ENCODED_AT_ONCE, normalize_embeddings=True, show_progress_bar=False)


if __name__ == "__main__":
    sys.exit(main())
