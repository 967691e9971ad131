"""Settings under which no check downloads a model."""

from __future__ import annotations

from dataclasses import replace

from ingest_pipeline.embedding.model import PACKAGED, folder_on_disk
from ingest_pipeline.engines import LOCAL
from ingest_pipeline.settings import Settings


def with_model_on_disk(settings: Settings) -> Settings:
    """Return the settings with the model's folder for its name; with the packaged model where it is not here."""
    if settings.embedder != LOCAL or settings.model == PACKAGED:
        return settings
    folder = folder_on_disk(settings.model)
    return replace(settings, model=str(folder) if folder else PACKAGED)
