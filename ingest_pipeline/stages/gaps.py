"""The limits under which a file is parsed: gaps that were recorded under lower ones are worth another try."""

from __future__ import annotations

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.settings import Settings


def parse_limits(settings: Settings) -> dict[str, float]:
    """Return what a parser's child may use: `page_seconds`, `file_seconds`, `parser_bytes`."""
    return {
        "page_seconds": settings.page_seconds,
        "file_seconds": settings.file_seconds,
        "parser_bytes": budget_of(settings).parser_bytes,
    }
