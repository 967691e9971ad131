"""A kernel group for a run: made where it may be made, silently left out where not, never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from ingest_pipeline.instance.supervisor import Supervisor, cause_of_end
from ingest_pipeline.memory import cgroup as module
from ingest_pipeline.memory.cgroup import RunCgroup, make_cgroup

MIB = 1024**2
HOG = "x = bytearray(b'x') * ({} * 1024**2); print('survived')"


def fake_tree(folder: Path, cgroup: str, *groups: str) -> tuple[Path, Path]:
    """A `/proc/self` in these groups, and a `/sys/fs/cgroup` that has the folders."""
    proc, root = folder / "proc", folder / "sys"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    for name in groups:
        (root / name).mkdir(parents=True)
    return proc, root


def test_a_group_of_version_1(tmp_path: Path) -> None:
    """A group of v1 is made under our own, in the memory hierarchy, with its limit and no swap."""
    proc, root = fake_tree(tmp_path, "5:memory:/docker/a\n1:name=systemd:/docker/a\n", "memory/docker/a")
    group = make_cgroup("run1", 500 * MIB, proc=proc, root=root)
    assert group is not None
    assert group.folder == root / "memory/docker/a/ingest-run1"
    assert (group.folder / "memory.limit_in_bytes").read_text() == str(500 * MIB)
    assert (group.folder / "memory.memsw.limit_in_bytes").read_text() == str(500 * MIB)
    (group.folder / "memory.max_usage_in_bytes").write_text("123\n")
    (group.folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert (group.peak_bytes(), group.oom_kills()) == (123, 2)


def test_a_group_of_version_2(tmp_path: Path) -> None:
    """A group of v2 has the same limit and no swap, under other names."""
    proc, root = fake_tree(tmp_path, "0::/app\n", "app")
    group = make_cgroup("run1", 500 * MIB, proc=proc, root=root)
    assert group is not None
    assert (group.folder / "memory.max").read_text() == str(500 * MIB)
    assert (group.folder / "memory.swap.max").read_text() == "0"
    (group.folder / "memory.peak").write_text("123\n")
    (group.folder / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert (group.peak_bytes(), group.oom_kills()) == (123, 3)


@pytest.mark.parametrize("cgroup", ["", "0::/not/there\n", "4:cpu:/a\n"])
def test_without_a_writable_group(tmp_path: Path, cgroup: str) -> None:
    """Where no group can be written there is none, and the run goes on under its own limits."""
    proc, root = fake_tree(tmp_path, cgroup, "a")
    assert make_cgroup("run1", 500 * MIB, proc=proc, root=root) is None


def test_a_group_that_takes_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cgroup v2 makes the folder without a memory.max when the controller is not passed on: it is removed again."""
    proc, root = fake_tree(tmp_path, "0::/app\n", "app")

    def refuse(self: Path, text: str) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    assert make_cgroup("run1", 500 * MIB, proc=proc, root=root) is None
    assert not list((root / "app").iterdir())


def test_abandoned_groups_are_removed(tmp_path: Path) -> None:
    """Empty groups that a killed supervisor left go; those with processes, of others, or just made, stay."""
    proc, root = fake_tree(tmp_path, "0::/app\n", "app/ingest-busy", "app/somebody")
    (root / "app/ingest-busy/cgroup.procs").write_text("1\n")
    removed: list[str] = []
    for name in ("ingest-old", "ingest-starting"):
        (root / "app" / name).mkdir()
        (root / "app" / name / "cgroup.procs").write_text("")
    for name in ("ingest-old", "ingest-busy"):
        os.utime(root / "app" / name, (0, time.time() - 120))
    real = Path.rmdir

    def rmdir(self: Path) -> None:  # in a real group the kernel's files vanish with the folder
        removed.append(self.name)
        (self / "cgroup.procs").unlink(missing_ok=True)
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rmdir", rmdir)
        make_cgroup("new", 500 * MIB, proc=proc, root=root)
    assert removed == ["ingest-old"]


def test_a_group_of_the_same_name_stays(tmp_path: Path) -> None:
    """A group that another process has just made, and has not joined yet, is not removed by who comes second."""
    proc, root = fake_tree(tmp_path, "0::/app\n", "app/ingest-run")
    assert make_cgroup("run", 500 * MIB, proc=proc, root=root) is None
    assert (root / "app/ingest-run").is_dir()


def real_group(limit_bytes: int) -> RunCgroup | None:
    return make_cgroup(f"test-{uuid.uuid4().hex[:8]}", limit_bytes)


def test_the_limit_holds_for_the_whole_tree() -> None:
    """Where groups can be made: two children under the limit each, over it together; one is killed, and counted.

    Where they cannot, `make_cgroup` has said so.
    """
    group = real_group(150 * MIB)
    if group is None:
        assert not any(os.access(path, os.W_OK) for path in (module.ROOT / "memory", module.ROOT))
        return
    try:
        script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOG.format(100)!r}]); " + HOG.format(
            90
        )
        alone = subprocess.run([sys.executable, "-c", HOG.format(100)], preexec_fn=group.join, capture_output=True)
        assert alone.stdout == b"survived\n"
        assert group.oom_kills() == 0
        nested = "x = bytearray(b'x') * (90 * 1024**2); " + script
        subprocess.run([sys.executable, "-c", nested], preexec_fn=group.join, capture_output=True)
        assert group.oom_kills() >= 1
        assert (group.peak_bytes() or 0) > 100 * MIB
    finally:
        group.remove()
    assert not group.folder.exists()


