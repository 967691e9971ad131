"""The documentation holds together: its links lead somewhere, and its table of commands is that of the program."""

from __future__ import annotations

import argparse
import re
from functools import cache
from pathlib import Path

import pytest

from ingest_pipeline.cli.main import _parser
from ingest_pipeline_tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCED = re.compile(r"^(```).*?^\1", re.MULTILINE | re.DOTALL)
OF_ALL = {"--help", "--json"}
"""The table names these once, below it."""


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCED.sub("", page.read_text())


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def options_of_commands() -> dict[str, set[str]]:
    """The long options of each command of the parser."""
    [commands] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: {*command._option_string_actions} - OF_ALL - {"-h"} for name, command in commands.choices.items()}


def table_of_commands() -> str:
    """The table of docs/operations.md."""
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    return page.split("## Commands and exit codes")[1].split("\n\n")[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file that is there, and an anchor a heading of it."""
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_table_has_each_command() -> None:
    """docs/operations.md has each command with all of its options, and none that does not exist."""
    table, known = table_of_commands(), options_of_commands()
    rows = re.findall(r"^\| (`ingest ([a-z]+)\b.*)$", table, re.MULTILINE)
    assert len(rows) == table.count("\n") - 1
    described: dict[str, set[str]] = {}
    for row, name in rows:
        described.setdefault(name, set()).update(re.findall(r"--[a-z][a-z-]+", row))
    assert described == known


def test_readme_names_each_command() -> None:
    """README.md's table names each command once, and none that does not exist."""
    table = (REPOSITORY / "README.md").read_text().split("| command |")[1].split("\n\n")[0]
    named = re.findall(r"`ingest ([a-z]+)", table)
    assert sorted(named) == sorted(options_of_commands())
