"""The jobs beside the assets do as their commands."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from ingest_pipeline.definitions import defs
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.backup_file import opened_backup


def test_backup_job(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ingest_backup` writes a whole backup to the path of its configuration; a second run refuses the name."""
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "b.tar"
    config = {"ops": {"backup_database": {"config": {"path": str(path)}}}}
    job = defs.resolve_job_def("ingest_backup")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(run_config=config, instance=instance)
        [output] = result.filter_events(lambda event: event.is_successful_output)
        assert output.step_output_data.metadata["size_bytes"].value == path.stat().st_size
        again = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
    with opened_backup(path) as backup:
        backup.verify()
        assert backup.manifest["counts"]["ingest.files"] == 0
    assert not again.success
