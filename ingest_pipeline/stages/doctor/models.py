"""What makes vectors, answers and entities: the model and its hash, the engine, servers, the entity model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ingest_pipeline.embedding.choice import engine_of, files_under, server_module
from ingest_pipeline.embedding.export import export_path, failure_path
from ingest_pipeline.embedding.model import PACKAGED, folder_on_disk, tokenizer_sha256
from ingest_pipeline.embedding.precision import precision_of
from ingest_pipeline.engines import ENGINES, LOCAL
from ingest_pipeline.entities.model import entity_model
from ingest_pipeline.errors import ModelMismatch
from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.doctor.bounded import Seen, fail, looked, ok, warn
from ingest_pipeline.stages.doctor.model_on_disk import with_model_on_disk

IMPORT_SECONDS = 60.0
"""torch takes 3 s from a warm disk, and a cold one is slow."""
LIBRARIES = {"torch": "torch", "openvino": "openvino"}
REINSTALL = "install ingest-pipeline again, or correct INGEST_MODEL"


def checks(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the models that the settings name."""
    if settings.embedder == LOCAL:
        yield looked("model", lambda: _model(settings), advice=REINSTALL)
        yield looked("engine", lambda: _engine(with_model_on_disk(settings)), advice=REINSTALL, seconds=IMPORT_SECONDS)
    else:
        yield looked("embedder", lambda: _embedder(settings), advice="see docs/models.md: server, key, model")
    if settings.extract:
        yield looked(
            "llm", lambda: _llm(settings), advice="correct the file that INGEST_EXTRACT names; see docs/models.md"
        )
    if settings.entity_model:
        yield looked("entity model", lambda: _entity_model(settings), advice="install spaCy and the model's package")


def _model(settings: Settings) -> Seen:
    if folder_on_disk(settings.model) is None:
        return warn(
            f"{settings.model} is not on this machine",
            "the first run downloads it from the hub; or give its folder as INGEST_MODEL",
        )
    located = with_model_on_disk(settings)
    files = files_under(located, engine_of(located))
    files.verified()
    if settings.model == PACKAGED:
        actual = tokenizer_sha256(str(files.folder))
        if actual != files.card.tokenizer:
            raise ModelMismatch(f"{PACKAGED}: tokenizer.json", actual, files.card.tokenizer)
    return ok(f"{settings.model}, {files.card.dimension} dimensions, SHA-256 {files.card.identity[:12]}…")


def _engine(settings: Settings) -> Seen:
    precision, engine = precision_of(settings.precision), engine_of(settings)
    library = LIBRARIES.get(engine, ENGINES[engine].module)
    # In a process of its own: a library that does not fit the processor ends the process that loads it.
    result = subprocess.run(
        [sys.executable, "-c", f"import {library} as library; print(getattr(library, '__version__', ''))"],
        capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False,
    )  # fmt: skip
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        return fail(f"{engine} cannot be loaded: {lines[-1]}", "install ingest-pipeline again, or set INGEST_ENGINE")
    card = files_under(settings, engine).card
    if failure_path(card, home=settings.home).exists():
        return warn(
            f"{engine}: the model could not be converted for OpenVINO",
            f"delete {failure_path(card, home=settings.home)} to have it tried again",
        )
    converted = engine == "openvino" and not export_path(card, home=settings.home).is_file()
    number = result.stdout.strip().partition("-")[0]
    return ok(f"{engine} {number}, {precision}" + (", the first run converts the model" if converted else ""))


def _embedder(settings: Settings) -> Seen:
    dimension = server_module(settings.embedder).probe(settings)
    if settings.dimensions and dimension != settings.dimensions:
        return fail(f"vectors of {dimension} dimensions", f"INGEST_DIMENSIONS={dimension}, or 0")
    return ok(f"{settings.embedder}: {settings.model} answers with {dimension} dimensions")


def _llm(settings: Settings) -> Seen:
    from ingest_pipeline.extraction.load import load_extractor, server_url
    from ingest_pipeline.extraction.spec import read_spec
    from ingest_pipeline.remote.calls import Caller, CallLimits
    from ingest_pipeline.remote.transport import bounded_client

    spec = read_spec(Path(settings.extract))
    load_extractor(spec, Caller("the LLM", CallLimits()))  # asks nothing: the library and the key are there
    with bounded_client(call_seconds=10) as client:
        status = client.get(server_url(spec)).status_code
    seen = f"{spec.provider}: the server of {spec.model} answers (HTTP {status} without a question)"
    return warn(seen, "its server has an error: see its own status") if status >= 500 else ok(seen)


def _entity_model(settings: Settings) -> Seen:
    model = entity_model(settings)
    assert model
    return ok(model.key)
