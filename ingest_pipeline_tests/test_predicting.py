"""What a file will cost, from what files did cost: bounds that hold, and the same history gives the same answer."""

from __future__ import annotations

import contextlib
import random
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.cli.memory_plot import memory_plot
from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.errors import FileNeedsMoreMemory, PermanentError
from ingest_pipeline.memory.budget import PARSE_PARENT_BYTES
from ingest_pipeline.models import CostModel, FileCost, Observation
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.planning.predict import (
    MIN_OBSERVATIONS,
    SECONDS_PER_FILE,
    SHIPPED,
    SHIPPED_MODEL,
    Outcome,
    fit,
    fit_rate,
    leave_one_out,
    peak_of,
    predict,
    summarize,
)
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.costs import memory_report, refit
from ingest_pipeline.stages.sealing import needs_more_memory, plan_of
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.made.pages import page
from ingest_pipeline_tests.made.pdf import pages
from ingest_pipeline_tests.made.records import lines, rows
from ingest_pipeline_tests.made.words import ENGLISH, RUSSIAN, paragraphs

MIB = 1024**2
TEXT = "text/plain"
observations = st.lists(
    st.builds(
        Observation,
        name=st.text(max_size=5),
        media_type=st.sampled_from([TEXT, "application/pdf"]),
        size_bytes=st.integers(0, 50 * MIB),
        peak_bytes=st.integers(10 * MIB, 900 * MIB),
        seconds=st.floats(0, 1000),
    ),
    max_size=40,
)


def line(count: int, *, base: int = 20 * MIB, slope: float = 3.0, noise: int = 0) -> list[Observation]:
    """Files whose peaks lie on a line, give or take."""
    dice = random.Random(1)
    return [
        Observation(
            f"file{index}",
            TEXT,
            index * MIB,
            int(base + slope * index * MIB + dice.randint(-noise, noise)),
            index * 2.0,
        )
        for index in range(1, count + 1)
    ]


def cost_of(size: int, model: CostModel = SHIPPED_MODEL, media_type: str = TEXT) -> FileCost:
    return predict(model, file_id=1, name="n", version="v", media_type=media_type, size_bytes=size)


@pytest.mark.parametrize("media_type", detect.SUPPORTED)
def test_rate_of_each_type(media_type: str) -> None:
    """Every supported type has a rate of its own: a type that is parsed is a type that was measured."""
    assert media_type.removesuffix(detect.GZIPPED) in SHIPPED


@pytest.mark.parametrize("media_type", [*detect.SUPPORTED, "application/x-new"])
def test_larger_costs_more(media_type: str) -> None:
    """Predicted peak and seconds grow with the bytes, from a base that an empty file has, too."""
    empty, small, large = (cost_of(size, media_type=media_type) for size in (0, MIB, 10 * MIB))
    assert large.predicted_peak_bytes > small.predicted_peak_bytes > empty.predicted_peak_bytes > 20 * MIB
    assert large.predicted_seconds > small.predicted_seconds > empty.predicted_seconds == SECONDS_PER_FILE


def test_outlier() -> None:
    """One file in ten took fifty times as much: the middle stays, and the bound covers what can be covered."""
    history = line(19)
    clean = fit_rate(TEXT, history)
    assert clean.bytes_per_byte == pytest.approx(3.0, rel=0.01)
    assert clean.base_bytes == pytest.approx(20 * MIB, rel=0.01)
    assert clean.factor == pytest.approx(predicting.HEADROOM, rel=0.01)
    outlier = Observation("bomb", TEXT, 5 * MIB, 1000 * MIB, 1.0)
    moved = fit_rate(TEXT, [*history, outlier])
    assert moved.bytes_per_byte == pytest.approx(3.0, rel=0.05)
    assert moved.base_bytes == pytest.approx(20 * MIB, rel=0.1)


def test_beyond_the_largest() -> None:
    """Beyond the largest file that was seen the shipped slope goes on: small files say nothing of large ones."""
    flat = [Observation(f"f{n}", "application/pdf", n * 1000, 20 * MIB, 1.0) for n in range(1, 20)]
    model = fit(flat)
    rate = model.rates["application/pdf"]
    assert rate.bytes_per_byte == 0
    near, far = (cost_of(size, model, "application/pdf") for size in (19_000, 50 * MIB))
    assert near.predicted_peak_bytes == pytest.approx(20 * MIB * rate.factor, rel=0.01)
    assert far.predicted_peak_bytes > 200 * MIB
    assert "larger than any of them" in far.why
    assert "larger" not in near.why


