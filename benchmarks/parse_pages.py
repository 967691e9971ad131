"""Parses one file in the sandbox and prints its pages a CPU second, of the parser's child and this process together.

Run as `python parse_pages.py <file>` by `speed.py`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ingest_pipeline.models import START, RawFile
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.chunks import request_for


def main() -> None:
    """Print pages, CPU seconds and pages a CPU second as JSON."""
    path = Path(sys.argv[1])
    media_type = detect.media_type(path.name, path.read_bytes()[: detect.HEAD_BYTES])
    file = RawFile(0, str(path.parent), path.name, "", path.stat().st_size, "", media_type, "synced")
    fold, began = ParseFold(gaps=[], sections=[]), sum(os.times()[:4])
    with Sandbox(memory_limit_bytes=1024**3, page_seconds=30, file_seconds=600) as sandbox, path.open("rb") as stream:
        for _ in fold.pages_of(sandbox.events(stream, request_for(file, Settings(), START))):
            pass
    pages, cpu = fold.result().pages, sum(os.times()[:4]) - began
    print(json.dumps({"pages": pages, "cpu_seconds": round(cpu, 2), "pages_per_cpu_second": round(pages / cpu)}))


if __name__ == "__main__":
    main()