def test_the_record_has_the_groups_numbers(tmp_path: Path) -> None:
    """The group's peak and its kills are in the run's record, and the group is gone."""
    import json

    record = tmp_path / "run.json"
    supervisor = Supervisor(record, 400 * MIB, 1)
    supervisor.run([sys.executable, "-c", HOG.format(50)])
    facts = json.loads(record.read_text())
    assert facts["code"] == 0
    if supervisor.group is not None:
        assert 50 * MIB < facts["group_peak_bytes"] < 400 * MIB
        assert facts["oom_kills"] == 0
        assert not supervisor.group.folder.exists()


def test_the_cause_says_who_killed() -> None:
    """The cause of a run's end names the kernel, as far as anybody can know."""
    assert "most likely by the kernel for memory" in cause_of_end(-9, 5)
    assert "by the kernel, for memory" in cause_of_end(-9, 5, oom_kills=1)
    assert "not by the limit of its own group" in cause_of_end(-9, 5, oom_kills=0)
    assert cause_of_end(-15, 5, oom_kills=0) == "SIGTERM"
    assert cause_of_end(1, 5) == "exit code 1"


def test_joining_a_group_writes_the_pid(tmp_path: Path) -> None:
    """The calling process moves; its children follow by themselves."""
    RunCgroup(tmp_path, module.V2).join()
    assert (tmp_path / "cgroup.procs").read_text() == str(os.getpid())


@pytest.mark.parametrize("names", [module.V1, module.V2])
@pytest.mark.parametrize("text", [None, "", "max\n", "oom 3\n"])
def test_a_silent_group_has_no_numbers(tmp_path: Path, names: module.Names, text: str | None) -> None:
    """Files that are missing or say something else: no peak, and no kill that was counted."""
    if text is not None:
        for name in (names.peak, names.events):
            (tmp_path / name).write_text(text)
    group = RunCgroup(tmp_path, names)
    assert (group.peak_bytes(), group.oom_kills()) == (None, 0)


def test_a_busy_group_is_left_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group with a process cannot be removed: after a while nobody waits any longer."""
    monkeypatch.setattr(module, "REMOVE_SECONDS", 0.2)
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "busy").write_text("")
    RunCgroup(tmp_path / "group", module.V2).remove()
    assert (tmp_path / "group").is_dir()


def test_a_group_is_removed_when_it_is_empty(tmp_path: Path) -> None:
    """The kernel takes a moment to bury the last process: removing is tried until it works; twice does no harm."""
    folder = tmp_path / "group"
    folder.mkdir()
    (folder / "busy").write_text("")
    thread = threading.Timer(0.2, (folder / "busy").unlink)
    thread.start()
    RunCgroup(folder, module.V2).remove()
    thread.join()
    assert not folder.exists()
    RunCgroup(folder, module.V2).remove()


def test_swap_that_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without swap accounting gives a group all the same."""
    proc, root = fake_tree(tmp_path, "0::/app\n", "app")
    real = Path.write_text

    def write(self: Path, text: str) -> int:
        if "swap" in self.name:
            raise PermissionError
        return real(self, text)

    monkeypatch.setattr(Path, "write_text", write)
    group = make_cgroup("run1", 500 * MIB, proc=proc, root=root)
    assert group is not None
    assert (group.folder / "memory.max").exists()


def test_limits_of_all_ancestors(tmp_path: Path) -> None:
    """Every limit from this process's group up to the root counts, except that of a run's own group."""
    proc, root = fake_tree(tmp_path, "0::/outer/inner/ingest-run1\n", "outer/inner/ingest-run1")
    for name, text in (("", "max"), ("outer", "700"), ("outer/inner", "900"), ("outer/inner/ingest-run1", "500")):
        (root / name / "memory.max").write_text(f"{text}\n")
    assert module.limits_bytes(proc, root) == [900, 700]


def test_limits_of_version_1(tmp_path: Path) -> None:
    """A number near 2**63 is no limit; a path of the host's is read at the root of the container."""
    proc, root = fake_tree(tmp_path, "4:cpu,memory:/host/path\n2:cpu:/a\n", "memory")
    limit = root / "memory" / "memory.limit_in_bytes"
    limit.write_text("9223372036854771712\n")
    assert module.limits_bytes(proc, root) == []
    limit.write_text("600\n")
    assert module.limits_bytes(proc, root) == [600]
    [group] = module.memory_cgroups(proc, root)
    assert (group.folder, group.path_is_ours) == (root / "memory", False)


def test_no_groups_at_all(tmp_path: Path) -> None:
    """Without `/proc/self/cgroup` there are no groups and no limits."""
    assert module.memory_cgroups(tmp_path, tmp_path) == []
    assert module.limits_bytes(tmp_path, tmp_path) == []
