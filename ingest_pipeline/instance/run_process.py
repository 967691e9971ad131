"""The program of a run's process: Dagster's command line, which executes the run.

Run as `python -m ingest_pipeline.instance.run_process api execute_run <arguments>` by the launcher.
"""

from __future__ import annotations

from ingest_pipeline.memory.collector import collector_off


def main() -> None:
    """Import what every run needs, then execute the command line."""
    with collector_off():
        import dagster_postgres  # noqa: F401

        import ingest_pipeline.definitions  # noqa: F401
        from ingest_pipeline.instance.dagster_private import dagster_command_line
    dagster_command_line()


if __name__ == "__main__":
    main()
