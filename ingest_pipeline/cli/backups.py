"""The commands `backup` and `restore`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import FAILED, OK
from ingest_pipeline.cli.command import Commands, Parser, add_command
from ingest_pipeline.errors import BadSetting, ConfigurationError
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted

if TYPE_CHECKING:
    from ingest_pipeline.stages.backup import BackupReport
    from ingest_pipeline.stages.documents import CopiedDocuments
    from ingest_pipeline.stages.restore import RestoreReport

SHOWN_TABLES = ("ingest.files", "ingest.generations", "ingest.chunks", "ingest.embeddings", "ingest.entities",
                "ingest.extract_answers", "dagster.runs", "dagster.event_logs")  # fmt: skip


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    command = add_command(commands, "backup", backup, "write the database, and the documents if asked, into one file")
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument("--with-documents", action="store_true", help="also the files of the sources")
    command.add_argument("--dry-run", action="store_true", help="say what would be written; write nothing")
    command = add_command(commands, "restore", restore, "read a backup into an empty database")
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument(
        "--to", metavar="URL", help="postgresql://user@host:5432/database; default: the database of the settings"
    )
    command.add_argument("--with-documents", action="store_true", help="also its documents, into their sources")
    command.add_argument(
        "--documents-to", metavar="PLACE", help="a folder or s3://bucket/prefix; each source becomes a folder in it"
    )
    command.add_argument(
        "--source", metavar="OLD=NEW", action="append", default=[], help="a source has another name on this machine"
    )
    command.add_argument("--dry-run", action="store_true", help="check the file and the database; change nothing")


def backup(options: argparse.Namespace, settings: Settings) -> int:
    """Write a backup; print what it holds."""
    from ingest_pipeline.stages.backup import preview_backup, write_backup

    work = preview_backup if options.dry_run else write_backup
    report = work(settings, options.file, with_documents=options.with_documents)
    rows.print_rows([asdict(report)]) if options.json else _print_backup(report)
    return OK


def restore(options: argparse.Namespace, settings: Settings) -> int:
    """Restore a backup; print what was restored."""
    from ingest_pipeline.stages.restore import RestoreRequest, restore_backup

    if options.to and not options.to.startswith(("postgresql://", "postgres://")):
        raise BadSetting("--to", "…", "postgresql://user@host:5432/database")
    request = RestoreRequest(
        path=options.file, to=options.to, with_documents=options.with_documents or bool(options.documents_to),
        documents_to=options.documents_to, sources=dict(map(_renaming, options.source)),
    )  # fmt: skip
    report = restore_backup(settings, request, dry_run=options.dry_run)
    rows.print_rows([asdict(report)]) if options.json else _print_restore(report, to=options.to is not None)
    return FAILED if report.restored and report.documents and report.documents.left_out else OK


def _renaming(text: str) -> tuple[str, str]:
    before, separator, name = text.partition("=")
    if not separator or not before or not name:
        raise ConfigurationError(f"--source {text}: expected OLD=NEW, the name in the backup and the one here")
    return before, name


def _print_backup(report: BackupReport) -> None:
    from ingest_pipeline.cli.text import clock, printable, size

    if report.written:
        print(f"wrote {printable(report.file)}: {size(report.size_bytes)} in {clock(report.seconds)}")
    else:
        print(f"would write {printable(report.file)}: at most {size(report.size_bytes)} before compression")
    _print_counts(report.counts)
    if report.documents:
        _print_documents(report.documents)
    for source in report.left_out_sources:
        print(f"  not copied: {printable(source)} (a list of URLs)")


def _print_restore(report: RestoreReport, *, to: bool) -> None:
    from ingest_pipeline.cli.text import clock, printable

    print(f"{printable(report.file)} is whole{'' if report.restored else f'; it would go into {report.database}'}")
    if report.restored:
        print(
            f"restored into {report.database} in {clock(report.seconds)}: data {clock(report.data_seconds)}, "
            f"indexes {clock(report.index_seconds)}"
        )
    _print_counts(report.counts)
    if report.documents:
        _print_documents(report.documents)
    for before, name in report.sources.items():
        print(f"  source {printable(before)} is now {printable(name)}")
    if report.migrations:
        print(f"  migrations: {', '.join(report.migrations)}")
    if report.waiting_batches:
        batches = counted(report.waiting_batches, "batch")
        print(f"  {batches} at work when the backup was made: the next `ingest run` goes on with the files")
    if report.restored and to:
        print("set INGEST_DATABASE_URL to this database, so that `ingest` works with it")


def _print_counts(counts: dict[str, int]) -> None:
    for table in SHOWN_TABLES:
        if table in counts:
            print(f"  {counts[table]:>12,} rows of {table}")
    others = [table for table in counts if table not in SHOWN_TABLES]
    print(f"  {sum(counts[table] for table in others):>12,} rows of {len(others)} other tables")


def _print_documents(documents: CopiedDocuments) -> None:
    from ingest_pipeline.cli.text import size

    print(f"  {documents.files:>12,} documents, {size(documents.size_bytes)}")
    if documents.unchanged:
        print(f"  {documents.unchanged:>12,} documents were there already")
    for reason, count in documents.left_out.items():
        print(f"  {count:>12,} documents not copied: {reason}")
