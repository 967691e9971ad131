"""A state machine over the real store: whatever happens in whatever order, the invariants hold, and work ends."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest_pipeline.stages.cleanup import find_damage, repair_damage
from ingest_pipeline.stages.reset import reset_files
from ingest_pipeline.store import batches
from ingest_pipeline.store.reset import ResetSelection
from ingest_pipeline_tests.crash.invariants import unused, violations
from ingest_pipeline_tests.crash.stages import CARDS, LETHAL, UNREADABLE, StagedStore, SteppedRun

PATHS = ("a.txt", "b.txt", "c.txt", "d.txt")
SENTENCES = ("one two three", "four five", "six", "seven eight nine ten")
SPECIAL = (LETHAL, f"one two three\f{LETHAL}", UNREADABLE, " ".join(["many"] * 90))
CHANGES = ("fingerprint", "model", "on-demand", "now", "memory")
PAGES = st.one_of(
    st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=3).map("\f".join),
    st.sampled_from(SPECIAL),
)
SERVICES = ("scan", "seal", "reconcile", "sweep", "retry")
MOST_RUNS = 3
THOROUGH_EVERY = 4
LEFT = ("index_missing", "open_attempts")
"""No index is made here; and nobody closes the attempts of a run that another one has overtaken on its batch."""
MOST_EXCHANGES = 100  # a file of one chunk takes 88 from its batch to its end
counted: Counter[str] = Counter()
"""Examples, steps and kills of this process, and how often each rule was taken."""


def open_store() -> StagedStore:
    """Return an empty store; a test puts its own function here before it runs the machine."""
    raise NotImplementedError


class StoreMachine(RuleBasedStateMachine):
    """Files, catalog runs, batches, runs that are stepped and killed, sweeps, and what an operator does."""

    @initialize()
    def begin(self) -> None:
        """Empty everything."""
        self.store = open_store()
        self.files: dict[str, str] = {}
        self.looks = 0
        counted["examples"] += 1

    @rule(written=st.dictionaries(st.sampled_from(PATHS), PAGES, min_size=1, max_size=3), then_scan=st.booleans())
    def write(self, written: dict[str, str], then_scan: bool) -> None:
        """Add or edit some files."""
        self._note("write")
        for path, pages in written.items():
            self.files[path] = pages
            self.store.write(path, pages)
        if then_scan:
            self.store.scan()

    @precondition(lambda self: self.files)
    @rule(old=st.sampled_from(PATHS), new=st.sampled_from(PATHS), keep=st.booleans(), then_scan=st.booleans())
    def move(self, old: str, new: str, keep: bool, then_scan: bool) -> None:
        """Rename or duplicate a file."""
        if old not in self.files or old == new:
            return
        self._note("duplicate" if keep else "rename")
        self.files[new] = self.files[old]
        self.store.write(new, self.files[new])
        if not keep:
            self._remove(old)
        if then_scan:
            self.store.scan()

    @precondition(lambda self: self.files)
    @rule(path=st.sampled_from(PATHS), then_scan=st.booleans())
    def delete(self, path: str, then_scan: bool) -> None:
        """Delete a file."""
        if path in self.files:
            self._note("delete")
            self._remove(path)
            if then_scan:
                self.store.scan()

    @rule(what=st.sampled_from(CHANGES))
    def change_settings(self, what: str) -> None:
        """Another parser, another model, vectors on demand or at once, another budget."""
        self._note(f"change {what}")
        store = self.store
        if what == "fingerprint":
            store.fingerprint += "'"
        elif what == "model":
            store.card = CARDS[store.card == CARDS[0]]
        elif what == "memory":
            store.settings = replace(store.settings, run_memory=store.settings.run_memory + 2**20)
        else:
            store.settings = replace(store.settings, embed=what)
        # Runs that are at work have the settings with which they began.

    @rule(what=st.sampled_from(SERVICES))
    def serve(self, what: str) -> None:
        """What the daemon, a schedule or an operator does."""
        self._note(what)
        if what == "retry":
            batches.retry_failed_batches(self.store.connection)
        else:
            getattr(self.store, what)()

    @rule(which=st.integers(0, 9))
    def begin_run(self, which: int) -> None:
        """A run takes a waiting batch, which may have to be sealed first."""
        waiting = self.store.keys("waiting")
        if not waiting:
            self.store.scan()
            self.store.seal()
            waiting = self.store.keys("waiting")
        if waiting and len(self.store.live) < MOST_RUNS:
            self._note("begin")
            self.store.begin(waiting[which % len(waiting)])

    @rule(which=st.integers(0, 9))
    def begin_again(self, which: int) -> None:
        """A run of any batch: a second one of a batch that is running, or by hand of one that ended."""
        keys = self.store.keys("waiting", "running", "done", "failed")
        if keys and len(self.store.live) < MOST_RUNS:
            self._note("begin again")
            self.store.begin(keys[-1 - which % len(keys)])

    @precondition(lambda self: self.store.live)
    @rule(order=st.lists(st.integers(0, MOST_RUNS - 1), min_size=2, max_size=16))
    def step(self, order: list[int]) -> None:
        """The runs do pieces of their work, in this order."""
        for which in order:
            if self.store.live:
                self._note("step")
                self._run(which).step()

    @precondition(lambda self: self.store.live)
    @rule(which=st.integers(0, 9))
    def finish(self, which: int) -> None:
        """A run goes to its end."""
        run = self._run(which)
        self._note("finish")
        while not (run.ended or run.killed):
            run.step()

    @precondition(lambda self: self.store.live)
    @rule(which=st.integers(0, 9))
    def kill(self, which: int) -> None:
        """Kill a run between two pieces of work."""
        self._note("kill")
        self._run(which).kill()

    @precondition(lambda self: self.store.live)
    @rule(which=st.integers(0, 9), exchanges=st.integers(0, MOST_EXCHANGES), after=st.booleans())
    def kill_within(self, which: int, exchanges: int, after: bool) -> None:
        """Kill a run at a statement of its work, before it is sent or after the server has done it."""
        run = self._run(which)
        self._note("kill within")
        run.connection.after_answer, run.connection.exchanges_left = after, exchanges
        while not (run.ended or run.killed):
            run.step()

    @precondition(lambda self: self.files)
    @rule(path=st.sampled_from(PATHS), failed=st.booleans(), stuck=st.booleans())
    def reset(self, path: str, failed: bool, stuck: bool) -> None:
        """An operator has files tried again."""
        self._note("reset")
        reset_files(self.store.connection, ResetSelection(failed=failed, stuck=stuck, paths=[path]))

    @rule()
    def cleanup(self) -> None:
        """An operator repairs what is left."""
        self._note("cleanup")
        repair_damage(self.store.connection, self.store.settings)

    @invariant()
    def holds(self) -> None:
        """What is true of the store at every moment is true now."""
        if hasattr(self, "store"):
            self.looks += 1
            thorough = self.looks % THOROUGH_EVERY == 0
            found = violations(self.store.connection, self.store.settings, thorough=thorough)
            assert not found, found

    def teardown(self) -> None:
        """From here `ingest run` brings every file to its end, readers see what the folder has, nothing is left."""
        if not hasattr(self, "store"):
            return
        self.store.close()
        self.store.settings = replace(self.store.settings, embed="now")
        self.store.ingest_run()
        self.holds()
        self._everything_is_final()
        self.store.sweep()
        assert unused(self.store.connection) == {}
        left = [one for one in find_damage(self.store.connection, self.store.settings) if one.kind not in LEFT]
        assert not left, left
        counted["kills"] += sum(run.killed for run in self.store.runs)

    def _everything_is_final(self) -> None:
        shown, rows = self.store.shown(), self.store.rows()
        for path, (status, reason, kills) in rows.items():
            pages = self.files.get(path)
            if pages is None:
                assert status == "deleted", (path, status)
            elif reason == "KilledRepeatedly":
                assert (status, kills) == ("failed", 3), path
            elif pages == UNREADABLE:
                assert (status, reason) == ("failed", "UnreadableDocument"), path
            else:
                assert LETHAL not in pages, (path, status, kills)
                assert status == "indexed", (path, status, reason)
                assert " ".join(shown[path]).split() == pages.split(), path
        assert set(self.files) == {path for path, (status, *_) in rows.items() if status != "deleted"}

    def _run(self, which: int) -> SteppedRun:
        return self.store.live[which % len(self.store.live)]

    def _remove(self, path: str) -> None:
        del self.files[path]
        (self.store.folder / path).unlink()

    def _note(self, name: str) -> None:
        counted[name] += 1
        counted["steps"] += 1


def machine_settings(examples: int, *, steps: int = 50, shrink: bool = True) -> settings:
    """Return how the machine is run: from a seed that is always the same, without a data base of examples."""
    phases = [Phase.explicit, Phase.generate] + [Phase.shrink] * shrink
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, phases=phases, database=None,
        derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip


WEIGHTS = {
    "write": 6, "move": 2, "delete": 1, "change_settings": 1, "serve": 6, "begin_run": 6, "begin_again": 1, "step": 16,
    "finish": 2, "kill": 2, "kill_within": 4, "reset": 1, "cleanup": 1,
}  # fmt: skip


def walk(seed: int, *, steps: int = 40) -> None:
    """Take rules in an order that a seed decides: fewer of them do nothing than in hypothesis' examples.

    Raises:
        AssertionError: an invariant is hurt, or work does not come to its end.
    """
    choose, machine = random.Random(seed), StoreMachine()
    machine.begin()
    for number in range(steps):
        [name] = choose.choices([*WEIGHTS], [*WEIGHTS.values()])
        if name in ("step", "finish", "kill", "kill_within") and not machine.store.live:
            name = "begin_run"
        if name == "change_settings" and choose.random() < number / steps:
            name = "serve"
        getattr(machine, name)(**_arguments(name, choose))
        machine.holds()
    machine.teardown()


def _arguments(name: str, choose: random.Random) -> dict[str, Any]:
    """Return the arguments of a rule."""

    def path() -> str:
        return choose.choice(PATHS)

    def yes() -> bool:
        return choose.random() < 0.5

    which = {"which": choose.randrange(10)}
    match name:
        case "write":
            return {"written": {path(): _pages(choose) for _ in range(choose.randint(1, 3))}, "then_scan": yes()}
        case "move":
            return {"old": path(), "new": path(), "keep": yes(), "then_scan": yes()}
        case "delete":
            return {"path": path(), "then_scan": yes()}
        case "change_settings":
            return {"what": choose.choice(CHANGES)}
        case "serve":
            return {"what": choose.choice(SERVICES)}
        case "step":
            return {"order": [choose.randrange(MOST_RUNS) for _ in range(choose.randint(1, 8))]}
        case "kill_within":
            return which | {"exchanges": choose.randint(0, MOST_EXCHANGES), "after": yes()}
        case "reset":
            return {"path": path(), "failed": yes(), "stuck": yes()}
        case "cleanup":
            return {}
    return which


def _pages(choose: random.Random) -> str:
    if choose.random() < 0.2:
        return choose.choice(SPECIAL)
    return "\f".join(choose.choice(SENTENCES) for _ in range(choose.randint(1, 3)))
