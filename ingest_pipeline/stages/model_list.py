"""The models that have vectors: listed, and dropped when readers see nothing under them any more."""

from __future__ import annotations

from dataclasses import dataclass

from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.models import StoredModel
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted
from ingest_pipeline.store import batches, embedding_models
from ingest_pipeline.store.connection import Connection


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of the store, and whether it is the one of the present settings."""

    model: StoredModel
    is_default: bool


def models_with_default(connection: Connection, *, settings: Settings) -> list[ListedModel]:
    """Return every model of the store.

    Raises:
        BadSetting: the model of the settings cannot be used.
    """
    default = embedding_models.known_model_id(connection, card_of(settings))
    return [ListedModel(one, one.model_id == default) for one in embedding_models.list_models(connection)]


def drop_model(connection: Connection, name: str, *, settings: Settings, dry_run: bool = False) -> int:
    """Delete a model with its vectors and its index; return how many vectors went, or would go.

    Raises:
        ConfigurationError: there is no such model, or readers need it.
    """
    number, _ = embedding_models.model_named(connection, name)
    [listed] = [one for one in models_with_default(connection, settings=settings) if one.model.model_id == number]
    if batches.list_batches(connection, status="running"):
        raise ConfigurationError("a run is at work; drop the model when it has ended")
    if listed.is_default:
        raise ConfigurationError(f"{name} is the model of the settings (INGEST_MODEL); set another one first")
    if listed.model.files:
        raise ConfigurationError(
            f"readers see {counted(listed.model.files, 'file')} under {name} only; "
            "`ingest run` with the other model first"
        )
    return listed.model.vectors if dry_run else embedding_models.drop_model(connection, listed.model.model_id)
