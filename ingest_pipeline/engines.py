"""The table of engines: who computes vectors, what each needs, and whether its vectors are its own.

A new engine is a module in `embedding/` and a row here. Settings, budgets, micro-batches and the fingerprint read it.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of an engine without loading it."""

    module: str
    """Offers `load`; `takes`, if it cannot compute every model; `prepare`, if something is made before a run."""
    floor_bytes: int
    """Peak of a run that has loaded the packaged model, without activations."""
    minimum_bytes: int
    """The least budget that is accepted."""
    max_batch_tokens: int
    """Padded tokens in one micro-batch; more would not be faster."""
    help: str = ""
    """What docs/settings.md says after its name."""
    own_vectors: str = ""
    """A name for its vectors, if they are not those of the model's weights. Another name: all is embedded again."""
    threads_per_core: int = 1
    """Threads that a run may have for each core of its share: with 2, the last run at work uses idle cores, too."""


# For `auto` the first engine that can compute the model.
ENGINES = {
    "openvino": Engine(
        "ingest_pipeline.embedding.openvino",
        # A run peaks at 383 MiB with weights stored as fp16 and 512 tokens in a micro-batch (docs/findings.md, H1).
        floor_bytes=368 * MIB,
        minimum_bytes=448 * MIB,
        max_batch_tokens=1024,  # 65.9 / 69.5 / 72.3 chunks a second with 512 / 1,024 / 2,048 (docs/findings.md, H7)
        help="models with mean or CLS pooling",
        threads_per_core=2,  # two runs on two cores: 134 chunks a second with one thread each or two (H9)
    ),
    "torch": Engine(
        "ingest_pipeline.embedding.torch",
        # A run peaks at 603-645 MiB; with 704 MiB an allocation failed in one run of two (docs/findings.md, H1).
        floor_bytes=656 * MIB,
        minimum_bytes=768 * MIB,
        max_batch_tokens=1024,  # 256 chunks take 27.8 / 26.2 / 27.0 CPU seconds at 1,024 / 2,048 / 4,096 (H7)
        help="every model of sentence-transformers",
    ),
}
