"""Lanes for the trials: one for each core, prepared once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.chunking import load_encoder
from ingest_pipeline.embedding.choice import card_of, tokenizer_of
from ingest_pipeline.engines import ENGINES
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests import toy_engine
from ingest_pipeline_tests.crash.lanes import CORES, Lane, Record
from ingest_pipeline_tests.crash.results import results_folder
from ingest_pipeline_tests.crash.scenes import CHUNK_TOKENS

GIB = 1024**3
SETTINGS = {
    "engine": "toy", "chunk_tokens": CHUNK_TOKENS, "embed_batch": 64, "batch_files": 7, "run_memory": 8 * GIB,
    "machine_memory": 16 * GIB,
}  # fmt: skip
"""Two batches in the first scene."""


@pytest.fixture(scope="module")
def lanes(server: EmbeddedServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Lane]]:
    """Lanes whose undisturbed jobs have run; everything that a job needs is loaded before it is forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "toy", toy_engine.ROW)
        settings = replace(Settings(), **SETTINGS)
        encode = load_encoder(tokenizer_of(settings))
        encode("loaded")
        card_of(settings)
        opened = [_lane(server, template, tmp_path_factory, settings, encode, number) for number in range(CORES)]
        yield opened
        for lane in opened:
            lane.close()


def _lane(server: EmbeddedServer, template: str, factory: pytest.TempPathFactory, settings: Settings, encode, number):  # type: ignore[no-untyped-def]
    folder: Path = factory.mktemp(f"lane{number}_")
    lane = Lane(server.url, template, folder, settings, encode)
    lane.prepare()
    return lane


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The trials that have passed."""
    return Record((results_folder() or tmp_path_factory.mktemp("results")) / "passed.jsonl")
