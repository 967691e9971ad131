"""The tools of agents: what each takes, and what it answers. They read only, and nothing here knows the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ingest_pipeline.service.mcp_text import STRUCTURED_NOTICE, Marked, visible
from ingest_pipeline.service.parameters import MOST_CHARACTERS as MOST_OF_QUERY
from ingest_pipeline.service.parameters import BadParameter, query_of
from ingest_pipeline.service.state import Service
from ingest_pipeline.stages import reading
from ingest_pipeline.stages.answer_rows import answer_row
from ingest_pipeline.stages.search import search
from ingest_pipeline.store.reports import status_counts

Row = dict[str, Any]
MOST_HITS = 20
FILE = {"type": ["integer", "string"], "description": "its id, or its path with or without its source"}
PAGE = {"type": "integer", "minimum": 1, "maximum": reading.LAST_PAGE}
PLACE = {"type": "integer", "minimum": -1, "maximum": reading.LAST_PAGE}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answers: the same for programs and for models."""

    structured: Row
    text: str


@dataclass(frozen=True, slots=True)
class AgentTool:
    """A tool."""

    name: str
    title: str
    description: str
    takes: Row
    """JSON Schema of its arguments."""
    gives: Row
    """JSON Schema of what it answers."""
    call: Callable[[Service, Row], Answer]


def _arguments(properties: Row, *required: str) -> Row:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _answers(**properties: str | list[str]) -> Row:
    kinds = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "properties": kinds, "required": list(kinds)}


def _search(service: Service, arguments: Row) -> Answer:
    given = {name: str(value) for name, value in arguments.items() if name != "query"}
    query = query_of({"q": arguments["query"], "top": "5"} | given)
    if not query.text:
        raise BadParameter("query: some words")
    with service.pool.connection() as connection:
        row = answer_row(search(connection, query, settings=service.settings, models=service.models))
    return Answer(row | {"notice": STRUCTURED_NOTICE}, _search_text(row))


def _search_text(row: Row) -> str:
    marked = Marked()
    marked.say(f"{len(row['hits'])} passages. Coverage:")
    marked.quote([("coverage", row["coverage"]["sentence"])])
    for note in row["notes"]:
        marked.say(f"note: {note}")
    for number, hit in enumerate(row["hits"], start=1):
        first, last = hit["pages"]
        marked.say(f"\n{number}. file {hit['file_id']}, pages {first} to {last}, score {hit['score']:.4f}")
        names = [(name, hit[name]) for name in ("source", "path", "title", "section")]
        marked.quote(names, "\n".join([*hit["before"], hit["text"], *hit["after"]]))
    return marked.text()


def _file(service: Service, arguments: Row) -> Answer:
    with service.pool.connection() as connection:
        file_id = reading.file_id_of(connection, arguments["file"])
        row = reading.file_summary(connection, file_id, sections_after=arguments.get("sections_after", -1))
    marked = Marked()
    marked.say(
        f"file {file_id}: {row['status']}, {row['pages']:,} pages, {row['chunks']:,} chunks, "
        f"{len(row['gaps']):,} gaps, {row['section_count']:,} sections"
    )
    marked.quote([(name, row[name]) for name in ("source", "path", "title", "media_type", "error", "message")])
    if row["gaps"]:
        marked.say("pages that no parser could read:")
        marked.quote([("gaps", row["gaps"])])
    if row["sections"]:
        marked.say("sections, as [number, title, first page, last page]:")
        marked.quote((str(one["ordinal"]), [one["title"], one["page_from"], one["page_to"]]) for one in row["sections"])
    if row["more_sections_after"] is not None:
        marked.say(f"more sections: ask with sections_after={row['more_sections_after']}")
    return Answer(row | {"notice": STRUCTURED_NOTICE}, marked.text())


def _section(service: Service, arguments: Row) -> Answer:
    with service.pool.connection() as connection:
        file_id = reading.file_id_of(connection, arguments["file"])
        pages = arguments.get("page_from", 1), arguments.get("page_to", reading.LAST_PAGE)
        if "section" in arguments:
            pages = reading.pages_of_section(connection, file_id, arguments["section"])
        after, most = arguments.get("after", -1), arguments.get("characters", reading.MOST_CHARACTERS)
        row = reading.text_of_pages(connection, file_id, pages, after=after, most=most)
    marked = Marked()
    where = f"pages {row['pages'][0]} to {row['pages'][1]}" if row["pages"] else "no text on these pages"
    marked.say(f"file {file_id}, {where}")
    marked.quote([], row["text"])
    if row["more_after"] is not None:
        marked.say(f"the text goes on: ask again with after={row['more_after']}")
    return Answer(row | {"notice": STRUCTURED_NOTICE}, marked.text())


