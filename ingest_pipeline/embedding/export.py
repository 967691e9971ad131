"""A sentence-transformers model becomes an OpenVINO one: once, in a child process, cached under `INGEST_HOME`.

Run as `python -m ingest_pipeline.embedding.export <model folder> <output folder>`. The child needs torch: 572 MiB at
its peak, 311 of them private (2026-11); it is gone before the first text is embedded.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from ingest_pipeline.embedding.model import read_config
from ingest_pipeline.errors import BadSetting, ModelExportFailed
from ingest_pipeline.models import ModelCard

MODEL_FILE = "model.xml"
EXPORT_SECONDS = 600.0  # 12 s on an idle machine
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
ERROR_CHARACTERS = 300


def exported_model(folder: Path, card: ModelCard, *, home: Path) -> Path:
    """Return the exported form of a model, making it when it is not there yet.

    Processes that want the same model at once make it once.

    Raises:
        BadSetting: a model that is more than a transformer with mean or CLS pooling.
        ModelExportFailed: the child failed; its last words are in the message.
    """
    pooling_of(folder)
    path = export_path(card, home=home)
    cached = path.parent
    cached.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(cached.with_suffix(".lock")):
        if not path.is_file():
            _export_in_child(folder, cached)
    return path


def export_path(card: ModelCard, *, home: Path) -> Path:
    """Return where a model's exported form is, or will be."""
    return home / "models" / f"{card.identity[:16]}-openvino-{version('openvino')}" / MODEL_FILE


def pooling_of(folder: Path) -> str:
    """Return how a model makes one vector of many: `mean` or `cls`.

    Raises:
        BadSetting: in another way, or with further layers.
    """
    modules = json.loads((folder / "modules.json").read_text()) if (folder / "modules.json").is_file() else []
    kinds = {str(module["type"]).rpartition(".")[2] for module in modules}
    modes = [name for name, on in read_config(folder / "1_Pooling", "config.json").items() if on is True]
    found = [POOLINGS[mode] for mode in modes if mode in POOLINGS]
    others = [mode for mode in modes if mode.startswith("pooling_mode_") and mode not in POOLINGS]
    if len(found) != 1 or others or not kinds <= set(KNOWN_MODULES):
        raise BadSetting(
            "INGEST_MODEL", folder.name, "a transformer with mean or CLS pooling, for INGEST_RUN_MEMORY under 768MiB"
        )
    return found[0]


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield


def _export_in_child(folder: Path, cached: Path) -> None:
    temporary = cached.with_suffix(".part")
    shutil.rmtree(temporary, ignore_errors=True)
    command = [sys.executable, "-m", "ingest_pipeline.embedding.export", str(folder), str(temporary)]
    # One arena and one thread: a tracer that uses more only keeps more.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    try:
        result = subprocess.run(command, env=environment, capture_output=True, timeout=EXPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ModelExportFailed(f"{folder.name}: no export within {EXPORT_SECONDS:.0f} s") from None
    if result.returncode:
        words = result.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {result.returncode}"]
        raise ModelExportFailed(f"{folder.name}: the export to OpenVINO failed: {words[-1][:ERROR_CHARACTERS]}")
    shutil.rmtree(cached, ignore_errors=True)
    temporary.rename(cached)


def export(folder: Path, output: Path) -> None:
    """Write a model's transformer as OpenVINO IR with fp16 weights; pooling stays with the caller.

    fp16 on disk: 43 MB of weights in memory instead of 86, cosine 0.999999 against fp32.
    """
    # Without it the converter falls back on a stub: it would start three processes to report its use to its makers.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino
    import torch
    from transformers import AutoModel

    class Transformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = AutoModel.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32).eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    example = torch.ones((2, 16), dtype=torch.int64)
    with torch.no_grad():
        converted = openvino.convert_model(Transformer(), example_input=(example, example))
    output.mkdir(parents=True, exist_ok=True)
    openvino.save_model(converted, output / MODEL_FILE, compress_to_fp16=True)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
