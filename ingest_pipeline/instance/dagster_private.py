"""All private names of Dagster that this package uses: the only module that imports `dagster._*`.

A launcher, a coordinator and a storage cannot be written without them; dagster-docker and dagster-k8s import the same.
They may change with any minor version, so pyproject.toml pins it; check this list when you raise the version.
"""

from dagster._cli import main as dagster_command_line
from dagster._cli.api import recon_job_from_origin
from dagster._core.code_pointer import CodePointer
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import AssetObservationData, RunFailureReason
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.execution.plan.objects import ErrorSource
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator, RunQueueConfig
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, DagsterRun
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.impl import core_execute_run
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData, serialize_value
from dagster._utils import ensure_file, touch_file
from dagster._utils.error import SerializableErrorInfo
from dagster._utils.schedules import cron_string_iterator

__all__ = [
    "DEFAULT_DAGSTER_ENTRY_POINT",
    "IN_PROGRESS_RUN_STATUSES",
    "IO_TYPE_EXTENSION",
    "PARTITION_NAME_TAG",
    "AssetObservationData",
    "CapturedLogContext",
    "CheckRunHealthResult",
    "CodePointer",
    "ComputeIOType",
    "ConfigurableClass",
    "ConfigurableClassData",
    "DagsterExecutionInterruptedError",
    "DagsterRun",
    "ErrorSource",
    "ExecuteRunArgs",
    "JobPythonOrigin",
    "LaunchRunContext",
    "LoadableTargetOrigin",
    "LocalComputeLogManager",
    "ManagedGrpcPythonEnvCodeLocationOrigin",
    "QueuedRunCoordinator",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "RepositoryPythonOrigin",
    "RunFailureReason",
    "RunLauncher",
    "RunQueueConfig",
    "SerializableErrorInfo",
    "WorkerStatus",
    "core_execute_run",
    "cron_string_iterator",
    "dagster_command_line",
    "ensure_file",
    "recon_job_from_origin",
    "redirect_to_file",
    "serialize_value",
    "touch_file",
]