def test_few_files() -> None:
    """Seven files of a type leave the shipped rate: they say less than the survey."""
    assert fit(line(MIN_OBSERVATIONS - 1)) is SHIPPED_MODEL
    assert TEXT in fit(line(MIN_OBSERVATIONS)).rates


@given(observations)
def test_any_order(history: list[Observation]) -> None:
    """The same history gives the same model in any order: no seed, no clock."""
    shuffled = list(history)
    random.Random(2).shuffle(shuffled)
    assert fit(history) == fit(shuffled)


@given(observations)
def test_refit_without_news(history: list[Observation]) -> None:
    """A refit that says nothing new keeps its version, which names one set of rates."""
    first = fit(history)
    assert fit(history, before=first) is first
    assert fit([], before=first).version in (0, first.version + 1)


@given(observations)
def test_within_the_bound(history: list[Observation]) -> None:
    """At least nineteen files of twenty are within their bound; all where there are fewer than twenty."""
    for media_type, rate in fit(history).rates.items():
        mine = [seen for seen in history if seen.media_type == media_type]
        over = sum(seen.peak_bytes > peak_of(rate, media_type, seen.size_bytes) for seen in mine)
        assert over <= len(mine) // 20


def test_seconds() -> None:
    """The sum of predicted seconds over the files is what it was."""
    history = line(20)
    model = fit(history)
    predicted = sum(cost_of(seen.size_bytes, model).predicted_seconds - SECONDS_PER_FILE for seen in history)
    assert predicted == pytest.approx(sum(seen.seconds for seen in history), rel=0.001)


def test_leave_one_out() -> None:
    """The only large file of a type is predicted by the small ones, and is seen to be too much."""
    history = [*line(12, slope=0.0), Observation("giant", TEXT, 12 * MIB, 400 * MIB, 1.0)]
    outcomes = {outcome.name: outcome for outcome in leave_one_out(history)}
    assert outcomes["giant"].error < 0
    assert len(outcomes) == 13
    assert leave_one_out([]) == []


def test_summary_of_errors() -> None:
    """Errors are summed up as median and 95th percentile without their signs, and how many were too low."""
    summary = summarize([0.1, -0.2, 0.3, -0.4])
    assert (summary.count, summary.p50, summary.p95, summary.too_low) == (4, 0.2, 0.4, 2)
    assert summarize([]).count == 0


def test_file_that_no_budget_holds() -> None:
    """A file that no budget holds is told what it needs, what there is, and which variable to raise."""
    settings = Settings(run_memory=500 * MIB)
    cost = cost_of(200 * MIB, media_type="application/pdf")
    assert plan_of([cost], settings).refused == (cost,)
    error = needs_more_memory(cost, budget_of(settings))
    assert isinstance(error, FileNeedsMoreMemory)
    assert str(error) == "n: needs 1.0 GiB, a run has 500.0 MiB; raise INGEST_RUN_MEMORY"


MEASURED = """
INSERT INTO files (source, path, size_bytes, version, media_type, status, predicted_peak_bytes,
                   measured_peak_bytes)
SELECT 's', n || '.txt', n * 1000, n::text, 'text/plain', 'indexed', 30000000, 20000000 + n
FROM generate_series(1, 12) n;
INSERT INTO attempts (file_id, batch, run_id, version, stage, open, outcome, chunks_embedded, parse_peak_bytes,
                      parse_seconds, embed_seconds)
SELECT file_id, 'b', 'r', version, 'embeddings', false, 'done', 1, measured_peak_bytes, 1, 2 FROM files;
INSERT INTO batches (batch, memory_limit_bytes, predicted_peak_bytes, predicted_seconds, measured_peak_bytes)
VALUES ('b', 500000000, 400000000, 1, 350000000), ('c', 500000000, 400000000, 1, 510000000);
"""


