"""What a run's process prints goes into files that the UI shows, and nowhere else."""

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
    """Dagster's own, without its four helpers for each run.

    The original copies the files back to the terminal with two `tail`s, each under a Python process that watches
    over it: 25 MB in the run's process tree, and a `tail` that outlives a run which was killed at the wrong moment.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the files lie under `INGEST_HOME`."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PlainComputeLogManager:
        """Return the manager over the folder that Dagster itself would take."""
        folder = read_settings().home / "dagster" / "storage"
        return cls(base_dir=str(folder), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Send what this process prints to the run's files."""
        streams = ((sys.stdout, ComputeIOType.STDOUT), (sys.stderr, ComputeIOType.STDERR))
        with ExitStack() as stack:
            for stream, kind in streams:
                path = self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])
                ensure_file(path)
                stack.enter_context(redirect_to_file(stream, path))
            yield CapturedLogContext(log_key)
        touch_file(self.complete_artifact_path(log_key))  # how readers know that no more will come
