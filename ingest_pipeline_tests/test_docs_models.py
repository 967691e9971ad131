"""docs/models.md does not lie: its variables, commands, files and headings are there, its database recipe works."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ingest_pipeline.cli.main import _parser
from ingest_pipeline.extraction.spec import read_spec
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings, read_settings, variable
from ingest_pipeline.store import generations, vectors
from ingest_pipeline.store.connection import store
from ingest_pipeline.store.migrate import migrate, migrations
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import CARD, REPOSITORY
from ingest_pipeline_tests.pipeline import Pipeline

PAGE = (REPOSITORY / "docs" / "models.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`ingest ([a-z]+)[^`]*`")
SUBSTITUTED = re.compile(r"\$\((ingest [^)]*)\)")


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return [text for found, text in BLOCK.findall(PAGE) if found == language]


def commands() -> list[list[str]]:
    """The words of each `ingest …` in the shell blocks, without comments."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += SUBSTITUTED.findall("\n".join(lines))
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words[:1] == ["ingest"]]


def exported() -> Iterator[dict[str, str]]:
    """The variables that each shell block exports."""
    for block in blocks("sh"):
        words = [shlex.split(line, comments=True) for line in block.splitlines()]
        yield dict(word.split("=", 1) for line in words if line[:1] == ["export"] for word in line[1:])


def test_variables_exist() -> None:
    """Every variable of the page is a setting."""
    known = {variable(setting.name) for setting in fields(Settings)} | {"INGEST_HOME"}
    named = set(re.findall(r"\bINGEST_[A-Z_]+", PAGE))
    assert len(named) > 30
    assert named - known == set()


def test_values_are_accepted() -> None:
    """Every value that a recipe exports can be read as its setting."""
    recipes = list(exported())
    assert sum(map(len, recipes)) > 15
    for recipe in recipes:
        read_settings(recipe)


def test_commands_are_accepted() -> None:
    """Every `ingest` command of the page is one that the parser takes."""
    found = commands()
    assert {words[0] for words in found} >= {"run", "search", "embed", "models", "db"}
    for words in found:
        _parser().parse_args(words)
    for name in set(INLINE.findall(BLOCK.sub("", PAGE))):
        with pytest.raises(SystemExit) as end:
            _parser().parse_args([name, "--help"])
        assert end.value.code == 0, name


def test_specs_are_accepted(tmp_path: Path) -> None:
    """The YAML files of the page are what `INGEST_EXTRACT` may name."""
    specs = {}
    for text in blocks("yaml"):
        path = tmp_path / "extract.yaml"
        path.write_text(text)
        spec = read_spec(path)
        specs[spec.name] = spec
    assert {name: spec.provider for name, spec in specs.items()} == {"lesson": "gemini", "names": "openai"}
    assert specs["lesson"].takes("lessons/01/algebra.pdf") and not specs["lesson"].takes("notes.pdf")
    assert specs["names"].entities and specs["names"].sections.by == "chunk"


def test_choices_of_sections_are_accepted(tmp_path: Path) -> None:
    """Each row of the table of sections is a choice that a spec takes."""
    lesson = next(block for block in blocks("yaml") if "name: lesson" in block).replace("input: pdf ", "input: text ")
    choices = re.findall(r"^\| `(\{.*?\})` \|", PAGE, re.MULTILINE)
    assert len(choices) == 6
    for choice in choices:
        path = tmp_path / "extract.yaml"
        text = lesson.replace("sections: {level: 1}", f"sections: {choice}")
        path.write_text(text.replace("prompt: |\n", "prompt: |\n  {text}\n"))
        assert read_spec(path).sections


def test_each_recipe_says_what_it_was_not_tested_against() -> None:
    """A recipe with commands names its limits."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    recipes = [section for section in sections if "```sh" in section]
    assert len(recipes) == 9
    assert [section.splitlines()[0] for section in recipes if "Not tested against: " not in section] == []


def test_links_lead_somewhere() -> None:
    """Each link within the page and to other pages has its heading."""
    for page, anchor in re.findall(r"\]\(([\w./]*)#([\w-]+)\)", PAGE):
        text = (REPOSITORY / "docs" / page).read_text() if page else PAGE
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


@pytest.fixture
def hosted_url(server: EmbeddedServer) -> Iterator[str]:
    """A database of a hosted kind: its owner is no superuser, and somebody else has made the extension."""
    name = f"hosted_{uuid.uuid4().hex[:12]}"
    role, database = sql.Identifier(name), sql.Identifier(name)
    admin = make_conninfo(server.url, dbname="postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE").format(role))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
    with psycopg.connect(admin, dbname=name, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("CREATE EXTENSION vector SCHEMA extensions")
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA extensions TO {}").format(role))
    yield re.sub(r"//[^/]*/ingest\?", f"//{name}@/{name}?", server.url)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_hosted_database(hosted_url: str) -> None:
    """A role that is no superuser brings the schema up to date, and again, which changes nothing."""
    assert migrate(hosted_url) == [name for name, _ in migrations()]
    assert migrate(hosted_url) == []
    with store(hosted_url) as connection:
        [(superuser,)] = connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user").fetchall()
        assert not superuser
        assert connection.execute("SELECT count(*) FROM public.searchable_chunks").fetchall() == [(0,)]


def test_documents_in_a_hosted_database(hosted_url: str, settings: Settings, source: Path) -> None:
    """The stages work for that role, from the catalog to the index."""
    (source / "kettle.md").write_text("# Kettle\n\nThe kettle boils at a hundred degrees.\n")
    migrate(hosted_url)
    hosted = replace(settings, database_url=hosted_url)
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox, store(hosted_url) as connection:
        pipeline = Pipeline(connection, hosted, sandbox)
        assert pipeline.ingest() == (1, 1)
        vectors.ensure_index(connection, pipeline.model, CARD.dimension)
        vectors.vacuum(connection)
        assert generations.drop_unused_generations(connection) == 0
        [row] = connection.execute("SELECT path, vector_dims(embedding) FROM public.searchable_chunks").fetchall()
        assert row == ("kettle.md", CARD.dimension)
