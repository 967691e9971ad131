"""How a run's memory is divided: what its engine needs, what is left for the parser and for activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest_pipeline.errors import BadSetting

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


def engine_for(run_budget_bytes: int, wanted: str = "auto") -> Engine:
    """Return the engine that embeds: the wanted one; by itself torch where it fits, OpenVINO where it does not."""
    if wanted == "torch" or (wanted == "auto" and run_budget_bytes >= ENGINE_COSTS["torch"].minimum_bytes):
        return "torch"
    return "openvino"


def require_room(run_budget_bytes: int, wanted: str = "auto") -> None:
    """Refuse a budget in which no run could embed.

    Raises:
        BadSetting: even the leaner engine does not fit.
    """
    engine = engine_for(run_budget_bytes, wanted)
    minimum = ENGINE_COSTS[engine].minimum_bytes
    if run_budget_bytes < minimum:
        least = f"at least {minimum} ({minimum // MIB}MiB): the engine ({engine}) and the model need it"
        raise BadSetting("INGEST_RUN_MEMORY", str(run_budget_bytes), least)


def parent_bytes(*, servers: bool) -> int:
    """Return what the run process itself takes while its child parses."""
    return PARSE_PARENT_BYTES + (SERVER_CLIENT_BYTES if servers else 0)


def parse_budget_bytes(run_budget_bytes: int, *, servers: bool = False) -> int:
    """Return what a run's budget leaves for the child that parses, beside the run process itself."""
    return run_budget_bytes - parent_bytes(servers=servers)


def embed_headroom_bytes(run_budget_bytes: int, engine: Engine = "torch") -> int:
    """Return what a run's budget leaves for activations, beside the loaded model and Dagster."""
    return max(0, run_budget_bytes - ENGINE_COSTS[engine].floor_bytes)
