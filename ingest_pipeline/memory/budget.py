"""How a run's memory is divided: what its engine needs, what is left for the parser and for activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.settings import Settings

Engine = Literal["torch", "openvino"]
MIB = 1024**2

PARSE_PARENT_BYTES = 190 * MIB
"""Peak of the run process while its parser's child works: Dagster, psycopg, tokenizer (2026-11)."""
SERVER_CLIENT_BYTES = 64 * MIB
"""On top of it where sources are on servers: s3fs is 36 MiB to import, its first client 20 (2026-11)."""


@dataclass(frozen=True, slots=True)
class EngineCost:
    """What a run needs to embed at all."""

    floor_bytes: int
    """Peak of a run that has loaded the packaged model, without activations."""
    minimum_bytes: int
    """The least budget that is accepted."""


ENGINE_COSTS: dict[Engine, EngineCost] = {
    # 603-645 MiB measured; at 704 MiB torch was refused memory in the middle of a batch in one run of two (2026-11).
    "torch": EngineCost(floor_bytes=656 * MIB, minimum_bytes=768 * MIB),
    # 383 MiB measured with the model's weights stored as fp16 and 512 tokens in a micro-batch (2026-11).
    "openvino": EngineCost(floor_bytes=368 * MIB, minimum_bytes=448 * MIB),
}


@dataclass(frozen=True, slots=True)
class RunBudget:
    """The memory of one run, and what each part of it may use."""

    total_bytes: int
    """All processes of the run together."""
    engine: Engine
    """Who embeds: what was asked for; `auto` is torch where it fits, OpenVINO where it does not."""
    client_bytes: int = 0
    """For the libraries that speak with servers; 0 where every source is a folder."""

    @classmethod
    def of(cls, settings: Settings) -> RunBudget:
        """Return the budget of a run under these settings."""
        total, wanted = settings.run_memory, settings.engine
        torch = wanted == "torch" or (wanted == "auto" and total >= ENGINE_COSTS["torch"].minimum_bytes)
        client_bytes = SERVER_CLIENT_BYTES if settings.reads_servers else 0
        return cls(total, "torch" if torch else "openvino", client_bytes)

    @property
    def parent_bytes(self) -> int:
        """What the run process itself takes while its child parses."""
        return PARSE_PARENT_BYTES + self.client_bytes

    @property
    def parser_bytes(self) -> int:
        """What is left for the child that parses, beside the run process."""
        return self.total_bytes - self.parent_bytes

    @property
    def model_bytes(self) -> int:
        """What the run holds while it embeds, before any activations."""
        return ENGINE_COSTS[self.engine].floor_bytes + self.client_bytes

    @property
    def activation_bytes(self) -> int:
        """What is left for activations, beside the loaded model and Dagster."""
        return max(0, self.total_bytes - ENGINE_COSTS[self.engine].floor_bytes)

    def require_room(self) -> None:
        """Refuse a budget in which no run could embed.

        Raises:
            BadSetting: the engine does not fit.
        """
        minimum = ENGINE_COSTS[self.engine].minimum_bytes
        if self.total_bytes < minimum:
            least = f"at least {minimum} ({minimum // MIB}MiB): the engine ({self.engine}) and the model need it"
            raise BadSetting("INGEST_RUN_MEMORY", str(self.total_bytes), least)
