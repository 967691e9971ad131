"""The real model in real workers: what they find, what they take, and what happens when they are killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.entities import parent, pool
from ingest_pipeline.entities.model import EntityModel, entity_model
from ingest_pipeline.entities.parent import Worker, WorkerLost
from ingest_pipeline.entities.pool import WORKER_BYTES, EntityPool
from ingest_pipeline.errors import EntityModelUnavailable, RunOutOfMemory
from ingest_pipeline.memory.process import identity_of, peak_memory_bytes
from ingest_pipeline.models import Entity, StoredChunk, TextEntities
from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.test_entity_language import SENTENCES
from ingest_pipeline_tests.test_entity_model import ENGLISH

MIB = 1024**2
TEXT = "Ada Lovelace met Charles Babbage in London, and Microsoft\n opened an office in Zurich."
LETHAL = "this text kills"


@pytest.fixture(scope="module")
def model() -> EntityModel:
    found = entity_model(replace(Settings(), entity_model=ENGLISH))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def shared(model: EntityModel) -> Iterator[EntityPool]:
    """One worker for the tests that do it no harm: it takes a second to start."""
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES * 2) as opened:
        yield opened


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Workers that are killed while they hold a certain text; the batches that they were asked."""
    asked: list[Sequence[str]] = []

    class Fragile(Worker):
        def ask(self, texts: Sequence[str]) -> None:
            asked.append(texts)
            if any(text.startswith(LETHAL) for text in texts):
                os.kill(self.pid, signal.SIGKILL)  # first: a short text is answered before a later signal comes
            super().ask(texts)

    monkeypatch.setattr(pool, "Worker", Fragile)
    return asked


def chunks_of(*texts: str) -> list[StoredChunk]:
    return [
        StoredChunk(1, number, text, hashlib.sha256(text.encode()).digest(), 10) for number, text in enumerate(texts)
    ]


def found_in(opened: EntityPool, *texts: str) -> list[TextEntities]:
    """What is found in each text, in the order of the texts."""
    chunks = chunks_of(*texts)
    found = {one.text_hash: one for batch in opened.find(chunks) for one in batch}
    assert len(found) == len(set(texts))
    return [found[chunk.text_hash] for chunk in chunks]


def test_entities(shared: EntityPool) -> None:
    """Names with their labels and places; white space in a name is one space."""
    [found] = found_in(shared, TEXT)
    names = {(one.label, one.name) for one in found.entities}
    assert {("PERSON", "Ada Lovelace"), ("PERSON", "Charles Babbage"), ("GPE", "London"), ("ORG", "Microsoft")} <= names
    assert all(" ".join(TEXT[one.char_from : one.char_to].split()) == one.name for one in found.entities)
    assert not found.skipped


def test_a_text_without_entities_is_done(shared: EntityPool) -> None:
    """Nothing found is an answer: it is not asked again."""
    [found] = found_in(shared, "it was so quiet that nobody said anything")
    assert (found.entities, found.skipped) == ((), False)


def test_other_languages_are_skipped(shared: EntityPool) -> None:
    """An English model would find a person in every German noun."""
    found = found_in(shared, *SENTENCES.values())
    assert [one.skipped for one in found] == [language != "en" for language in SENTENCES]
    assert not any(one.entities for one in found if one.skipped)


def test_offsets_in_a_long_text(shared: EntityPool) -> None:
    """A text that is read in pieces has offsets from its own beginning."""
    text = "There was rain and then there was more rain over the hills. " * 200 + TEXT
    [found] = found_in(shared, text)
    [babbage] = [one for one in found.entities if one.name == "Charles Babbage"]
    assert text[babbage.char_from : babbage.char_to] == "Charles Babbage"
    assert babbage.char_from > 10_000


@pytest.mark.parametrize("text", ["", " \n\t", "\x01", "￿" * 50, "x" * 20_000, "🙂 Ada Lovelace 🙂"])
def test_odd_texts(shared: EntityPool, text: str) -> None:
    """None of them ends a worker."""
    found_in(shared, TEXT)
    before = shared.pids
    [found] = found_in(shared, text)
    assert all(" ".join(text[one.char_from : one.char_to].split()) == one.name for one in found.entities)
    assert shared.pids == before


