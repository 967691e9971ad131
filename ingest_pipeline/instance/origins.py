"""Where Dagster finds the code of a run: in this Python, and in the UI under the name of the code location."""

from __future__ import annotations

import sys

from ingest_pipeline.instance.dagster_private import (
    DEFAULT_DAGSTER_ENTRY_POINT,
    CodePointer,
    JobPythonOrigin,
    LoadableTargetOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    RepositoryPythonOrigin,
)

MODULE, REPOSITORY = "ingest_pipeline.definitions", "__repository__"


def code_origin(job: str) -> JobPythonOrigin:
    """Return how a process loads a job."""
    pointer = CodePointer.from_module(MODULE, "defs", working_directory=None)
    repository = RepositoryPythonOrigin(
        executable_path=sys.executable,
        code_pointer=pointer,
        container_image=None,
        entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
        container_context=None,
    )
    return JobPythonOrigin(job, repository)


def remote_origin(job: str) -> RemoteJobOrigin:
    """Return how the UI finds a job."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, MODULE)  # the same name as in `dagster dev`, for the UI
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, REPOSITORY), job)
