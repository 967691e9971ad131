"""Dagster's instance for whoever runs without its services: found, prepared, opened."""

from __future__ import annotations

import os
from pathlib import Path

from dagster import DagsterInstance

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings

CONFIG = "dagster.yaml"
PROJECT = Path(__file__).parents[2]


def prepare_dagster_home(settings: Settings) -> Path:
    """Return a DAGSTER_HOME under `INGEST_HOME` with this project's dagster.yaml in it, and point at it.

    A home of its own, so that Dagster's logs and local files stay out of the repository.

    Raises:
        ConfigurationError: no dagster.yaml in this folder, above it, or beside the package.
    """
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    text = find_config().read_text()
    target = home / CONFIG
    if not target.exists() or target.read_text() != text:
        temporary = home / f".{CONFIG}.{os.getpid()}"
        temporary.write_text(text)
        temporary.replace(target)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def find_config(start: Path | None = None) -> Path:
    """Return the dagster.yaml that is in effect: of this folder, of one above it, or of the project.

    Raises:
        ConfigurationError: there is none.
    """
    here = start or Path.cwd()
    for folder in [here, *here.parents, PROJECT]:
        if (folder / CONFIG).is_file() and "ingest_pipeline.instance" in (folder / CONFIG).read_text():
            return folder / CONFIG
    raise ConfigurationError(f"no {CONFIG} of ingest_pipeline in {here} or above: run inside the project's folder")


def open_instance(settings: Settings) -> DagsterInstance:
    """Return the instance that the UI shows too."""
    prepare_dagster_home(settings)
    return DagsterInstance.get()
