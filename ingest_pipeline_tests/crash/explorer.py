"""Explores the model of `lifecycle.py` breadth first: the invariants in every state, and that work can always end."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest_pipeline_tests.crash.lifecycle import FINAL, GONE, NONE, UNFINISHED, Edge, Limits, Model, State
from ingest_pipeline_tests.crash.packing import pack, unpack

if TYPE_CHECKING:
    import numpy as np

HARMFUL = ("kill", "edit", "delete", "refuse", "by hand", "second run")
"""Liveness is asked of the steps without these."""
MOST_STATES = 12_000_000
"""160 bytes each, and 8 for each transition that is not harmful."""


@dataclass(slots=True)
class Explored:
    """What was reached."""

    states: int = 0
    transitions: int = 0
    edges: set[Edge] = field(default_factory=set)
    """Of a file's status: function, before, after."""
    broken: list[tuple[str, State]] = field(default_factory=list)
    stuck: list[State] = field(default_factory=list)
    final: int = 0


def explore(start: State, limits: Limits, *, most_states: int = MOST_STATES, until_broken: bool = False) -> Explored:
    """Reach every state from the first one; check the invariants in each, and that work can come to its end.

    Args:
        start: the first state.
        limits: of the model.
        most_states: that are reached before it gives up.
        until_broken: stop at the first state that is broken.

    Raises:
        ValueError: there are more states.
    """
    model, result, search = Model(limits), Explored(), _Search(start)
    for number, packed in enumerate(search.states):  # grows meanwhile
        state = search.state(packed)
        if why := broken(state, limits):
            result.broken.append((why, state))
            if until_broken:
                return result
        if is_final(state):
            search.finals.append(number)
        for step in model.steps(state):
            result.transitions += 1
            search.reach(number, step.state, harmful=step.name.startswith(HARMFUL))
        if len(search.states) > most_states:
            raise ValueError(f"more than {most_states:,} states")
    result.states, result.edges, result.final = len(search.states), model.edges, len(search.finals)
    result.stuck = [search.state(search.states[number]) for number in search.stuck()]
    return result


class _Search:
    """The states that were reached, in order, as numbers; and the steps between them that are not harmful."""

    def __init__(self, start: State) -> None:
        self._files, self._runs = len(start.files), len(start.runs)
        self.states, self.finals = array("Q", [pack(start)]), array("I")
        self._places = {self.states[0]: 0}
        self._before, self._after = array("I"), array("I")

    def state(self, packed: int) -> State:
        """Return the state of a number."""
        return unpack(packed, files=self._files, runs=self._runs)

    def reach(self, before: int, state: State, *, harmful: bool) -> None:
        """Note a step; a state that is new is looked at later."""
        packed = pack(state)
        place = self._places.setdefault(packed, len(self.states))
        if place == len(self.states):
            self.states.append(packed)
        if not harmful:
            self._before.append(before)
            self._after.append(place)

    def stuck(self) -> np.ndarray:
        """Return the places of states from which no final one is reached without harm: shape (stuck,), int64."""
        import numpy as np

        lively = np.zeros(len(self.states), dtype=bool)
        lively[np.frombuffer(self.finals, dtype=np.uint32)] = True
        before, after = (np.frombuffer(side, dtype=np.uint32) for side in (self._before, self._after))
        while True:
            new = lively[after] & ~lively[before]
            if not new.any():
                return np.flatnonzero(~lively)
            lively[before[new]] = True
            left = ~lively[before]
            before, after = before[left], after[left]


def is_final(state: State) -> bool:
    """Return whether every file has come to its end, as the disk has it, and no run is at work."""
    return all(
        file.status in FINAL and (file.status == "deleted") == (file.disk == GONE) and file.disk in (file.version, GONE)
        for file in state.files
    )


def broken(state: State, limits: Limits) -> str:
    """Return the invariant that does not hold; '' if all do."""
    for file in state.files:
        if file.shown != NONE and not state.chunks >> file.shown & 1:
            return "readers see half a document"
        if file.status == "indexed" and file.shown != file.version:
            return "indexed, but shows other bytes"
        if file.status == "deleted" and file.shown != NONE:
            return "deleted, but shown"
        if file.kills > limits.kills or (file.kills == limits.kills and file.status not in ("failed", "deleted")):
            return "killed too often"
        if file.batch == NONE:
            if file.status in ("processing", "processed"):
                return "in the making without a batch"
            continue
        batch = state.batches[file.batch]
        if batch.status == "done" and file.status in UNFINISHED:
            return "waits in a batch that is done"
        if file.status == "processing" and batch.status == "free":
            return "processing, and nobody works"
    return ""
