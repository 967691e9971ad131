"""Finds the spaCy model that the settings name, without importing spaCy: a run with no text to read loads nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.settings import Settings

VARIABLE = "INGEST_ENTITY_MODEL"
INSTALL = "pip install 'ingest-pipeline[entities]'"
FINDERS = ("ner", "entity_ruler")
"""The components of a model of which at least one must be there: they mark entities."""
LOADED = ("tok2vec", *FINDERS)
"""The components that the worker loads; all others would take a quarter of the time, and mark no entity."""


@dataclass(frozen=True, slots=True)
class EntityModel:
    """A spaCy model that is installed, as its meta.json describes it."""

    folder: Path
    """Of its data: config.cfg and one folder for each component."""
    key: str
    """Language, name and version; the store keeps entities under it."""
    language: str
    """ISO 639-1, or `xx` for a model of many languages."""
    unused: tuple[str, ...] = ()
    """Components that the worker does not load."""


def entity_model(settings: Settings) -> EntityModel | None:
    """Return the model that finds entities; None if the settings name none.

    Raises:
        BadSetting: spaCy or the model is not installed, or the model finds no entities.
    """
    name = settings.entity_model
    if not name:
        return None
    if find_spec("spacy") is None:
        raise BadSetting(VARIABLE, name, f"spaCy to be installed: {INSTALL}")
    folder = _data_folder(name)
    if folder is None:
        raise BadSetting(VARIABLE, name, f"an installed spaCy model or its folder; {INSTALL} and the model's package")
    meta = _read_meta(folder, name)
    components = [str(component) for component in meta.get("components") or meta.get("pipeline") or ()]
    if not set(FINDERS) & set(components):
        raise BadSetting(VARIABLE, name, f"a spaCy model with the component {' or '.join(FINDERS)}")
    return EntityModel(
        folder,
        key=f"{meta['lang']}_{meta['name']}-{meta['version']}",
        language=str(meta["lang"]),
        unused=tuple(component for component in components if component not in LOADED),
    )


def _data_folder(name: str) -> Path | None:
    """Return the folder of a model's data; None if there is no such model."""
    folder = Path(name)
    if not folder.is_dir():
        package = name.replace("-", "_")  # a package is installed by `en-core-web-sm` and imported as `en_core_web_sm`
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.origin:
            return None
        folder = Path(spec.origin).parent
    found = next((path.parent for path in sorted(folder.glob("*/config.cfg"))), folder)
    return found if (found / "config.cfg").is_file() else None


def _read_meta(folder: Path, name: str) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_bytes())
        return meta | {key: str(meta[key]) for key in ("lang", "name", "version")}
    except (OSError, ValueError, KeyError, TypeError):
        raise BadSetting(VARIABLE, name, f"a spaCy model with a readable {folder / 'meta.json'}") from None
