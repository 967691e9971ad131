"""The house is as its map says, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import ingest_pipeline
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.settings import Settings, info_of, variable
from ingest_pipeline_tests import settings_page
from ingest_pipeline_tests.conftest import REPOSITORY

PACKAGE = Path(ingest_pipeline.__file__).parent
HEAVY = ("torch", "spacy", "sentence_transformers", "transformers", "pypdf", "pypdfium2", "lxml", "tokenizers")


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_settings_page() -> None:
    """docs/settings.md is the table of settings: `python -m ingest_pipeline_tests.settings_page` writes it anew."""
    assert settings_page.PATH.read_text() == settings_page.page()


def test_resource_fields() -> None:
    """The resource has a field for each setting of a run, and none for what Dagster's instance needs."""
    of_runs = {setting.name: setting for setting in fields(Settings) if not info_of(setting).of_instance}
    assert list(IngestResource.model_fields) == list(of_runs)
    for name, field in IngestResource.model_fields.items():
        assert str(field.description).startswith(f"{variable(name)}: {info_of(of_runs[name]).help}")


def test_every_room_is_on_the_map() -> None:
    """Anyone can name the file of any line from the list in `__init__.py`."""
    rooms = {path.name + "/" * path.is_dir() for path in PACKAGE.iterdir() if path.name[0] not in "_."}
    documented = ingest_pipeline.__doc__ or ""
    assert [room for room in sorted(rooms - {"samples/"}) if f"| `{room}`" not in documented] == []


def test_the_map_itself_imports_nothing() -> None:
    """The daemon imports two modules of `defs`: the packages above them must cost nothing."""
    for package in ("ingest_pipeline", "ingest_pipeline.defs", "ingest_pipeline.store", "ingest_pipeline.parsing"):
        assert "psycopg" not in imported_by(f"import {package}")
        assert "dagster" not in imported_by(f"import {package}")


@pytest.mark.parametrize(
    "module", ["ingest_pipeline.definitions", "ingest_pipeline.cli.main", "ingest_pipeline.cli.tables"]
)
def test_loading_imports_nothing_heavy(module: str) -> None:
    """Loading the definitions or the command imports no parser and no model: torch alone is 380 MB."""
    assert imported_by(f"import {module}") & set(HEAVY) == set()


def test_no_entities_no_workers() -> None:
    """Definitions and stages load nothing that only workers of entities need."""
    code = "import sys, ingest_pipeline.definitions\nprint(*(name for name in sys.modules if 'entities' in name))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if name.startswith("ingest_pipeline.")} == {
        "ingest_pipeline.entities", "ingest_pipeline.entities.model", "ingest_pipeline.store.entities",
    }  # fmt: skip


def test_the_daemon_loads_no_definitions() -> None:
    """Launcher and coordinator, which daemon and webserver import, bring no definitions."""
    modules = imported_by("import ingest_pipeline.instance.launcher, ingest_pipeline.instance.coordinator")
    assert modules & {"upath", *HEAVY} == set()


def test_the_parsers_child_is_small() -> None:
    """The process that reads hostile files holds neither Dagster nor a database library."""
    assert (
        imported_by("import ingest_pipeline.parsing.sandbox.child") & {"dagster", "psycopg", "numpy", *HEAVY} == set()
    )


def test_private_dagster_in_one_module() -> None:
    """Dagster's private modules are imported by `instance/dagster_private.py` alone."""
    private = re.compile(r"^\s*(?:from|import) dagster(?:_postgres)?\._", re.MULTILINE)
    importers = [path.name for path in PACKAGE.rglob("*.py") if private.search(path.read_text())]
    assert importers == ["dagster_private.py"]


def test_no_reference_to_what_is_not_here() -> None:
    """Code and documentation cite only what a clone holds."""
    files = [*PACKAGE.rglob("*.py"), *(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "README.md"]
    outside = re.compile(r"FINDINGS|DAGSTER\.md|DESIGN|REVIEW\.md|\.\./shared/[A-Z]")
    assert [path.name for path in files if outside.search(path.read_text())] == []


def test_cited_pages_exist() -> None:
    """A comment that cites a page of the documentation cites one that is there."""
    cited = {name for path in PACKAGE.rglob("*.py") for name in re.findall(r"docs/([\w/]+\.md)", path.read_text())}
    assert cited
    assert [name for name in sorted(cited) if not (REPOSITORY / "docs" / name).is_file()] == []


def test_local_paths_stay_in_one_module() -> None:
    """Buckets have no `os.path`: only `sources/folder.py` may think in local paths."""
    offenders = [path.name for path in PACKAGE.rglob("*.py") if "os.path" in path.read_text()]
    assert offenders == ["folder.py"]


def test_the_changelog_names_the_version() -> None:
    """What is installed is what the changelog speaks of."""
    from importlib.metadata import version

    assert f"## {version('ingest-pipeline')}" in (REPOSITORY / "CHANGELOG.md").read_text()