def _status(service: Service, arguments: Row) -> Answer:
    with service.pool.connection() as connection:
        counts = status_counts(connection)
    row = counts | {"model": service.settings.model}
    lines = [f"{name}: {value}" for name, value in row.items()]
    return Answer(row, "\n".join(lines))


TOOLS = (
    AgentTool(
        "search", "Search the documents",
        "Find passages that answer a question, by meaning and by words, best first, with file, page and section. The "
        "coverage says what was not searched: files that failed, wait, or have unreadable pages.",
        _arguments(
            {
                "query": {"type": "string", "minLength": 1, "maxLength": MOST_OF_QUERY},
                "top": {"type": "integer", "minimum": 1, "maximum": MOST_HITS, "description": "hits; 5 if not given"},
                "context": {"type": "integer", "minimum": 0, "maximum": 5, "description": "neighbours of each hit"},
                "source": {"type": "string"},
                "path": {"type": "string", "description": "the beginning of a path, or a pattern with * and ?"},
                "media_type": {"type": "string", "description": "application/pdf, or text/*"},
                "page_from": PAGE,
                "page_to": PAGE,
                "section": {"type": "string", "description": "words of a section's title"},
                "since": {"type": "string", "description": "a date or time: files of then or later"},
                "until": {"type": "string", "description": "a date or time: files of before"},
                "batch": {"type": "string"},
                "entity": {"type": "string", "description": "a name that stands in the passage"},
            },
            "query",
        ),
        _answers(hits="array", coverage="object", models="array", notes="array", notice="string"),
        _search,
    ),
    AgentTool(
        "file", "Describe a file",
        "What became of one file: status and why, pages that could not be read, its sections with their pages.",
        _arguments({"file": FILE, "sections_after": PLACE}, "file"),
        _answers(
            file_id="integer", source="string", path="string", status="string", gaps="array", sections="array",
            section_count="integer", more_sections_after=["integer", "null"], notice="string",
        ),
        _file,
    ),
    AgentTool(
        "section", "Read a file's text",
        "The text of a section, by its number in `file`, or of a range of pages, in pieces: `more_after` says how to "
        "ask for the next one.",
        _arguments(
            {
                "file": FILE,
                "section": {"type": "integer", "minimum": 0, "maximum": reading.LAST_PAGE},
                "page_from": PAGE,
                "page_to": PAGE,
                "after": PLACE,
                "characters": {"type": "integer", "minimum": 200, "maximum": reading.MOST_CHARACTERS},
            },
            "file",
        ),
        _answers(file_id="integer", pages="array", text="string", more_after=["integer", "null"], notice="string"),
        _section,
    ),
    AgentTool(
        "status", "Count what there is",
        "How many files, chunks and vectors there are, by status: whether everything has been processed.",
        _arguments({}),
        {"type": "object"},
        _status,
    ),
)  # fmt: skip


def called(service: Service, name: str, arguments: Mapping[str, Any]) -> Answer:
    """Return what a tool answers.

    Args:
        service: its state.
        name: of the tool.
        arguments: as the agent gave them.

    Raises:
        BadParameter: there is no such tool, or it does not take these arguments.
        IngestError: the tool cannot answer.
    """
    import jsonschema

    tool = next((tool for tool in TOOLS if tool.name == name), None)
    if tool is None:
        raise BadParameter(f"there is no such tool; there are {', '.join(tool.name for tool in TOOLS)}")
    error = jsonschema.Draft202012Validator(tool.takes).iter_errors(dict(arguments))
    if (first := next(iter(error), None)) is not None:
        raise BadParameter(f"{'.'.join(map(str, first.path)) or name}: {first.message[:200]}")
    if any("\x00" in value for value in arguments.values() if isinstance(value, str)):
        raise BadParameter("an argument must not contain a NUL character")
    answer = tool.call(service, dict(arguments))
    return Answer(visible(answer.structured), answer.text)
