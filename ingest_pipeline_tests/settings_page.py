"""docs/settings.md, made from the table of settings: `python -m ingest_pipeline_tests.settings_page`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any

from ingest_pipeline.settings import Settings, info_of, variable
from ingest_pipeline_tests.conftest import REPOSITORY

PATH = REPOSITORY / "docs" / "settings.md"
HEAD = """# Settings

Environment variables; an empty one means the default. A value that cannot be used is one line that names the variable.
Sizes are written `512MiB`, `1.5GiB`, `50MB` or in bytes.

Settings of a run are also fields of the `ingest` resource (in the Dagster UI: a run's launchpad, or your own
`Definitions`); a field that is set wins over its variable. What Dagster's instance needs (launcher, queue, storage,
schedule) comes from the environment alone and is no field. This page is made from the table in `settings.py`.
"""


def page() -> str:
    """Return the text of the page."""
    of_run = [setting for setting in fields(Settings) if not info_of(setting).of_instance]
    of_instance = [setting for setting in fields(Settings) if info_of(setting).of_instance]
    parts = [HEAD, "## Of a run: variable or field", *_table(of_run)]
    parts += ["\n## Of the instance: variable only", *_table(of_instance)]
    return "\n".join(parts) + "\n"


def _table(settings: list[Field[Any]]) -> Iterator[str]:
    yield "\n| variable | value | default | what it is |\n|---|---|---|---|"
    for setting in settings:
        info = info_of(setting)
        default = info.default_text or f"`{info.write(setting.default)}`"
        yield f"| `{variable(setting.name)}` | {info.expected} | {default} | {info.help} |"


if __name__ == "__main__":
    PATH.write_text(page())
