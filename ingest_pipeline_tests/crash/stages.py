"""A folder of small documents, and runs over the real stages and the real store that a proof steps and kills."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import Done, Page, ParseEvent, TextEntities
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.chunks import check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.run import BatchRun
from ingest_pipeline.stages.scan import scan_sources
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store import batches, embedding_models, entities, generations, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder, WordEncoder
from ingest_pipeline_tests.crash.killing import Killed, MortalConnection, mortal

LETHAL, UNREADABLE = "lethal", "unreadable"
CARDS = (CARD, replace(CARD, name="fake two", identity="e" * 64, max_tokens=20))
TABLES = (
    "files, batches, batch_files, attempts, generations, generation_lengths, generation_models, chunks, sections, "
    "embeddings, unembedded_texts, incidents, entity_texts, entities, section_extracts, extract_answers, models"
)
MOST_ROUNDS = 40
ENTITY_MODEL = "finder"


@dataclass
class PageParser:
    """Pages of a text are divided by form feeds; one kind of page kills its run, one is refused."""

    die: Callable[[], None]
    file_seconds: float = 1800.0

    def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        """Yield the pages."""
        stream.seek(0)
        pages = stream.read().decode().split("\f")
        for number, text in enumerate(pages, start=1):
            if number >= request.first_page:
                if text.startswith(LETHAL):
                    self.die()
                if text.startswith(UNREADABLE):
                    raise UnreadableDocument(f"{request.name}: cannot be read")
                yield Page(number, text)
        yield Done(len(pages))

    def close(self) -> None:
        """Nothing to end."""


class SteppedRun:
    """One run on one batch over a connection of its own: each step is one file in one stage."""

    def __init__(self, store: StagedStore, batch: str, run_id: str) -> None:
        self.batch, self.run_id = batch, run_id
        self._store, self._embedder = store, FakeEmbedder()
        self.connection: MortalConnection = mortal(store.url)
        self.killed = self.ended = False
        self._work = self._stages()

    def step(self) -> None:
        """Do the next piece of work; the run may die meanwhile, or come to its end."""
        try:
            next(self._work)
        except StopIteration:
            self.ended = True
            self.connection.close()
        except BaseException:
            if self.connection.exchanges_left is None:
                raise
            self._die()

    def kill(self) -> None:
        """Kill the run between two pieces of its work."""
        with suppress(Killed):
            self.connection.kill()
        self._die()

    def _die(self) -> None:
        self.killed, work = True, self._work
        with suppress(BaseException):
            work.close()  # type: ignore[attr-defined]

    def _stages(self) -> Iterator[None]:
        run, watch = self._begun(), TreeWatch()
        yield
        for _ in check_files(run):
            yield
        parser = PageParser(self.connection.kill)
        for _ in chunk_files(run, encode=WordEncoder(), sandbox=parser, degradation=watch.degradation):
            yield
        for _ in embed_files(run, load_embedder=self._loaded, watch=watch):
            yield
        yield from self._find_entities()
        run.finish()

    def _begun(self) -> BatchRun:
        status = batches.begin_batch(self.connection, self.batch, self.run_id)
        [sealed] = batches.list_batches(self.connection, batch=self.batch)
        store = self._store
        return BatchRun(
            connection=self.connection, batch=self.batch, run_id=self.run_id, settings=store.settings,
            card=store.card, model_id=embedding_models.model_id(self.connection, store.card),
            fingerprint=store.fingerprint, status_before=status, runs=sealed.runs, failures=sealed.failures,
        )  # fmt: skip

    def _loaded(self) -> Embedder:
        return self._embedder

    def _find_entities(self) -> Iterator[None]:
        """As `extract_entities` does, without a model: nothing is found in any text."""
        wanted = entities.batch_generations(self.connection, self.batch)
        last = None
        while texts := entities.pending_texts(self.connection, ENTITY_MODEL, wanted, after=last, limit=8):
            entities.write_entities(
                self.connection, ENTITY_MODEL, [TextEntities(one.text_hash, (), False) for one in texts]
            )
            last = texts[-1]
            yield


class StagedStore:
    """A fresh store, a folder, and everything that may happen to them."""

    def __init__(self, connection: Connection, settings: Settings, folder: Path) -> None:
        self.connection, self.folder, self.url = connection, folder, str(settings.database_url)
        self.settings = replace(
            settings, sources=(str(folder),), run_memory=8 * 2**30, machine_memory=16 * 2**30, batch_files=3
        )
        connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")  # type: ignore[arg-type]
        for left in folder.iterdir():
            left.unlink()
        self.card, self.fingerprint = CARDS[0], "fingerprint0"
        self.runs: list[SteppedRun] = []
        self._runs_begun = self._clock = 0

    @property
    def model(self) -> int:
        """The number of the model of the settings."""
        return embedding_models.model_id(self.connection, self.card)

    @property
    def live(self) -> list[SteppedRun]:
        """The runs that are at work."""
        return [run for run in self.runs if not run.killed and not run.ended]

    def write(self, path: str, pages: str) -> None:
        """Write a document; its time is always another one."""
        self._clock += 1
        (self.folder / path).write_text(pages)
        os.utime(self.folder / path, ns=(self._clock * 10**9, self._clock * 10**9))

    def scan(self) -> None:
        """A catalog run."""
        scan_sources(self.connection, settings=self.settings, fingerprint=self.fingerprint, model=self.model)

    def seal(self) -> None:
        """Seal what waits."""
        seal_waiting(self.connection, settings=self.settings, fingerprint=self.fingerprint)

    def keys(self, *statuses: str) -> list[str]:
        """Return the batches of these statuses, by key."""
        return [one.key for one in batches.list_batches(self.connection) if one.status in statuses]

    def begin(self, batch: str) -> SteppedRun:
        """Begin a run on a batch."""
        self._runs_begun += 1
        run = SteppedRun(self, batch, f"run{self._runs_begun}")
        self.runs.append(run)
        run.step()
        return run

    def reconcile(self) -> None:
        """Find the batches that are running and whose run is gone, as the daemon does."""
        at_work = {run.run_id for run in self.live}
        ended = {run.run_id for run in self.runs if run.ended}
        for batch in batches.list_batches(self.connection, status="running"):
            run_id = batch.run_id or ""
            if run_id not in at_work:
                batches.reconcile_batch(
                    self.connection, batch.key, run_id, killed=run_id not in ended, canceled=False, message="killed"
                )

    def sweep(self) -> None:
        """Delete what nobody uses, as `vector_index` does."""
        generations.drop_unused_generations(self.connection)
        vectors.drop_unused_vectors(self.connection)
        entities.drop_unused_entities(self.connection)

    def ingest_run(self) -> None:
        """What `ingest run` does: everything that waits, until nothing does; runs that die are reconciled."""
        batches.retry_failed_batches(self.connection)
        self.scan()
        for _ in range(MOST_ROUNDS):
            self.reconcile()
            self.seal()
            waiting = self.keys("waiting")
            if not waiting:
                return
            for key in waiting:
                run = self.begin(key)
                while not (run.ended or run.killed):
                    run.step()
                self.reconcile()
        raise AssertionError("it does not come to an end: " + ", ".join(self.keys("waiting")))

    def close(self) -> None:
        """End what is open."""
        for run in self.live:
            run.kill()

    def shown(self) -> dict[str, list[str]]:
        """Return the texts that readers see, by path."""
        rows = self.connection.execute("SELECT path, text FROM searchable_chunks ORDER BY path, ordinal").fetchall()
        texts: dict[str, list[str]] = {}
        for path, text in rows:
            texts.setdefault(path, []).append(text)
        return texts

    def rows(self) -> dict[str, tuple[str, str | None, int]]:
        """Return status, reason and kills of each file, by path."""
        rows = self.connection.execute("SELECT path, status, error, kills FROM files").fetchall()
        return {path: (status, error, kills) for path, status, error, kills in rows}
