"""Converts a sentence-transformers model to OpenVINO: once, in a child process, cached under `INGEST_HOME`.

Run as `python -m ingest_pipeline.embedding.export <model folder> <output folder>`. The child needs torch: it peaks at
572 MiB, 311 of them private (docs/findings.md, H5), and ends before the first text is embedded.
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

from ingest_pipeline.embedding.model import ModelFiles, read_config
from ingest_pipeline.errors import BadSetting, ModelExportFailed
from ingest_pipeline.models import ModelCard

MODEL_FILE = "model.xml"
EXPORT_SECONDS = 600.0  # it takes 12-15 s on an idle machine (docs/findings.md, H5)
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
ERROR_CHARACTERS = 300
CANNOT_CONVERT = 3
"""Exit code of the child for a model that cannot be converted."""


def exported_model(model: ModelFiles, *, home: Path) -> Path:
    """Return the exported form of a model; export it if that has not been done yet.

    If several processes need the same model at the same time, one exports it and the others wait.

    Raises:
        ModelMismatch: the weights to be exported are different.
        BadSetting: the model is not just a transformer with mean or CLS pooling.
        ModelExportFailed: the child failed; the last line of its output is in the message.
    """
    path = export_path(model.card, home=home)
    if path.is_file():  # looked for first: every run comes here, and hashing 90 MB of weights takes time
        return path
    pooling_of(model.folder)
    cached = path.parent
    cached.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive_lock(_beside(cached, "lock")):
        if not path.is_file():
            _export_in_child(model.verified(), cached)
    return path


def export_path(card: ModelCard, *, home: Path) -> Path:
    """Return the path of a model's exported form, whether it exists or not."""
    # A new version of OpenVINO may convert differently, and gets a folder of its own.
    return home / "models" / f"{card.identity[:16]}-openvino-{version('openvino')}" / MODEL_FILE


def failure_path(card: ModelCard, *, home: Path) -> Path:
    """Return the path of the file that exists if a model could not be exported; it says why."""
    return _beside(export_path(card, home=home).parent, "failed")


def pooling_of(folder: Path) -> str:
    """Return how a model pools token vectors to one vector: `mean` or `cls`.

    Raises:
        BadSetting: the model has another kind of pooling, or further layers.
    """
    modules = json.loads((folder / "modules.json").read_text()) if (folder / "modules.json").is_file() else []
    kinds = {str(module["type"]).rpartition(".")[2] for module in modules}
    modes = [name for name, on in read_config(folder / "1_Pooling", "config.json").items() if on is True]
    supported = [POOLINGS[mode] for mode in modes if mode in POOLINGS]
    others = [mode for mode in modes if mode.startswith("pooling_mode_") and mode not in POOLINGS]
    if len(supported) != 1 or others or not kinds <= set(KNOWN_MODULES):
        raise BadSetting(
            "INGEST_MODEL", folder.name, "a transformer with mean or CLS pooling, for INGEST_ENGINE=openvino"
        )
    return supported[0]


@contextmanager
def _exclusive_lock(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when the process ends, even after a SIGKILL
        yield


def _export_in_child(folder: Path, cached: Path) -> None:
    temporary = _beside(cached, "part")
    shutil.rmtree(temporary, ignore_errors=True)
    command = [sys.executable, "-m", "ingest_pipeline.embedding.export", str(folder), str(temporary)]
    # One arena and one thread: tracing is not faster with more, but keeps more memory.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    try:
        result = subprocess.run(command, env=environment, capture_output=True, timeout=EXPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ModelExportFailed(f"{folder.name}: no export within {EXPORT_SECONDS:.0f} s") from None
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {result.returncode}"]
        why = f"{folder.name}: the export to OpenVINO failed: {lines[-1][:ERROR_CHARACTERS]}"
        if result.returncode == CANNOT_CONVERT:  # it would fail again; a full disk or a kill may not
            _beside(cached, "failed").write_text(why)
        raise ModelExportFailed(why)
    # Renamed when it is complete: a killed export leaves no half of a model under the final name.
    shutil.rmtree(cached, ignore_errors=True)
    for path in (*temporary.iterdir(), temporary):
        _flush(path)  # and a power cut leaves no empty file under it
    temporary.rename(cached)
    _flush(cached.parent)


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f"{folder.name}.{ending}")  # not `with_suffix`: the name ends with a version


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def export(folder: Path, output: Path) -> None:
    """Write a model's transformer as OpenVINO IR with fp16 weights; pooling is not part of it.

    With fp16 the weights take 43 MB of memory instead of 86, with cosine 0.999999 to fp32 (docs/findings.md, H2).
    """
    # Keeps the converter's telemetry from being imported: it would start three processes that report its use (H5).
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


def main() -> None:
    """Export; the exit code says whether the model is the reason of a failure."""
    try:
        export(Path(sys.argv[1]), Path(sys.argv[2]))
    except (MemoryError, ImportError, OSError):  # the machine's or the installation's
        raise
    except Exception as error:  # whatever the libraries raise for a model that they do not know
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        sys.exit(CANNOT_CONVERT)


if __name__ == "__main__":
    main()