def test_ledger_learns(connection: Connection) -> None:
    """Twelve files make version 1, the same history again stays version 1, and a gap's peak is not learned."""
    assert refit(connection).version == 0
    connection.execute(MEASURED)
    model = refit(connection)
    assert model.version == 1
    assert model.rates[TEXT].observations == 12
    assert model.rates[TEXT].seconds_per_mib == pytest.approx(36 / (78_000 / MIB), rel=0.01)
    assert refit(connection) == model
    connection.execute("UPDATE files SET gaps = '[{}]' WHERE path = '1.txt'")
    again = refit(connection)
    assert (again.version, again.rates[TEXT].observations) == (2, 11)


def test_report(connection: Connection) -> None:
    """The report has files as planned, files left out, runs, and how many of these were over their budget."""
    connection.execute(MEASURED)
    report = memory_report(connection)
    assert len(report.files) == len(report.left_out) == 12
    assert summarize([outcome.error for outcome in report.files]).p50 == pytest.approx(0.5, abs=0.01)
    assert summarize([outcome.expected_error for outcome in report.left_out]).p95 < 0.01
    assert report.runs_over_budget == 1


def test_picture() -> None:
    """The picture is well-formed SVG, also without any file and with names that are not."""
    outcomes = [Outcome(f"a/<{n}>&.pdf", "application/pdf", (20 + n) * MIB, 20 * MIB) for n in range(5)]
    root = ET.fromstring(memory_plot(outcomes))
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 5
    assert ET.fromstring(memory_plot([])) is not None


def measured(paths: Iterable[Path]) -> list[Observation]:
    """What files cost a parser's child under the budget of a run of 500 MiB; those that fail are left out."""
    history = []
    with Sandbox(memory_limit_bytes=500 * MIB - PARSE_PARENT_BYTES) as box:
        for path in paths:
            with path.open("rb") as stream:
                media_type, parsed = detect.media_type(path.name, stream.read(4096)), ParseFold()
                if media_type not in detect.SUPPORTED:
                    continue
                with contextlib.suppress(PermanentError):
                    deque(parsed.pages_of(box.events(stream, ParseRequest(path.name, media_type))), maxlen=0)
                    size, peak = path.stat().st_size, parsed.cost.peak_memory_bytes
                    history.append(Observation(path.name, media_type, size, peak, parsed.cost.seconds))
    return history


def test_made_files_leave_one_out(tmp_path: Path) -> None:
    """Of made files of four types each is predicted by the others: what is expected is near, the bound is kept."""
    for size in range(1, 11):
        (tmp_path / f"{size}.txt").write_text(paragraphs(RUSSIAN, size * size * 6_000))
        (tmp_path / f"{size}.html").write_text(page(size=size * size * 1_000))
        (tmp_path / f"{size}.jsonl").write_bytes(lines(*rows(size * size * 15)))
        (tmp_path / f"{size}.pdf").write_bytes(pages([ENGLISH] * size * 5))
    history = measured(sorted(tmp_path.iterdir()))
    outcomes = leave_one_out(history)
    assert len(outcomes) == 40
    assert summarize([outcome.expected_error for outcome in outcomes]).p50 < 0.2
    assert summarize([outcome.error for outcome in outcomes]).too_low <= 0.08 * 40
    assert all(seen.peak_bytes + PARSE_PARENT_BYTES <= 500 * MIB for seen in history)


@pytest.mark.proof
def test_real_files_leave_one_out(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Leave one out: what is expected is near, the predicted peak is kept, and nobody passes a run's budget."""
    history = measured(sorted(path for path in corpus.rglob("*") if path.is_file() and "retrieval" not in path.parts))
    outcomes = leave_one_out(history)
    expected = summarize([outcome.expected_error for outcome in outcomes])
    promised = summarize([outcome.error for outcome in outcomes])
    over_budget = sum(seen.peak_bytes + PARSE_PARENT_BYTES > 500 * MIB for seen in history)
    with capsys.disabled():
        print(
            f"\nleave one out, {expected.count} files: expected p50 {expected.p50:.1%} p95 {expected.p95:.1%}; "
            f"promised p50 {promised.p50:.1%} p95 {promised.p95:.1%}, {promised.too_low} too low; "
            f"runs over 500 MiB: {over_budget}"
        )
    assert expected.count > 140
    assert expected.p50 < 0.2
    assert promised.too_low <= 0.08 * promised.count
    assert over_budget == 0
