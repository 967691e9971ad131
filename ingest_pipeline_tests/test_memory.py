"""Limits and peaks: cgroups in fake folders, slots by arithmetic, the kernel's refusal in a real child."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.embedding.batching import activation_bytes, batch_tokens
from ingest_pipeline.engines import BF16, ENGINES, F32
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.memory import cgroup
from ingest_pipeline.memory import machine as real_machine
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.memory.machine import (
    MACHINE_SHARE,
    RESERVE_BYTES,
    RESERVE_SHARE,
    machine_budget_bytes,
    machine_memory_bytes,
    run_slots,
    threads_of_run,
    usable_cores,
)
from ingest_pipeline.memory.process import peak_memory_bytes
from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.conftest import REPOSITORY

MIB = 1024**2
GIB = 1024**3
MIN_RUN_BYTES = ENGINES["openvino"].f32.minimum_bytes


def limits(budget: int, *, run: int, most: int = 0) -> Settings:
    """Settings for a machine and a run of so many bytes."""
    return Settings(machine_memory=budget, run_memory=run, max_runs=most)


def slots_of(settings: Settings) -> int:
    """Runs at once with the default engine."""
    return run_slots(RunBudget.of(settings, "openvino"), settings)


class FakeMachine:
    """A `/proc/self` and a `/sys/fs/cgroup` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.root = folder / "proc", folder / "sys"
        self.proc.mkdir()
        self.root.mkdir()

    def member_of(self, *lines: str) -> None:
        """Write `/proc/self/cgroup`."""
        (self.proc / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def limit(self, group: str, text: str, *, filename: str = "memory.max") -> None:
        """Write one group's limit."""
        folder = self.root / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / filename).write_text(f"{text}\n")

    def limits(self) -> list[int]:
        """Every limit that is found."""
        return cgroup.limits_bytes(self.proc, self.root)


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """A machine without any group."""
    return FakeMachine(tmp_path)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that knows the package."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
        check=False,
    )


def test_a_limit_of_cgroup_v2_is_found(machine: FakeMachine) -> None:
    """One group, one limit."""
    machine.member_of("0::/app")
    machine.limit("app", str(512 * MIB))
    assert machine.limits() == [512 * MIB]


def test_limits_of_ancestors_in_v2(machine: FakeMachine) -> None:
    """A parent's smaller limit binds the child: the smallest of all ancestors' limits counts."""
    machine.member_of("0::/kubepods/pod7/box")
    machine.limit("kubepods/pod7/box", str(3 * GIB))
    machine.limit("kubepods/pod7", str(1 * GIB))
    machine.limit("kubepods", str(2 * GIB))
    assert sorted(machine.limits()) == [1 * GIB, 2 * GIB, 3 * GIB]
    assert min(machine.limits()) == 1 * GIB


def test_a_runs_group_is_not_the_machine(machine: FakeMachine) -> None:
    """A run reads the same machine as whoever launched it, not the limit that it was given itself."""
    machine.member_of("5:memory:/docker/a/ingest-run7")
    machine.limit("memory/docker/a/ingest-run7", str(500 * MIB), filename="memory.limit_in_bytes")
    machine.limit("memory/docker/a", str(2 * GIB), filename="memory.limit_in_bytes")
    assert machine.limits() == [2 * GIB]


def test_limits_of_ancestors_in_v1(machine: FakeMachine) -> None:
    """The limits of all ancestors are found in the tree that v1 keeps under `memory`."""
    machine.member_of("12:cpu,cpuacct:/docker/a", "5:memory:/docker/a", "1:name=systemd:/docker/a")
    machine.limit("memory/docker/a", str(2 * GIB), filename="memory.limit_in_bytes")
    machine.limit("memory/docker", str(1 * GIB), filename="memory.limit_in_bytes")
    machine.limit("memory", "9223372036854771712", filename="memory.limit_in_bytes")
    assert sorted(machine.limits()) == [1 * GIB, 2 * GIB]


