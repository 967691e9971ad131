"""Captures what a run's process prints in files that the UI shows."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from ingest_pipeline.instance.dagster_private import (
    IO_TYPE_EXTENSION,
    CapturedLogContext,
    ComputeIOType,
    ConfigurableClassData,
    LocalComputeLogManager,
    ensure_file,
    redirect_to_file,
    touch_file,
)
from ingest_pipeline.settings import read_settings


class PlainComputeLogManager(LocalComputeLogManager):
    """Dagster's local log manager without its four helper processes for each run.

    The original copies the files back to the terminal by two `tail`s, each under a Python process that supervises it:
    25 MB in the run's process tree, and a `tail` may outlive a killed run (docs/dagster.md, M4).
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: the files are under `INGEST_HOME`."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PlainComputeLogManager:
        """Return the log manager for the folder that Dagster itself would use."""
        folder = read_settings().home / "dagster" / "storage"
        return cls(base_dir=str(folder), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Redirect stdout and stderr of this process to the run's files."""
        streams = ((sys.stdout, ComputeIOType.STDOUT), (sys.stderr, ComputeIOType.STDERR))
        with ExitStack() as stack:
            for stream, kind in streams:
                path = self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])
                ensure_file(path)
                stack.enter_context(redirect_to_file(stream, path))
            yield CapturedLogContext(log_key)
        touch_file(self.complete_artifact_path(log_key))  # tells readers that the log is complete