def test_a_worker_holds_no_torch(shared: EntityPool) -> None:
    """It is in the same environment and would take 180 MiB: no part of it is mapped or imported."""
    found_in(shared, TEXT)
    [pid] = shared.pids
    assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
    code = (
        "import sys\nfrom ingest_pipeline.entities.worker import load_model\n"
        "nlp = load_model(sys.argv[1], sys.argv[2:])\n"
        "print(nlp.pipe_names, *(name for name, module in sys.modules.items() if module is not None))"
    )
    command = [sys.executable, "-c", code, str(shared._model.folder), *shared._model.unused]
    names, *modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("] ")
    assert names == "['tok2vec', 'ner'"
    assert {name.partition(".")[0] for name in modules[0].split()} & {"torch", "cupy", "dagster", "psycopg"} == set()


def test_a_worker_finds_no_credentials(model: EntityModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the variables that Python needs are passed on."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("INGEST_DATABASE_URL", "postgresql://secret")
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES) as opened:
        found_in(opened, TEXT)
        environ = Path(f"/proc/{opened.pids[0]}/environ").read_bytes()
    assert b"secret" not in environ
    assert b"OMP_NUM_THREADS=1" in environ


def test_memory_stays_flat(model: EntityModel) -> None:
    """Over 800 chunks with ever new words: a peak below 200 MiB, and under 15 MiB more in the second half."""
    texts = [
        " ".join(f"Ms {word(number, 1)} of {word(number, n)} wrote about {word(n, number)}." for n in range(2, 22))
        for number in range(800)
    ]
    peaks = []
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES * 2) as opened:
        for _ in opened.find(chunks_of(*texts)):
            peaks.append(peak_memory_bytes(opened.pids[0]) / MIB)
    assert 100 < max(peaks) < 200
    assert max(peaks) - peaks[len(peaks) // 2] < 15


def word(*numbers: int) -> str:
    """A word that no other numbers give."""
    return hashlib.sha256(repr(numbers).encode()).hexdigest()[:10].translate(str.maketrans("0123456789", "ghijklmnop"))


def test_two_workers_share_the_batches(model: EntityModel) -> None:
    """The second one starts because texts wait for it; each text is answered once."""
    texts = [f"{TEXT} {number}" for number in range(60)]
    with EntityPool(model, workers=2, memory_bytes=2 * WORKER_BYTES) as opened:
        counts = [len(batch) for batch in opened.find(chunks_of(*texts))]
        assert len(opened.pids) == 2
        opened.shrink()
        assert len(opened.pids) == 1
        assert len(found_in(opened, *texts[:20])) == 20
        assert len(opened.pids) == 1
    assert sorted(counts) == [4, *[8] * 7]


def test_a_few_texts_start_one_worker(model: EntityModel) -> None:
    """Nothing waits for a second one."""
    with EntityPool(model, workers=2, memory_bytes=2 * WORKER_BYTES) as opened:
        assert opened.pids == []
        found_in(opened, TEXT)
        assert len(opened.pids) == 1


@pytest.mark.parametrize(("memory", "workers"), [(170, 1), (339, 1), (340, 2), (4096, 2)])
def test_only_as_many_as_the_memory_holds(model: EntityModel, memory: int, workers: int) -> None:
    """170 MiB each."""
    assert EntityPool(model, workers=2, memory_bytes=memory * MIB).workers == workers


@pytest.mark.parametrize("memory", [169 * MIB, 0, -1])
def test_no_room_for_one(model: EntityModel, memory: int) -> None:
    """The run says so, and what would help."""
    with pytest.raises(RunOutOfMemory, match=r"needs 170.*raise INGEST_RUN_MEMORY"):
        EntityPool(model, workers=1, memory_bytes=memory)


def test_a_killed_worker_is_replaced(model: EntityModel) -> None:
    """Kill -9 in the middle: the batch is done again, and no text is missing or skipped."""
    texts = [f"{TEXT} {number}" for number in range(40)]
    found: list[TextEntities] = []
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES) as opened:
        for batch in opened.find(chunks_of(*texts)):
            found += batch
            if len(found) == 16:
                [killed] = opened.pids
                os.kill(killed, signal.SIGKILL)
        assert killed not in opened.pids
    assert len({one.text_hash for one in found}) == 40
    assert all(one.entities and not one.skipped for one in found)