def test_both_versions_side_by_side_are_read(machine: FakeMachine) -> None:
    """A hybrid machine has v1 memory and a v2 tree."""
    machine.member_of("4:memory:/a", "0::/b")
    machine.limit("memory/a", str(2 * GIB), filename="memory.limit_in_bytes")
    machine.limit("b", str(3 * GIB))
    assert sorted(machine.limits()) == [2 * GIB, 3 * GIB]


def test_memory_beside_another_controller(machine: FakeMachine) -> None:
    """The memory controller is found where it is mounted together with others."""
    machine.member_of("4:cpuset,memory:/a")
    machine.limit("memory/a", str(GIB), filename="memory.limit_in_bytes")
    assert machine.limits() == [GIB]


def test_max_means_no_limit(machine: FakeMachine) -> None:
    """`max` is a word of v2, not a number."""
    machine.member_of("0::/a/b")
    machine.limit("a/b", "max")
    machine.limit("a", "max")
    assert machine.limits() == []


def test_max_does_not_hide_a_parents_limit(machine: FakeMachine) -> None:
    """The walk goes on above a group whose limit is `max`, and above one without a file."""
    machine.member_of("0::/a/b/c")
    machine.limit("a/b/c", "max")
    (machine.root / "a" / "b").mkdir(exist_ok=True)
    machine.limit("a", str(GIB))
    assert machine.limits() == [GIB]


def test_a_hosts_path_is_the_mounts_root_v2(machine: FakeMachine) -> None:
    """In a container the path of the group is the host's and does not exist: the mount's root is our own group."""
    machine.member_of("0::/system.slice/docker-3f2a.scope")
    machine.limit("", str(700 * MIB))
    assert machine.limits() == [700 * MIB]


def test_a_hosts_path_is_the_mounts_root_v1(machine: FakeMachine) -> None:
    """In a container the path of a v1 group is the host's: the root of its controller is our own group."""
    machine.member_of("5:memory:/docker/on-the-host")
    machine.limit("memory", str(700 * MIB), filename="memory.limit_in_bytes")
    assert machine.limits() == [700 * MIB]


def test_a_group_above_the_mount(machine: FakeMachine) -> None:
    """A cgroup namespace shows a group beside its own as `/../other`: the limit at the mount is still found."""
    machine.limit("", str(600 * MIB))
    for path in ("/../other", "/..", "/../.."):
        machine.member_of(f"0::{path}")
        assert machine.limits() == [600 * MIB], path


def test_without_cgroups_there_is_no_limit(machine: FakeMachine) -> None:
    """No file, no line about memory, a limit that is no number: none of it is an error."""
    assert machine.limits() == []
    machine.member_of("3:cpu:/a")
    assert machine.limits() == []
    machine.member_of("0::/a")
    machine.limit("a", "not a number")
    assert machine.limits() == []


def test_the_smallest_limit_is_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine has no more memory than its group: the smallest limit counts, its size where there is none."""
    total = machine_memory_bytes()
    assert total > 64 * MIB
    monkeypatch.setattr(cgroup, "limits_bytes", lambda: [48 * MIB, 96 * MIB])
    assert machine_memory_bytes() == 48 * MIB


def test_the_machine_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's budget is the setting, or 80 % of the machine where it is 0."""
    monkeypatch.setattr(real_machine, "machine_memory_bytes", lambda: 10 * GIB)
    assert machine_budget_bytes(3 * GIB) == 3 * GIB
    assert machine_budget_bytes(0) == int(10 * GIB * MACHINE_SHARE)


@given(
    st.integers(min_value=16 * MIB, max_value=512 * GIB),
    st.integers(min_value=MIN_RUN_BYTES, max_value=64 * GIB),
    st.integers(min_value=1, max_value=500),
)
def test_slots_and_reserve_fit_the_machine(budget: int, run: int, most: int) -> None:
    """At least one run, and never so many that they and the services pass the machine's budget."""
    if run > budget:
        with pytest.raises(BadSetting):
            slots_of(limits(budget, run=run, most=most))
        return
    slots = slots_of(limits(budget, run=run, most=most))
    reserve = min(RESERVE_BYTES, int(budget * RESERVE_SHARE))
    assert 1 <= slots <= most
    assert slots * run + reserve <= budget or slots == 1
    assert slots * run <= budget
    assert slots == most or (slots + 1) * run + reserve > budget  # and no memory lies idle


