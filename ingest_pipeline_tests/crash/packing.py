"""States of the explorer as numbers, and the same number for states that differ in names alone.

Files, batches and runs are interchangeable: what is true of a state is true of it with two files, the two batches or
two runs exchanged. Of all these the least number stands for the state. Each part of a state is looked up in a table, so
that a state takes eight bytes, and none is built to be compared.
"""

from __future__ import annotations

from itertools import product

from ingest_pipeline_tests.crash.lifecycle import FINAL, NONE, OPEN, UNFINISHED, Batch, File, Run, State

FILE_BITS, RUN_BITS, BATCH_BITS, CHUNK_BITS = 12, 8, 5, 2
STATUSES = (*UNFINISHED, *FINAL)
FILES = [
    File(*fields)
    for fields in product(STATUSES, (NONE, 0, 1), range(5), range(2), range(3), (NONE, 0, 1))
]  # fmt: skip
RUNS = [
    Run(*fields)
    for fields in product(
        ("idle", "alive", "dead"), range(2), ("between", "chunking", "chunked", "embedding", "embedded"),
        range(2), range(2),
    )
]  # fmt: skip
BATCHES = [Batch(*fields) for fields in product(("free", "waiting", "running", "done", "failed"), (NONE, 0, 1))]
"""Every value that a part of a state may have; a part's number is its place here."""
FILE_NUMBERS = {value: number for number, value in enumerate(FILES)}
RUN_NUMBERS = {value: number for number, value in enumerate(RUNS)}
BATCH_NUMBERS = {value: number for number, value in enumerate(BATCHES)}


def _plain(run: Run) -> Run:
    if run.life == "idle":
        return Run()
    if run.phase == "between" or (run.life == "dead" and run.phase not in OPEN):  # no attempt is open
        return Run(run.life, run.batch)
    return run


def _swapped(place: int) -> int:
    return place if place == NONE else 1 - place


PLAIN_RUN = [RUN_NUMBERS[_plain(run)] for run in RUNS]
"""Without what makes no difference."""
FILE_OF_OTHER_BATCH = [FILE_NUMBERS[file._replace(batch=_swapped(file.batch))] for file in FILES]
RUN_OF_OTHER_BATCH = [
    RUN_NUMBERS[run if run.life == "idle" else run._replace(batch=1 - run.batch)] for run in RUNS
]  # fmt: skip
RUN_AT_OTHER_FILE = [RUN_NUMBERS[_plain(run._replace(file=1 - run.file))] for run in RUNS]
BATCH_OF_OTHER_RUN = [BATCH_NUMBERS[batch._replace(run=_swapped(batch.run))] for batch in BATCHES]
BATCH_OF_NONE = [
    BATCH_NUMBERS[batch if batch.status == "running" else batch._replace(run=NONE)] for batch in BATCHES
]  # fmt: skip
HELD_BY_FILE = [0 if file.batch == NONE else 1 << file.batch for file in FILES]
HELD_BY_RUN = [0 if run.life == "idle" else 1 << run.batch for run in RUNS]
FREE = BATCH_NUMBERS[Batch()]


def pack(state: State) -> int:
    """Return the number of a state, the same for all that differ in names alone."""
    files = [FILE_NUMBERS[file] for file in state.files]
    runs = [PLAIN_RUN[RUN_NUMBERS[run]] for run in state.runs]
    held = 0
    for number in files:
        held |= HELD_BY_FILE[number]
    for number in runs:
        held |= HELD_BY_RUN[number]
    first, second = state.batches
    batches = (
        BATCH_OF_NONE[BATCH_NUMBERS[first]] if held & 1 else FREE,
        BATCH_OF_NONE[BATCH_NUMBERS[second]] if held & 2 else FREE,
    )
    return min(_renamed(files, runs, batches)) << CHUNK_BITS | state.chunks


def _renamed(files: list[int], runs: list[int], batches: tuple[int, int]) -> list[int]:
    """Return the numbers under all names of files, batches and runs."""
    other = [FILE_OF_OTHER_BATCH[file] for file in files], [RUN_OF_OTHER_BATCH[run] for run in runs], batches[::-1]
    choices = [(files, runs, batches), other]
    if len(files) == 2:
        choices += [(f[::-1], [RUN_AT_OTHER_FILE[run] for run in r], b) for f, r, b in choices]
    if len(runs) == 2:
        choices += [(f, r[::-1], (BATCH_OF_OTHER_RUN[b[0]], BATCH_OF_OTHER_RUN[b[1]])) for f, r, b in choices]
    return [_number(*choice) for choice in choices]


def _number(files: list[int], runs: list[int], batches: tuple[int, ...]) -> int:
    number = 0
    for file in files:
        number = number << FILE_BITS | file
    for run in runs:
        number = number << RUN_BITS | run
    return (number << BATCH_BITS | batches[0]) << BATCH_BITS | batches[1]


def unpack(number: int, *, files: int, runs: int) -> State:
    """Return the state of a number."""
    chunks, number = number & 3, number >> CHUNK_BITS
    second, number = BATCHES[number & 31], number >> BATCH_BITS
    first, number = BATCHES[number & 31], number >> BATCH_BITS
    all_runs = tuple(RUNS[number >> RUN_BITS * place & 255] for place in range(runs - 1, -1, -1))
    number >>= RUN_BITS * runs
    all_files = tuple(FILES[number >> FILE_BITS * place & 4095] for place in range(files - 1, -1, -1))
    return State(all_files, (first, second), all_runs, chunks)
