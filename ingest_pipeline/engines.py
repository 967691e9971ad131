"""The table of engines: who computes vectors, what each needs, and whether its vectors are its own.

A new engine is a module in `embedding/` and a row here. Settings, budgets and micro-batches read it. An engine on this
machine is a value of `INGEST_ENGINE`, a protocol of servers is a value of `INGEST_EMBEDDER`.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2
AUTO, F32, BF16 = "auto", "f32", "bf16"
LOCAL = "local"
"""The value of `INGEST_EMBEDDER` for the engines on this machine."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of a run with the packaged model, and what fills it."""

    floor_bytes: int
    """Peak of a run that has loaded the model, without activations."""
    minimum_bytes: int
    """The least budget that is accepted."""
    max_batch_tokens: int
    """Padded tokens in one micro-batch; more would not be faster, or need too much."""
    bytes_per_token: int = 120
    """Of a micro-batch, for each dimension: 190 MB for 4,096 padded tokens of 384 dimensions, 47 MB for 1,024
    (docs/findings.md, H6)."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of an engine without loading it."""

    module: str
    """Offers `load`; `takes`, if it cannot compute every model; `prepare`, if something is made before a run."""
    f32: Footprint
    bf16: Footprint | None = None
    """If it can compute in bf16, where the processor has instructions for that."""
    help: str = ""
    """What docs/settings.md says after its name."""
    own_vectors: str = ""
    """A name for its vectors, if they are not those of the model's weights. Another name: all is embedded again."""
    server: bool = False
    """True if a server computes; its module offers `card` and `connect` instead of `load`."""
    threads_per_core: int = 1
    """Threads that a run may have for each core of its share: with 2, the last run at work uses idle cores, too."""

    def footprint(self, precision: str) -> Footprint:
        """Return the memory of a run in a precision."""
        return self.bf16 if precision == BF16 and self.bf16 else self.f32


# For `auto` the first engine that can compute the model.
ENGINES = {
    "openvino": Engine(
        "ingest_pipeline.embedding.openvino",
        # A run peaks at 383 MiB with 512 tokens in fp32, at 340 with 1,024 in bf16 (docs/findings.md, H1).
        f32=Footprint(floor_bytes=364 * MIB, minimum_bytes=416 * MIB, max_batch_tokens=512),
        bf16=Footprint(floor_bytes=296 * MIB, minimum_bytes=352 * MIB, max_batch_tokens=1024),
        help="models with mean or CLS pooling",
        threads_per_core=2,  # two runs on two cores: 134 chunks a second with one thread each or two (H9)
    ),
    "torch": Engine(
        "ingest_pipeline.embedding.torch",
        # A run peaks at 603-645 MiB; with 704 MiB an allocation failed in one run of two (docs/findings.md, H1).
        # 256 chunks take 27.8 / 26.2 / 27.0 CPU seconds at 1,024 / 2,048 / 4,096 tokens (H7).
        f32=Footprint(floor_bytes=656 * MIB, minimum_bytes=768 * MIB, max_batch_tokens=1024),
        help="every model of sentence-transformers",
    ),
    "openai": Engine(
        "ingest_pipeline.embedding.openai_api",
        # The parser's child beside the run process decides: see memory/budget.py.
        f32=Footprint(floor_bytes=208 * MIB, minimum_bytes=272 * MIB, max_batch_tokens=8192, bytes_per_token=2),
        help="any server of the OpenAI protocol",
        server=True,
    ),
}
ON_THIS_MACHINE = {name: engine for name, engine in ENGINES.items() if not engine.server}
SERVERS = {name: engine for name, engine in ENGINES.items() if engine.server}
