"""A run sees what its whole tree uses, and gives things up before the kernel takes them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.errors import RunOutOfMemory
from ingest_pipeline.memory.degradation import SHARES, Degradation, DegradationStep
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.stages.making import embed_within_memory
from ingest_pipeline_tests.conftest import REPOSITORY

MIB = 1024**2
GIB = 1024**3


def run_python(script: str) -> list[float]:
    """What a fresh process prints as JSON: its memory is its own."""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [value / MIB for value in json.loads(done.stdout)]


def test_spans_have_peaks_of_their_own() -> None:
    """Each span has a peak of its own, and the highest of all is kept, also from before and between the spans."""
    start, small, highest, middle, still, last, between = run_python(
        "import json\n"
        "from ingest_pipeline.memory.process import return_free_memory\n"
        "from ingest_pipeline.memory.watch import TreeWatch\n"
        "def spike(mib):\n"
        "    x = bytearray(b'x') * (mib * 1024**2); del x; return_free_memory()\n"
        "watch = TreeWatch(); found = [watch.peak_bytes]\n"
        "spike(120); watch.begin(); spike(20); found.append(watch.end())\n"
        "found.append(watch.peak_bytes)\n"
        "watch.begin(); spike(60); found.append(watch.end())\n"
        "found.append(watch.peak_bytes)\n"
        "spike(200); watch.begin(); found.append(watch.end()); found.append(watch.peak_bytes)\n"
        "print(json.dumps(found))\n"
    )
    assert small == pytest.approx(start + 20, abs=12)
    assert highest == pytest.approx(start + 120, abs=12)
    assert middle == pytest.approx(start + 60, abs=12)
    assert still == pytest.approx(highest, abs=2)
    assert last < start + 15
    assert between == pytest.approx(start + 200, abs=12)


def test_children_count_their_own_pages() -> None:
    """What parent and child share, the interpreter above all, is counted once."""
    alone, together, grandchild = run_python(
        "import json, subprocess, sys\n"
        "from ingest_pipeline.memory.watch import TreeWatch\n"
        "hog = 'x = bytearray(b\"x\") * (80 * 1024**2); print(1, flush=True); input()'\n"
        "nest = f'import subprocess, sys; subprocess.run([sys.executable, \"-c\", {hog!r}])'\n"
        "watch = TreeWatch(); found = [watch.peak_bytes]\n"
        "for script in (hog, nest):\n"
        "    child = subprocess.Popen([sys.executable, '-c', script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "    child.stdout.readline(); watch.begin(); found.append(watch.end()); child.communicate(b'\\n')\n"
        "print(json.dumps(found))\n"
    )
    assert together == pytest.approx(alone + 80, abs=15)
    assert grandchild == pytest.approx(alone + 80, abs=25)


def test_a_peak_between_looks_is_seen() -> None:
    """150 MiB for a millisecond are seen while a thread looks eight times a second."""
    start, peak = run_python(
        "import json, time\n"
        "from ingest_pipeline.memory.process import return_free_memory\n"
        "from ingest_pipeline.memory.watch import TreeWatch\n"
        "with TreeWatch() as watch:\n"
        "    found = [watch.peak_bytes]\n"
        "    time.sleep(0.2); x = bytearray(b'x') * (150 * 1024**2); del x; return_free_memory(); time.sleep(0.3)\n"
        "    found.append(watch.peak_bytes)\n"
        "print(json.dumps(found))\n"
    )
    assert peak == pytest.approx(start + 150, abs=12)


def test_watching_costs_under_a_hundredth() -> None:
    """CPU time of the looks at 400 MiB, beside the second that passes."""
    [share] = run_python(
        "import json, time\n"
        "from ingest_pipeline.memory.watch import LOOKS_PER_SECOND, TreeWatch\n"
        "x = bytearray(b'x') * (400 * 1024**2); watch = TreeWatch(); watch.look()\n"
        "began = time.process_time()\n"
        "for _ in range(100): watch.look()\n"
        "share = (time.process_time() - began) / 100 * LOOKS_PER_SECOND\n"
        "print(json.dumps([share * 1024**2]))\n"
    )
    assert share < 0.01


def test_a_watch_leaves_no_thread_behind() -> None:
    """The thread of a watch ends with it, and looks at least five times a second while it is there."""
    import threading

    before = threading.active_count()
    with TreeWatch(Degradation(limit_bytes=GIB * 100)) as watch:
        looks = []
        watch.degradation.observe = looks.append  # type: ignore[method-assign]
        time.sleep(1.0)
        assert len(looks) >= 5
    assert threading.active_count() == before


def test_degradation_follows_the_use() -> None:
    """One degradation step after the other is taken as use grows, each noted once with what was used."""
    degradation = Degradation(limit_bytes=1000 * MIB)
    for used in (500, 870, 885, 880, 925, 950, 100, 960):
        degradation.observe(used * MIB)
    assert degradation.step == DegradationStep.UNLOAD
    assert [str(taken) for taken in degradation.steps_taken] == [
        "smaller batches at 885.0 MiB",
        "trim at 925.0 MiB",
        "unload at 950.0 MiB",
    ]


@given(st.lists(st.integers(0, 1200), max_size=30))
def test_degradation_never_goes_back(uses: list[int]) -> None:
    """No degradation step is taken back, and a run always stops before its limit."""
    degradation, steps = Degradation(limit_bytes=1000 * MIB), [DegradationStep.FREE]
    for used in uses:
        degradation.observe(used * MIB)
        steps.append(degradation.step)
    assert steps == sorted(steps)
    assert (degradation.step == DegradationStep.STOP) == any(
        used >= 1000 * SHARES[DegradationStep.STOP] for used in uses
    )


def test_no_limit_means_no_degradation() -> None:
    """Without a limit, as in benchmarks and tests, use is only measured."""
    degradation = Degradation(limit_bytes=0)
    degradation.observe(10 * GIB)
    assert degradation.step == DegradationStep.FREE
    assert degradation.allowed_tokens(1024) == 1024


def test_the_last_step_stops_the_run() -> None:
    """The last degradation step stops the run with numbers, what is kept, and what to raise."""
    degradation = Degradation(limit_bytes=1000 * MIB)
    degradation.after_micro_batch("a.txt")
    degradation.observe(990 * MIB)
    with pytest.raises(
        RunOutOfMemory, match=r"990\.0 MiB of 1000\.0 MiB after a micro-batch of a\.txt.*INGEST_RUN_MEMORY"
    ):
        degradation.after_micro_batch("a.txt")


class Greedy:
    """An embedder that the kernel refuses memory for more than so many texts."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.asked: list[int] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return a vector per text, or be refused."""
        self.asked.append(len(texts))
        if len(texts) > self.most:
            raise self.error
        return np.array([[float(len(text))] for text in texts], dtype=np.float32)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 6291456 bytes."),
        RuntimeError("Failed to allocate 6193152 bytes of memory"),
    ],
)
def test_a_refused_micro_batch_is_halved(error: Exception) -> None:
    """A micro-batch that the kernel refuses is embedded in halves, in the order of the texts, and counts as a step."""
    degradation, embedder = Degradation(limit_bytes=GIB), Greedy(2, error)
    vectors = embed_within_memory(embedder, ["a", "bb", "ccc", "dddd", "eeeee"], degradation)
    assert vectors[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert max(embedder.asked[1:]) <= 3
    assert degradation.step == DegradationStep.UNLOAD


def test_one_text_that_does_not_fit() -> None:
    """A text that does not fit alone stops the run: there is nothing smaller left to try."""
    with pytest.raises(RunOutOfMemory, match="single text"):
        embed_within_memory(Greedy(0, MemoryError()), ["a", "b"], Degradation(limit_bytes=GIB))


def test_other_errors_are_no_memory_errors() -> None:
    """An error of the engine that is not about memory stays what it is."""
    with pytest.raises(RuntimeError, match="shape"):
        embed_within_memory(Greedy(0, RuntimeError("wrong shape")), ["a"], Degradation(limit_bytes=GIB))
