"""Divides the memory budget of a run between the engine, the parser and the activations of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.settings import Settings

Engine = Literal["torch", "openvino"]
MIB = 1024**2

PARSE_PARENT_BYTES = 190 * MIB
"""Peak of the run process while its parser's child works: Dagster, psycopg, tokenizer (docs/findings.md, G7)."""
SERVER_CLIENT_BYTES = 64 * MIB
"""In addition, if sources are on servers: importing s3fs takes 36 MiB, its first client 20 (docs/findings.md, G7)."""


@dataclass(frozen=True, slots=True)
class EngineCost:
    """The memory that a run needs to embed with one engine."""

    floor_bytes: int
    """Peak of a run after loading the packaged model, without activations."""
    minimum_bytes: int
    """The smallest budget that is accepted."""


ENGINE_COSTS: dict[Engine, EngineCost] = {
    # A run peaks at 603-645 MiB; with 704 MiB an allocation failed in one run of two (docs/findings.md, H1).
    "torch": EngineCost(floor_bytes=656 * MIB, minimum_bytes=768 * MIB),
    # A run peaks at 383 MiB with weights stored as fp16 and 512 tokens in a micro-batch (docs/findings.md, H1).
    "openvino": EngineCost(floor_bytes=368 * MIB, minimum_bytes=448 * MIB),
}


@dataclass(frozen=True, slots=True)
class RunBudget:
    """The memory budget of one run and of its parts."""

    total_bytes: int
    """All processes of the run together."""
    engine: Engine
    """The engine that embeds; for `auto`, torch if it fits into the budget, else OpenVINO."""
    client_bytes: int = 0
    """Memory of the client libraries for servers; 0 if every source is a folder."""

    @classmethod
    def of(cls, settings: Settings) -> RunBudget:
        """Return the budget of a run under these settings."""
        total, wanted = settings.run_memory, settings.engine
        # `auto` prefers torch, because it supports every model.
        torch = wanted == "torch" or (wanted == "auto" and total >= ENGINE_COSTS["torch"].minimum_bytes)
        client_bytes = SERVER_CLIENT_BYTES if settings.reads_servers else 0
        return cls(total, "torch" if torch else "openvino", client_bytes)

    @property
    def parent_bytes(self) -> int:
        """Memory of the run process itself while its child parses."""
        return PARSE_PARENT_BYTES + self.client_bytes

    @property
    def parser_bytes(self) -> int:
        """Memory left for the parser's child, beside the run process."""
        return self.total_bytes - self.parent_bytes

    @property
    def model_bytes(self) -> int:
        """Memory of a run that embeds, without activations."""
        return ENGINE_COSTS[self.engine].floor_bytes + self.client_bytes

    @property
    def activation_bytes(self) -> int:
        """Memory left for activations, beside the loaded model and Dagster."""
        return max(0, self.total_bytes - ENGINE_COSTS[self.engine].floor_bytes)

    def require_room(self) -> None:
        """Refuse a budget that is too small for the engine.

        Raises:
            BadSetting: the engine does not fit.
        """
        minimum = ENGINE_COSTS[self.engine].minimum_bytes
        if self.total_bytes < minimum:
            least = f"at least {minimum} ({minimum // MIB}MiB): the engine ({self.engine}) and the model need it"
            raise BadSetting("INGEST_RUN_MEMORY", str(self.total_bytes), least)
