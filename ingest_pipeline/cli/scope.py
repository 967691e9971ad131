"""The options that say where a search looks."""

from __future__ import annotations

import argparse
from datetime import datetime

from ingest_pipeline.cli.command import Parser, positive_count
from ingest_pipeline.search_models import SearchScope, moment_of

OPTIONS = (
    ("--source", "NAME", "only in this source, as `ingest files` shows it"),
    ("--path", "PATTERN", "only in paths that begin so; with * or ? a pattern for the whole path"),
    ("--type", "TYPE", "only in files of this media type; text/* is every kind of text"),
    ("--section", "WORDS", "only in sections whose title, or that of one above, contains these words"),
    ("--batch", "NAME", "only in files of this batch (partition)"),
    ("--entity", "NAME", "only passages in which this name was found"),
)


def add_scope(command: Parser) -> None:
    """Add the options to a command."""
    for option, metavar, text in OPTIONS:
        command.add_argument(option, metavar=metavar, help=text)
    command.add_argument("--pages", type=page_range, metavar="FROM-TO", help="only on these pages: 7, 3-9, 12-")
    command.add_argument("--since", type=moment, metavar="DATE", help="only in files indexed at this date or later")
    command.add_argument("--until", type=moment, metavar="DATE", help="only in files indexed before this date")


def scope_of(options: argparse.Namespace) -> SearchScope:
    """Return where the options say to look."""
    page_from, page_to = options.pages or (None, None)
    return SearchScope(
        source=options.source,
        path=options.path,
        media_type=options.type,
        page_from=page_from,
        page_to=page_to,
        section=options.section,
        since=options.since,
        until=options.until,
        batch=options.batch,
        entity=options.entity,
    )


def page_range(text: str) -> tuple[int, int | None]:
    """Return the first and the last page of a range; None: to the end.

    Raises:
        ArgumentTypeError: it is no range.
    """
    first, dash, last = text.partition("-")
    page_from = positive_count(first)
    page_to = positive_count(last) if last else None if dash else page_from
    if page_to is not None and page_to < page_from:
        raise argparse.ArgumentTypeError(f"{text!r}: the last page is before the first")
    return page_from, page_to


def moment(text: str) -> datetime:
    """Return a date or a time of ISO 8601; without a zone it is in UTC.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        return moment_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a date such as 2026-11-29") from None
