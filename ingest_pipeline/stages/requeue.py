"""Files that readers see already, and of which sections were not asked about or texts not read for entities."""

from __future__ import annotations

from ingest_pipeline.entities.model import entity_model
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import files
from ingest_pipeline.store.connection import Connection


def requeue_unfinished(connection: Connection, settings: Settings, *, given_up: bool = False) -> int:
    """Put back in line the files that extracts or entities have not come to an end with; return how many.

    A run's time may have been over, or what is asked has changed. Nothing is parsed or embedded again.

    Args:
        connection: to the store.
        settings: what is asked, and the model of entities.
        given_up: also files of batches that were given up; a new catalog is a new beginning.

    Raises:
        BadSetting: what is asked, or the entity model, cannot be used.
    """
    requeued = 0
    if settings.extract:
        from ingest_pipeline.stages.extract_plan import requeue_for_extracts

        requeued += requeue_for_extracts(connection, settings, given_up=given_up)
    if model := entity_model(settings):
        requeued += files.requeue_without_entities(connection, model.key, given_up=given_up)
    return requeued
