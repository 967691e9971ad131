"""The life of files, batches, runs and the sweep as a table of transitions.

Files share versions of bytes, runs may be at work or dead, two batches hold files. Every step of a run is a state of
its own, with a kill before and after it. A batch whose run failed waits again or is given up: both are explored, so
failures are not counted. Vectors come and go with their chunks: what a sweep of vectors does to a run is shown by
`sessions.py`, statement by statement. The model's edges of a file's status carry the names of the functions in
`store/files.py`; a test ties them to the table there, and that to the SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

UNFINISHED = ("synced", "processing", "processed")
FINAL = ("indexed", "failed", "deleted")
NONE = -1  # instead of None: states are compared
GONE = 2
"""On the disk there is version 0, version 1, or nothing any more."""
OPEN = ("chunking", "embedding")
"""Phases of a run in which it has an open attempt."""


class File(NamedTuple):
    """A row of `files`, and what is on the disk."""

    status: str = "synced"
    batch: int = NONE
    kills: int = 0
    version: int = 0
    disk: int = 0
    shown: int = NONE


class Batch(NamedTuple):
    """A row of `batches`; the number is used again when nothing refers to it."""

    status: str = "free"
    run: int = NONE
    """While it is running."""


class Run(NamedTuple):
    """A run, and where it is in its work on a file: `chunking` and `embedding` have an open attempt."""

    life: str = "idle"
    batch: int = 0
    phase: str = "between"
    file: int = 0
    version: int = 0


class State(NamedTuple):
    """Everything; `chunks` are the versions that have them, with their vectors, as bits."""

    files: tuple[File, ...]
    batches: tuple[Batch, ...]
    runs: tuple[Run, ...]
    chunks: int = 0


class Limits(NamedTuple):
    """How far the model goes; with more of everything there are too many states."""

    kills: int = 3
    """After which a file fails."""
    versions: int = 2
    """Of bytes that a file may have."""


class Step(NamedTuple):
    """A transition: what did it, and where it ends."""

    name: str
    state: State


Edge = tuple[str, str, str]


def initial(files: int, runs: int) -> State:
    """Return new files that wait, with nothing else."""
    return State((File(),) * files, (Batch(),) * 2, (Run(),) * runs)


class Model:
    """The transitions, and the edges of a file's status that they have taken."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.edges: set[Edge] = set()

    def steps(self, state: State) -> Iterator[Step]:
        """Yield what may happen next."""
        for number, file in enumerate(state.files):
            if file.disk == 0 and self._limits.versions > 1:
                yield Step("edit", _put_file(state, number, file._replace(disk=1)))
            if file.disk == GONE:
                yield Step("edit back", _put_file(state, number, file._replace(disk=0)))
            else:
                yield Step("delete", _put_file(state, number, file._replace(disk=GONE)))
            yield Step("catalog", self._scanned(state, number))
        yield from self._sealed(state)
        for number, run in enumerate(state.runs):
            yield from self._run_steps(state, number, run)
        for number, batch in enumerate(state.batches):
            if batch.status == "failed" and any(_answers(state, number, file) for file in range(len(state.files))):
                yield Step("retry", _put_batch(state, number, batch._replace(status="waiting")))
        yield Step("sweep", state._replace(chunks=state.chunks & _needed(state)))

    def _move(self, state: State, number: int, function: str, **changes: object) -> State:
        file = state.files[number]
        after = file._replace(**changes)  # type: ignore[arg-type]
        if after.status != file.status:
            self.edges.add((function, file.status, after.status))
        return _put_file(state, number, after)

    def _scanned(self, state: State, number: int) -> State:
        file = state.files[number]
        if file.disk == GONE:
            if file.status == "deleted":
                return state
            return self._move(state, number, "delete_unseen", status="deleted", shown=NONE, batch=NONE)
        if file.disk != file.version or file.status == "deleted":
            known = {"status": "synced", "version": file.disk, "batch": NONE, "kills": 0}
            state = self._move(state, number, "record_versions", **known)
        for other, one in enumerate(state.files):
            usable = state.chunks >> one.version & 1
            if one.status == "synced" and usable and one.shown != one.version:
                shown = {"status": "indexed", "shown": one.version, "batch": NONE}
                state = self._move(state, other, "adopt_known_versions", **shown)
        return state

    def _sealed(self, state: State) -> Iterator[Step]:
        waiting = [n for n, file in enumerate(state.files) if file.status == "synced" and file.batch == NONE]
        free = [n for n in range(2) if _is_free(state, n)]
        if not waiting or not free:
            return
        together = [n for n in waiting if not state.files[n].kills]
        for chosen in {tuple(together), *((n,) for n in waiting)} - {()}:
            sealed = _put_batch(state, free[0], Batch("waiting"))
            for n in chosen:
                sealed = _put_file(sealed, n, sealed.files[n]._replace(batch=free[0]))
            yield Step("seal", sealed)

    def _run_steps(self, state: State, number: int, run: Run) -> Iterator[Step]:
        if run.life == "idle":
            for batch, row in enumerate(state.batches):
                if row.status != "free":
                    name = {"waiting": "begin", "running": "second run"}.get(row.status, "by hand")
                    yield Step(name, self._begun(state, number, batch))
        elif run.life == "dead":
            yield from (Step("reconcile", after) for after in self._reconciled(state, number, run))
        else:
            yield Step("kill", _put_run(state, number, run._replace(life="dead")))
            yield from self._work(state, number, run)

    def _begun(self, state: State, number: int, batch: int) -> State:
        row = state.batches[batch]
        state = _put_batch(state, batch, row._replace(status="running", run=number))
        for n, file in enumerate(state.files):
            if file.batch == batch and row.status in ("done", "failed") and file.status == "failed":
                state = self._move(state, n, "reopen_failed", status="synced", kills=0)
            elif file.batch == batch and file.status == "processed" and not state.chunks >> file.version & 1:
                state = self._move(state, n, "requeue_unparsed", status="synced")
        return _put_run(state, number, Run("alive", batch))

    def _work(self, state: State, number: int, run: Run) -> Iterator[Step]:
        bit = 1 << run.version
        if run.phase == "between":
            yield from self._next_file(state, number, run)
        elif run.phase == "chunking":
            stored = state._replace(chunks=state.chunks | bit)
            yield Step("chunk", _put_run(stored, number, run._replace(phase="chunked")))
            same = state.files[run.file].version == run.version
            refused = self._move(state, run.file, "refuse_file", status="failed") if same else state
            yield Step("refuse", _put_run(refused, number, run._replace(phase="between")))
        elif run.phase == "chunked":
            file = state.files[run.file]
            if file.version == run.version and file.status in UNFINISHED and file.batch != NONE:
                state = self._move(state, run.file, "mark_processed", status="processed")
            yield Step("mark", _put_run(state, number, run._replace(phase="between")))
        elif run.phase == "embedding":
            yield Step("embed", _put_run(state, number, run._replace(phase="embedded")))
        else:
            yield Step("publish", self._published(state, number, run))

    def _next_file(self, state: State, number: int, run: Run) -> Iterator[Step]:
        idle = True
        for n, file in enumerate(state.files):
            if not _answers(state, run.batch, n):
                continue
            at_work = run._replace(file=n, version=file.version)
            if file.status in ("synced", "processing"):
                idle = False
                opened = self._move(state, n, "begin_attempt", status="processing")
                yield Step("open", _put_run(opened, number, at_work._replace(phase="chunking")))
            elif file.status == "processed":
                idle = False
                yield Step("open", _put_run(state, number, at_work._replace(phase="embedding")))
                yield Step("known", _put_run(state, number, at_work._replace(phase="embedded")))
        row = state.batches[run.batch]
        if idle:
            mine = row.run == number
            ended = _put_batch(state, run.batch, row._replace(status="done", run=NONE)) if mine else state
            yield Step("finish", _put_run(ended, number, Run()))

    def _published(self, state: State, number: int, run: Run) -> State:
        file, bit = state.files[run.file], 1 << run.version
        state = _put_run(state, number, run._replace(phase="between"))
        if file.version != run.version or file.status != "processed" or not state.chunks & bit:
            if file.status == "processed" and file.version == run.version:  # swept: this run leaves it to the next one
                return _put_run(state, number, run._replace(life="dead", phase="between"))
            return state
        state = self._move(state, run.file, "publish", status="indexed", shown=run.version)
        return state._replace(chunks=state.chunks & (_needed(state) | ~(1 << max(0, file.shown)) | bit))

    def _reconciled(self, state: State, number: int, run: Run) -> Iterator[State]:
        row = state.batches[run.batch]
        state = _put_run(state, number, Run())
        if row.status != "running" or row.run != number:
            yield state
            return
        attributed = run.phase in OPEN and self._is_at(state, run)
        if attributed:
            kills = state.files[run.file].kills + 1
            state = self._move(state, run.file, "attribute_kills", status="synced", kills=kills, batch=NONE)
            if kills >= self._limits.kills:
                state = self._move(state, run.file, "refuse_file", status="failed")
        for n, file in enumerate(state.files):
            if file.batch == run.batch and file.status == "processing":
                state = self._move(state, n, "release_batch", status="synced")
        left = any(file.batch == run.batch and file.status != "failed" for file in state.files)
        for status in ("waiting", "failed") if left and not attributed else ("waiting",) if left else ("done",):
            yield _put_batch(state, run.batch, Batch(status))

    def _is_at(self, state: State, run: Run) -> bool:
        file = state.files[run.file]
        return file.batch == run.batch and file.status in ("processing", "processed")


def _answers(state: State, batch: int, number: int) -> bool:
    file = state.files[number]
    return file.batch == batch and file.status in UNFINISHED


def _is_free(state: State, batch: int) -> bool:
    at_work = any(run.life != "idle" and run.batch == batch for run in state.runs)
    empty = not any(file.batch == batch for file in state.files)
    return empty and not at_work and state.batches[batch].status != "running"


def _needed(state: State) -> int:
    """Return the versions that a file shows or is on the way to."""
    bits = 0
    for file in state.files:
        if file.shown != NONE:
            bits |= 1 << file.shown
        if file.status in UNFINISHED:
            bits |= 1 << file.version
    return bits


def _put_file(state: State, number: int, file: File) -> State:
    return state._replace(files=(*state.files[:number], file, *state.files[number + 1 :]))


def _put_batch(state: State, number: int, batch: Batch) -> State:
    return state._replace(batches=(*state.batches[:number], batch, *state.batches[number + 1 :]))


def _put_run(state: State, number: int, run: Run) -> State:
    return state._replace(runs=(*state.runs[:number], run, *state.runs[number + 1 :]))
