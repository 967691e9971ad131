"""The program of a run's process: Dagster's command line, which executes the run.

Run as `python -m ingest_pipeline.instance.run_process api execute_run <arguments>` by the launcher.
"""

from __future__ import annotations

from importlib import import_module

from ingest_pipeline.memory.collector import collector_off
from ingest_pipeline.memory.log_lines import log_in, log_memory_of_run
from ingest_pipeline.settings import read_settings


def main() -> None:
    """Import what every run needs, then execute the command line."""
    with collector_off():
        import ingest_pipeline.instance.storage  # noqa: F401
        from ingest_pipeline.instance.dagster_private import dagster_command_line
        from ingest_pipeline.instance.origins import MODULE

        import_module(MODULE)  # by its name, as Dagster will
    log_format = read_settings().log_format
    log_in(log_format)
    log_memory_of_run(log_format)
    dagster_command_line()


if __name__ == "__main__":
    main()
