"""The parent's side of one worker: starts it in a scrubbed environment, asks it, waits until a deadline."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Pipe
from typing import Any

from ingest_pipeline.entities.model import EntityModel
from ingest_pipeline.entities.worker import OUT_OF_MEMORY_EXIT
from ingest_pipeline.errors import EntityModelUnavailable
from ingest_pipeline.models import Entity

logger = logging.getLogger(__name__)
START_SECONDS = 60.0  # 1 s on an idle machine
BATCH_SECONDS = 60.0  # 0.3 s on an idle machine
CHARACTERS_PER_SECOND = 1_000  # 25 times slower than on an idle machine
MAX_ANSWER_BYTES = 64 * 1024**2
# No other variables: the worker needs no credentials.
KEPT_ENVIRONMENT = (
    "PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TZ",
)  # fmt: skip
# One arena: less memory is kept after free(). One thread: with two workers each has a core.
ADDED_ENVIRONMENT = {
    "PYTHONNOUSERSITE": "1",
    "MALLOC_ARENA_MAX": "1",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"), "1"),
}


class WorkerLost(Exception):
    """The worker ended, passed its deadline or answered nonsense; the message says which."""


class Worker:
    """One worker process with a loaded model; `fileno` makes it something to wait for.

    Args:
        model: what it loads.
        memory_limit_bytes: RLIMIT_DATA of the process.

    Raises:
        EntityModelUnavailable: it does not start.
    """

    def __init__(self, model: EntityModel, *, memory_limit_bytes: int) -> None:
        self._pipe, theirs = Pipe()
        command = [
            # -P: modules in the current folder must not replace the real ones.
            sys.executable, "-P", "-m", "ingest_pipeline.entities.worker", str(theirs.fileno()),
            str(memory_limit_bytes), str(os.getpid()), str(model.folder.absolute()), *model.unused,
        ]  # fmt: skip
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # warnings of libraries may quote a text
                env=_environment(),
            )
        self.deadline = time.monotonic() + START_SECONDS
        self._greet(model, memory_limit_bytes)
        logger.debug("entity worker %d started, limit %d bytes", self.pid, memory_limit_bytes)

    @property
    def pid(self) -> int:
        """Of the worker's process."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is an answer, or the worker has ended."""
        return self._pipe.fileno()

    def ask(self, texts: Sequence[str]) -> None:
        """Give the worker a batch; `answer` returns what it found.

        Raises:
            WorkerLost: it has ended.
        """
        self.deadline = time.monotonic() + BATCH_SECONDS + sum(map(len, texts)) / CHARACTERS_PER_SECOND
        try:
            self._pipe.send_bytes(json.dumps(list(texts)).encode())
        except OSError:
            raise WorkerLost(self._how_it_ended()) from None

    def answer(self) -> list[tuple[Entity, ...] | None]:
        """Return the entities of each text of the batch; None for a text in another language.

        Raises:
            WorkerLost: no answer came; the worker must be closed.
        """
        try:
            return [found if found is None else tuple(Entity(*one) for one in found) for found in self._receive()]
        except (TypeError, ValueError):
            raise WorkerLost("its answer cannot be read") from None

    def close(self) -> None:
        """Kill the worker."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def _greet(self, model: EntityModel, memory_limit_bytes: int) -> None:
        try:
            error = self._receive()["error"]
        except (WorkerLost, TypeError, KeyError, ValueError) as lost:
            error = str(lost)
        if error:
            self.close()
            raise EntityModelUnavailable(
                f"the worker with {model.key} did not start under {memory_limit_bytes:,} bytes: {error}; "
                "raise INGEST_RUN_MEMORY or check the installation"
            )

    def _receive(self) -> Any:
        if not self._pipe.poll(max(0.0, self.deadline - time.monotonic())):
            raise WorkerLost("it passed its deadline")
        try:
            return json.loads(self._pipe.recv_bytes(MAX_ANSWER_BYTES))
        except (EOFError, OSError):
            raise WorkerLost(self._how_it_ended()) from None

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its socket without ending"
        if code == OUT_OF_MEMORY_EXIT:
            return "it ran out of memory"
        return f"it ended: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return kept | ADDED_ENVIRONMENT
