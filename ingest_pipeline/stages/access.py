"""How the settings say that sources are reached."""

from __future__ import annotations

from ingest_pipeline.settings import Settings
from ingest_pipeline.sources.access import Access


def access_of(settings: Settings) -> Access:
    """Return how to reach the sources under these settings."""
    return Access(s3_endpoint=settings.s3_endpoint, spool_folder=settings.home / "spool")