def test_a_run_too_small_for_the_model() -> None:
    """A run that is too small for the model is a bad setting, said at the start and not by a kill later."""
    with pytest.raises(BadSetting, match=r"INGEST_RUN_MEMORY.*at least"):
        slots_of(limits(64 * GIB, run=MIN_RUN_BYTES - 1))
    assert slots_of(limits(64 * GIB, run=MIN_RUN_BYTES, most=1)) == 1
    budget = RunBudget.of(Settings(run_memory=MIN_RUN_BYTES), "openvino")
    assert budget.parser_bytes > 0
    assert budget.activation_bytes > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", [F32, BF16])
def test_least_budget_with_servers(engine: str, precision: str) -> None:
    """In the least budget that is accepted a micro-batch fits beside the clients of servers, for each engine."""
    run, accepted = ENGINES[engine].footprint(precision).minimum_bytes - 1, None
    while accepted is None:
        run += MIB
        budget = RunBudget.of(Settings(("s3://b/p",), run_memory=run), engine, precision)
        with contextlib.suppress(BadSetting):
            budget.require_room()
            accepted = budget
    activations = activation_bytes(accepted, batch_tokens(accepted, dimension=384), dimension=384)
    assert accepted.model_bytes + activations <= accepted.total_bytes
    assert accepted.total_bytes <= ENGINES[engine].footprint(precision).minimum_bytes + 65 * MIB


def test_each_engine_needs_its_own_budget() -> None:
    """A budget below the engine's least is a bad setting that names the engine."""
    torch = ENGINES["torch"].f32.minimum_bytes
    with pytest.raises(BadSetting, match=r"INGEST_RUN_MEMORY.*torch"):
        RunBudget.of(Settings(run_memory=torch - 1), "torch").require_room()
    RunBudget.of(Settings(run_memory=torch - 1), "openvino").require_room()
    with pytest.raises(BadSetting, match=r"INGEST_RUN_MEMORY.*openvino"):
        RunBudget.of(Settings(run_memory=MIN_RUN_BYTES - 1), "openvino").require_room()


