"""A large database and large documents are backed up and restored in memory that does not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.conftest import WHOLE_PROOF, fresh_database

MIB = 1024**2
CHUNKS = 100_000 if WHOLE_PROOF else 20_000
DOCUMENT_BYTES = 512 * MIB
MAX_PEAK_BYTES = 96 * MIB
"""41 MiB without documents (2026-11): the interpreter, psycopg and pieces of 256 KiB."""
FILL = """
INSERT INTO models (name, identity, dimension, max_tokens) VALUES ('m', repeat('a', 64), 384, 256);
INSERT INTO generations (version, fingerprint, complete, pages, chunks, tokens, max_tokens)
SELECT md5(g::text), 'f', true, 10, 100, 20000, 256 FROM generate_series(1, {chunks} / 100) g;
INSERT INTO chunks (generation_id, ordinal, page_from, page_to, char_from, char_to, tokens, text, text_hash)
SELECT 1 + i / 100, i % 100, 1, 1, 0, 1000, 200, string_agg(md5((i * j)::text), ' '), sha256(i::text::bytea)
FROM generate_series(0, {chunks} - 1) i, generate_series(1, 30) j GROUP BY i;
INSERT INTO embeddings (model_id, text_hash, embedding)
SELECT 1, sha256(i::text::bytea), l2_normalize(array_agg(random() - 0.5)::real[]::vector)::halfvec(384)
FROM generate_series(0, {chunks} - 1) i, generate_series(1, 384) j GROUP BY i;
INSERT INTO files (source, path, size_bytes, version, media_type, status, generation_id, model_id)
SELECT '{source}', 'f' || generation_id, 1000, version, 'text/plain', 'indexed', generation_id, 1 FROM generations;
"""
MEASURED = """
import re, sys
from ingest_pipeline.cli.main import main
try:
    main(sys.argv[1:])
finally:
    # Not ru_maxrss, which begins with that of the process that started this one.
    print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024, flush=True)
"""


def measured(*arguments: str) -> dict[str, Any]:
    """Run a command in a process of its own; what it printed, with its peak."""
    command = [sys.executable, "-c", MEASURED, *arguments, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    row, peak_bytes = map(json.loads, ended.stdout.splitlines())
    return dict(row) | {"peak_bytes": peak_bytes}


@pytest.mark.proof
def test_peak_does_not_grow(
    settings: Settings, source: Path, server: Any, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of vectors and a document of 512 MiB: both commands stay under 96 MiB, and print what they took."""
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(settings.database_url, options="-csearch_path=ingest,public", autocommit=True) as connection:
        connection.execute(FILL.format(chunks=CHUNKS, source=source).encode())
    with (source / "large.bin").open("wb") as large:
        large.truncate(DOCUMENT_BYTES)
    file = tmp_path / "b.tar"
    backup = measured("backup", str(file), "--with-documents")
    assert (backup["counts"]["ingest.embeddings"], backup["documents"]["size_bytes"]) == (CHUNKS, DOCUMENT_BYTES)
    with fresh_database(server, template) as url:
        place = str(tmp_path / "restored")
        restore = measured("restore", str(file), "--to", url, "--documents-to", place)
    assert (tmp_path / "restored" / "documents" / "large.bin").stat().st_size == DOCUMENT_BYTES
    for name, row in (("backup", backup), ("restore", restore)):
        sizes = f"peak {row['peak_bytes'] / MIB:.0f} MiB, file {file.stat().st_size / MIB:.0f} MiB"
        print(f"{name}: {row['seconds']:.1f} s, {sizes}")
        assert row["peak_bytes"] < MAX_PEAK_BYTES, name
