"""Jobs that keep the database in order, beside the assets: each is an op that calls the function of a command."""

from pathlib import Path

import dagster as dg

from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.instance.names import BACKUP_JOB
from ingest_pipeline.stages.backup import write_backup


@dg.op(
    config_schema={
        "path": dg.Field(str, description="The file to write; there must be none of this name."),
        "with_documents": dg.Field(bool, default_value=False, description="Also the files of the sources."),
    },
    description="Writes the database, and the documents if asked, into one file: `ingest backup`.",
)
def backup_database(context: dg.OpExecutionContext, ingest: IngestResource) -> None:
    """Write a backup; its size and counts are the metadata of the output."""
    config = context.op_config
    report = write_backup(ingest.settings(), Path(config["path"]), with_documents=config["with_documents"])
    context.add_output_metadata(
        {
            "file": report.file,
            "size_bytes": report.size_bytes,
            "seconds": round(report.seconds, 2),
            "documents": report.documents.files if report.documents else 0,
            "rows": dg.MetadataValue.json(report.counts),
        }
    )


@dg.job(name=BACKUP_JOB, description="Back up the ledger, chunks, vectors and Dagster's history into one file.")
def backup_job() -> None:
    """One op."""
    backup_database()
