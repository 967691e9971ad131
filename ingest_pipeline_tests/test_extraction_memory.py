"""Nothing accumulates: the peak of a process that asks about sections does not depend on how many there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_pipeline_tests.gemini_server import gemini_server
from ingest_pipeline_tests.test_extraction_openai import chat_server, said

MIB = 1024**2
ASKS = """
import sys
from pathlib import Path
from ingest_pipeline.extraction.ask import answered
from ingest_pipeline.extraction.base import Question, Usage, new_remote_name
from ingest_pipeline.extraction.load import load_extractor
from ingest_pipeline.extraction.sections import SectionChoice
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.remote.calls import Caller, CallLimits

provider, url, document, sections = sys.argv[1:]
schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
spec = ExtractSpec("n", provider, "m", "Q", schema, SectionChoice("whole"), url=url, input="pdf")
extractor = load_extractor(spec, Caller("x", CallLimits()))
for number in range(int(sections)):
    question = Question(f"Q{number}", schema, 100, document=Path(document), remote_name=new_remote_name())
    with extractor.uploaded(question) as remote:
        assert answered(extractor, question, remote, Usage()) == {"title": "text"}
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def peak_bytes(provider: str, url: str, document: Path, sections: int) -> int:
    """The peak of a process that asks about so many sections, each with its document."""
    result = subprocess.run(
        [sys.executable, "-c", ASKS, provider, url, str(document), str(sections)],
        env={**os.environ, "GEMINI_API_KEY": "key"}, cwd=Path(__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return int(result.stdout) * 1024


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document of 3 MiB."""
    path = tmp_path / "x.pdf"
    path.write_bytes(os.urandom(3 * MIB))
    return path


def test_the_peak_is_flat(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1, 7 and 70 sections through Gemini: 3 MiB each, and no more for 70 than for one."""
    with gemini_server() as server:
        peaks = [peak_bytes("gemini", server.url, document, sections) for sections in (1, 7, 70)]
        assert server.state.files == {}
        assert server.state.calls["delete"] == 78
        assert server.state.most_files == 1
    with capsys.disabled():
        print(f"\npeak with 1, 7, 70 sections of 3 MiB: {', '.join(f'{peak / MIB:.1f}' for peak in peaks)} MiB")
    assert peaks[2] - peaks[1] < 3 * MIB
    assert peaks[2] - peaks[0] < 8 * MIB  # two buffers of the upload


def test_a_document_is_never_whole_in_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A PDF that is sent with the question costs the same, whether it has 1 MiB or 24."""
    peaks = []
    with chat_server(said('{"title": "text"}')) as (extractor, asked):
        for size in (1, 24):
            document = tmp_path / "x.pdf"
            document.write_bytes(os.urandom(size * MIB))
            peaks.append(peak_bytes("openai", extractor._access.url, document, 1))
            asked.clear()
    with capsys.disabled():
        print(f"\npeak with a PDF of 1, 24 MiB in a chat question: {peaks[0] / MIB:.1f}, {peaks[1] / MIB:.1f} MiB")
    assert peaks[1] - peaks[0] < 5 * MIB
