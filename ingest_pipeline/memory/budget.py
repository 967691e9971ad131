"""Divides the memory budget of a run between the engine, the parser and the activations of the model."""

from __future__ import annotations

from dataclasses import dataclass

from ingest_pipeline.engines import ENGINES, F32, Footprint
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size

MIB = 1024**2

PARSE_PARENT_BYTES = 190 * MIB
"""Peak of the run process while its parser's child works: Dagster, psycopg, tokenizer (docs/findings.md, G7)."""
SERVER_CLIENT_BYTES = 64 * MIB
"""In addition, if sources are on servers: importing s3fs takes 36 MiB, its first client 20 (docs/findings.md, G7)."""
LEAST_ACTIVATION_BYTES = 12 * MIB
"""Of one chunk of the packaged model (docs/findings.md, H6)."""


@dataclass(frozen=True, slots=True)
class RunBudget:
    """The memory budget of one run and of its parts."""

    total_bytes: int
    """All processes of the run together."""
    engine: str
    """The engine that embeds."""
    precision: str = F32
    """In what it computes."""
    client_bytes: int = 0
    """Memory of the client libraries for servers; 0 if every source is a folder."""

    @classmethod
    def of(cls, settings: Settings, engine: str, precision: str = F32) -> RunBudget:
        """Return the budget of a run under these settings; `embedding.choice` knows engine and precision."""
        client_bytes = SERVER_CLIENT_BYTES if settings.reads_servers else 0
        return cls(settings.run_memory, engine, precision, client_bytes)

    @property
    def footprint(self) -> Footprint:
        """What the engine needs of it."""
        return ENGINES[self.engine].footprint(self.precision)

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
        return self.footprint.floor_bytes + self.client_bytes

    @property
    def activation_bytes(self) -> int:
        """Memory left for activations, beside the loaded model, Dagster and the clients of servers."""
        return max(0, self.total_bytes - self.model_bytes)

    @property
    def least_bytes(self) -> int:
        """The smallest budget that holds the engine."""
        return max(self.footprint.minimum_bytes, self.model_bytes + LEAST_ACTIVATION_BYTES)

    def require_room(self) -> None:
        """Refuse a budget that is too small for the engine.

        Raises:
            BadSetting: the engine does not fit.
        """
        if self.total_bytes < self.least_bytes:
            least = f"at least {format_size(self.least_bytes)}: the engine ({self.engine}) and the model need it"
            raise BadSetting("INGEST_RUN_MEMORY", format_size(self.total_bytes), least)