@pytest.mark.parametrize(
    ("engine", "cores", "runs", "threads"),
    [
        ("torch", 8, 2, 4), ("torch", 2, 2, 1), ("torch", 2, 5, 1), ("torch", 4, 0, 4),
        ("openvino", 8, 2, 8), ("openvino", 2, 2, 2), ("openvino", 8, 8, 2), ("openvino", 1, 1, 1),
    ],
)  # fmt: skip
def test_threads(engine: str, cores: int, runs: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has its share of the cores; with OpenVINO twice that, so that the last run at work leaves none idle."""
    monkeypatch.setattr(real_machine, "usable_cores", lambda: cores)
    assert threads_of_run(RunBudget(GIB, engine), runs=runs) == threads


def test_slots_of_a_machine_of_8_gib() -> None:
    """8 GiB, of which one is the reserve, hold seven runs of 1 GiB."""
    assert slots_of(limits(8 * GIB, run=GIB, most=100)) == 7
    assert slots_of(limits(8 * GIB, run=GIB, most=2)) == 2
    assert slots_of(limits(GIB, run=GIB, most=100)) == 1


def test_cores_limit_the_runs() -> None:
    """Without INGEST_MAX_RUNS there is one run for each core: a run computes all the time that it is awake."""
    assert slots_of(limits(4096 * GIB, run=GIB)) == usable_cores()
    assert usable_cores() >= 1


def test_a_run_larger_than_the_machine() -> None:
    """A run that does not fit is a bad setting; the message names the variable and what the machine has."""
    with pytest.raises(BadSetting) as caught:
        slots_of(limits(GIB, run=GIB + 1))
    assert "INGEST_RUN_MEMORY" in str(caught.value)
    assert str(GIB) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(min_value=0, max_value=64 * GIB))
def test_a_run_leaves_room_for_itself(run: int) -> None:
    """The child's share and the headroom are inside the run's budget, and headroom is never negative."""
    for sources in (("/documents",), ("s3://bucket/documents",)):
        budget = RunBudget.of(Settings(run_memory=run, sources=sources), "openvino")
        assert budget.parser_bytes + budget.parent_bytes == run
        assert 0 <= budget.activation_bytes <= run
    assert RunBudget.of(Settings(), "openvino").activation_bytes > 0


def test_servers_cost_memory() -> None:
    """A run that reads servers leaves its parser less: the clients' libraries are in it."""
    folder, bucket = (
        RunBudget.of(Settings(sources=(source,)), "openvino") for source in ("/documents", "s3://bucket/documents")
    )
    assert folder.parser_bytes - bucket.parser_bytes == 64 * MIB
    assert RunBudget.of(Settings(sources=("file:///documents",)), "openvino") == folder


def test_the_kernel_holds_the_data_limit() -> None:
    """A process at its limit of data meets MemoryError, catches it, and can still say so."""
    done = run_python(
        "from ingest_pipeline.memory.process import limit_data_bytes\n"
        "limit_data_bytes(128 * 1024**2)\n"
        "small = bytearray(32 * 1024**2)\n"
        "try:\n"
        "    large = bytearray(256 * 1024**2)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    assert done.stdout.strip() == "refused", done.stderr


def test_small_objects_reach_the_limit_too() -> None:
    """The limit is on all private memory, not on one allocation."""
    done = run_python(
        "from ingest_pipeline.memory.process import limit_data_bytes, peak_memory_bytes\n"
        "limit_data_bytes(96 * 1024**2)\n"
        "kept = []\n"
        "try:\n"
        "    while True:\n"
        "        kept.append(bytearray(10_000))\n"
        "except MemoryError:\n"
        "    kept.clear()\n"
        "    print(peak_memory_bytes() < 160 * 1024**2)\n"
    )
    assert done.stdout.strip() == "True", done.stderr


def test_a_limit_cannot_be_raised_again() -> None:
    """Hostile code in the child cannot undo it without privileges: the hard limit is set as well."""
    done = run_python(
        "import resource\n"
        "from ingest_pipeline.memory.process import limit_data_bytes\n"
        "limit_data_bytes(200 * 1024**2)\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA) == (200 * 1024**2, 200 * 1024**2))\n"
    )
    assert done.stdout.strip() == "True", done.stderr


def test_a_spike_is_seen_until_the_reset() -> None:
    """The peak rises with a spike of 100 MB, stays after it, and falls with `reset_peak`."""
    done = run_python(
        "import json\n"
        "from ingest_pipeline.memory.process import peak_memory_bytes, reset_peak, return_free_memory\n"
        "reset_peak(); before = peak_memory_bytes()\n"
        "spike = bytearray(b'x') * (100 * 1000**2); during = peak_memory_bytes()\n"
        "del spike; return_free_memory(); after = peak_memory_bytes()\n"
        "reset_peak(); fresh = peak_memory_bytes()\n"
        "print(json.dumps([before, during, after, fresh]))\n"
    )
    before, during, after, fresh = json.loads(done.stdout)
    assert 95e6 < during - before < 120e6
    assert abs(after - during) < 2e6  # the kernel counts in batches of pages
    assert fresh < before + 10e6


def test_the_peak_of_another_process() -> None:
    """The run reads its child's peak; a process that is gone has none."""
    child = subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(b'x') * 60_000_000; print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert peak_memory_bytes(child.pid) > 60_000_000
    child.communicate(b"\n", timeout=20)
    assert peak_memory_bytes(child.pid) == 0


def test_this_process_has_a_peak() -> None:
    """Never 0, and not less than an interpreter needs."""
    assert peak_memory_bytes() > 5 * MIB
