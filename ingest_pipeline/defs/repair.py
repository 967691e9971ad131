"""Jobs that repair, for the UI's launchpad: the same functions as `ingest cleanup` and `ingest reset`.

There is none that forgets a file: the configuration of its run would keep the name.
"""

import dagster as dg

from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.instance import maintenance
from ingest_pipeline.store.reset import ResetSelection


class CleanupConfig(dg.Config):
    """What a cleanup does."""

    auto_fix: bool = False


class ResetConfig(dg.Config):
    """What is reset; as the options of `ingest reset`."""

    failed: bool = False
    stuck: bool = False
    reason: str | None = None
    paths: list[str] = []  # noqa: RUF012, a field of pydantic


@dg.op
def clean_up(context: dg.OpExecutionContext, config: CleanupConfig, ingest: IngestResource) -> None:
    """Find what is damaged or left over; with auto_fix, repair it."""
    with ingest.store() as connection:
        work = maintenance.repair_damage if config.auto_fix else maintenance.find_damage
        kinds = work(context.instance, connection, ingest.settings())
    context.add_output_metadata({kind.kind: kind.count for kind in kinds} | {"repaired": config.auto_fix})


@dg.op
def reset_files(context: dg.OpExecutionContext, config: ResetConfig, ingest: IngestResource) -> None:
    """Try files again that failed, are stuck, or have gaps."""
    selection = ResetSelection(config.failed, config.stuck, config.reason, config.paths)
    with ingest.store() as connection:
        selected = maintenance.reset(context.instance, connection, selection)
    context.add_output_metadata({"files": len(selected)})


@dg.job(name="ingest_cleanup", description="What is damaged or left over; with auto_fix, repaired.")
def cleanup_job() -> None:
    """Clean up."""
    clean_up()


@dg.job(name="ingest_reset", description="Files that failed, are stuck, or have gaps are tried again.")
def reset_job() -> None:
    """Reset."""
    reset_files()