def test_a_text_that_kills_is_skipped(
    model: EntityModel, fragile: list[Sequence[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """After three workers, two of them with it alone; its neighbours are read, and the log has no content."""
    texts = [f"{TEXT} {number}" for number in range(7)]
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES) as opened:
        found = found_in(opened, *texts[:3], LETHAL, *texts[3:])
    assert [one.skipped for one in found] == [False] * 3 + [True] + [False] * 4
    assert sum(LETHAL in batch for batch in fragile) == 3
    assert [len(batch) for batch in fragile] == [8, *[1] * 9]
    assert "chunk 3 of generation 1 is skipped" in caplog.text
    assert LETHAL not in caplog.text


def test_neighbours_that_kill_are_all_skipped(model: EntityModel, fragile: list[Sequence[str]]) -> None:
    """Three in one batch stop nothing."""
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES) as opened:
        found = found_in(opened, *(f"{LETHAL} {number}" for number in range(3)), TEXT)
    assert [one.skipped for one in found] == [True, True, True, False]


def test_workers_that_keep_ending(model: EntityModel, fragile: list[Sequence[str]]) -> None:
    """Not one answer from nine workers: the model is the reason, and the run stops."""
    with (
        EntityPool(model, workers=1, memory_bytes=WORKER_BYTES) as opened,
        pytest.raises(EntityModelUnavailable, match=r"9 workers .*SIGKILL"),
    ):
        found_in(opened, *(f"{LETHAL} {number}" for number in range(8)))
    assert len(fragile) == 9
    assert opened.pids == []


def test_a_worker_that_hangs(model: EntityModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes its deadline, and another one does its batch."""
    monkeypatch.setattr(parent, "BATCH_SECONDS", 3.0)
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES) as opened:
        found_in(opened, TEXT)
        [stopped] = opened.pids
        os.kill(stopped, signal.SIGSTOP)
        [found] = found_in(opened, TEXT)
        assert found.entities
        assert opened.pids != [stopped]
    assert identity_of(stopped) is None


def test_too_little_memory_to_start(model: EntityModel) -> None:
    """The kernel refuses memory while the model loads."""
    with pytest.raises(EntityModelUnavailable, match=r"did not start under 41,943,040 bytes.*INGEST_RUN_MEMORY"):
        Worker(model, memory_limit_bytes=40 * MIB)


def test_a_model_that_spacy_cannot_load(model: EntityModel, tmp_path: Path) -> None:
    """What spaCy says of it is in the message."""
    (tmp_path / "config.cfg").write_text("nonsense")
    with pytest.raises(EntityModelUnavailable, match=r"did not start.*meta\.json"):
        Worker(replace(model, folder=tmp_path), memory_limit_bytes=WORKER_BYTES)


def test_an_answer_that_cannot_be_read(model: EntityModel) -> None:
    """Nonsense is a lost worker, not an error of the run."""
    worker = Worker(model, memory_limit_bytes=WORKER_BYTES)
    worker._receive = lambda: [[["PERSON", 1]]]  # type: ignore[method-assign]
    with pytest.raises(WorkerLost, match="cannot be read"):
        worker.answer()
    worker._receive = lambda: [[["PERSON", 1, 4, "Ada"]], None]  # type: ignore[method-assign]
    assert worker.answer() == [(Entity("PERSON", 1, 4, "Ada"),), None]
    worker.close()


def test_a_caller_that_gives_up(model: EntityModel) -> None:
    """Its workers end: an answer to texts that nobody wants must not be taken for the next."""
    with EntityPool(model, workers=1, memory_bytes=WORKER_BYTES) as opened:
        batches = opened.find(chunks_of(*(f"{TEXT} {number}" for number in range(40))))
        next(batches)
        next(iter([batches.close()]))  # type: ignore[attr-defined]
        [found] = found_in(opened, "Marie Curie lived in Paris.")
        assert {one.name for one in found.entities} == {"Marie Curie", "Paris"}


def test_a_killed_run_leaves_no_worker(
    model: EntityModel, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The kernel ends the workers with their parent."""
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from ingest_pipeline.entities.model import EntityModel\nfrom ingest_pipeline.entities.parent import Worker\n"
        "model = EntityModel(Path(sys.argv[1]), 'key', 'en', tuple(sys.argv[2:]))\n"
        "worker = Worker(model, memory_limit_bytes=170 * 2**20)\nprint(worker.pid, flush=True)\ntime.sleep(60)"
    )
    run = started(script, str(model.folder), *model.unused)
    pid = int(run.first)  # type: ignore[attr-defined]
    assert identity_of(pid)
    run.kill()
    run.wait()
    deadline = time.monotonic() + 5
    while identity_of(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert identity_of(pid) is None
