"""Prepares DAGSTER_HOME and opens Dagster's instance, for commands that run without Dagster's services."""

from __future__ import annotations

import os
from pathlib import Path

from dagster import DagsterInstance

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings

CONFIG = "dagster.yaml"
PROJECT = Path(__file__).parents[2]


def prepare_dagster_home(settings: Settings) -> Path:
    """Return a DAGSTER_HOME under `INGEST_HOME` with a copy of this project's dagster.yaml; set the variable, too.

    A separate folder keeps Dagster's logs and local files out of the repository (docs/dagster.md, H5).

    Raises:
        ConfigurationError: no dagster.yaml in this folder, above it, or beside the package.
    """
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    text = find_config().read_text()
    target = home / CONFIG
    if not target.exists() or target.read_text() != text:
        # By a rename: another process may read the file at the same time.
        temporary = home / f".{CONFIG}.{os.getpid()}"
        temporary.write_text(text)
        temporary.replace(target)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def find_config(start: Path | None = None) -> Path:
    """Return the path of the dagster.yaml in effect: in this folder, in one above it, or in the project.

    Raises:
        ConfigurationError: there is none.
    """
    here = start or Path.cwd()
    # A dagster.yaml of another project is not ours: ours names classes of this package.
    for folder in [here, *here.parents, PROJECT]:
        if (folder / CONFIG).is_file() and "ingest_pipeline.instance" in (folder / CONFIG).read_text():
            return folder / CONFIG
    raise ConfigurationError(f"no {CONFIG} of ingest_pipeline in {here} or above: run inside the project's folder")


def open_instance(settings: Settings) -> DagsterInstance:
    """Return Dagster's instance, the same that the UI shows."""
    prepare_dagster_home(settings)
    return DagsterInstance.get()
