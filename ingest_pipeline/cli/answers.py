"""Commands that ask: `search`, `embed`, `models`, `extract`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import FAILED, OK
from ingest_pipeline.cli.command import Commands, Parser, add_command, ledger_name, positive_count
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.cli.scope import add_scope, scope_of
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.search_models import SearchQuery
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    command = add_command(commands, "search", search, "the passages that match a query, with pages")
    command.add_argument("query", type=ledger_name, help="words or a sentence")
    command.add_argument("--top", type=positive_count, default=5, metavar="N")
    add_scope(command)
    command.add_argument(
        "--context", type=positive_count, default=0, metavar="N", help="also print N chunks before and after each hit"
    )
    command.add_argument("--model", metavar="NAME", help="a model of `ingest models`; default INGEST_MODEL")
    command = add_command(commands, "embed", embed, "make vectors on demand: of texts, of a file, of all that wait")
    command.add_argument("texts", nargs="*", metavar="TEXT")
    command.add_argument("--file", metavar="PATH", help="the chunks of this file")
    command.add_argument("--waiting", action="store_true", help="all chunks that have no vector yet")
    command.add_argument(
        "--query", action="store_true", help="the texts are queries, for models that make a difference"
    )
    command = add_command(commands, "models", models, "the models that have vectors, with counts; or drop one")
    command.add_argument("--drop", metavar="NAME", help="delete the vectors and the index of a model")
    command.add_argument("--dry-run", action="store_true", help="with --drop: only say what would go")
    command = add_command(commands, "extract", extract, "ask an LLM about the sections of one document")
    command.add_argument("path", metavar="PATH", help="of a file of a source, with or without its source")
    command.add_argument("--prompt", metavar="FILE", help="a YAML file as for INGEST_EXTRACT, which is the default")


def search(options: argparse.Namespace, settings: Settings) -> int:
    """Print the passages that match a query."""
    from ingest_pipeline.cli import tables
    from ingest_pipeline.stages.answer_rows import coverage_keys, hit_row
    from ingest_pipeline.stages.search import search as search_store

    with opened_store(settings) as connection:
        query = SearchQuery(options.query, options.top, scope_of(options), options.context)
        answer = search_store(connection, query, settings=settings, model=options.model)
    if not options.json:
        tables.print_answer(answer)
        return OK
    rows.print_rows(hit_row(hit) | coverage_keys(answer) for hit in answer.hits)
    if not answer.hits:  # a line is a hit: what was searched in vain goes elsewhere
        print(f"ingest: nothing found; {answer.coverage.sentence}", file=sys.stderr)
    return OK


def embed(options: argparse.Namespace, settings: Settings) -> int:
    """Print the vectors of texts, or make those of chunks."""
    from ingest_pipeline.cli import tables
    from ingest_pipeline.stages import on_demand

    if sum(map(bool, (options.texts, options.file, options.waiting))) != 1:
        raise ConfigurationError("`ingest embed` takes texts, or --file, or --waiting")
    with opened_store(settings) as connection:
        if options.texts:
            embedded = on_demand.embed_texts(connection, options.texts, settings=settings, queries=options.query)
            rows.print_rows(map(rows.embedded_row, embedded)) if options.json else tables.print_embedded(embedded)
            return OK
        on_demand.request_vectors(connection, settings=settings, path=options.file)
        made, rejected = on_demand.embed_waiting(connection, settings=settings)
    row = {"embedded": made, "rejected": rejected}
    rows.print_rows([row]) if options.json else print(f"{counted(made, 'text')} embedded, {rejected:,} rejected")
    return OK


def models(options: argparse.Namespace, settings: Settings) -> int:
    """Print the models of the store, or drop one."""
    from ingest_pipeline.cli import tables
    from ingest_pipeline.stages.model_list import drop_model, models_with_default

    with opened_store(settings) as connection:
        if options.drop:
            dropped = drop_model(connection, options.drop, settings=settings, dry_run=options.dry_run)
            row = {"model": options.drop, "vectors_dropped": dropped, "dry_run": options.dry_run}
            would = "would be dropped" if options.dry_run else "dropped"
            rows.print_rows([row]) if options.json else print(f"{options.drop}: {counted(dropped, 'vector')} {would}")
            return OK
        listed = models_with_default(connection, settings=settings)
    rows.print_rows(map(rows.model_row, listed)) if options.json else tables.print_models(listed)
    return OK


def extract(options: argparse.Namespace, settings: Settings) -> int:
    """Ask an LLM about the sections of one document; print each answer as a JSON line."""
    from ingest_pipeline.stages.one_document import extract_document

    if options.prompt:
        settings = replace(settings, extract=options.prompt)
    with opened_store(settings) as connection:
        failed = False
        for row in extract_document(connection, options.path, settings=settings):
            failed = failed or row["status"] == "failed"
            rows.print_rows([row])
    return FAILED if failed else OK
