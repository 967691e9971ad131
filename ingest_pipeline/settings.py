"""The `INGEST_*` environment, read once by whoever starts a process and handed on as a plain value."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from ingest_pipeline.errors import BadSetting

SAMPLES = Path(__file__).parent / "samples"
UNITS = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "kb": 1000,
    "m": 1024**2, "mib": 1024**2, "mb": 1000**2,
    "g": 1024**3, "gib": 1024**3, "gb": 1000**3,
    "t": 1024**4, "tib": 1024**4, "tb": 1000**4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default; the README's table lists the same names."""

    sources: tuple[str, ...] = (str(SAMPLES),)
    home: Path = Path(".ingest")
    database_url: str = ""
    """Empty: the embedded Postgres under `home`."""
    run_memory: int = 1024**3
    """Bytes that one run may use at its peak, all its processes together."""
    machine_memory: int = 0
    """Bytes that everything together may use; 0 means 80 % of the machine or its cgroup."""
    max_runs: int = 0
    """Runs at once at most, whatever the memory allows; 0 means one for each core."""
    max_file_size: int = 50 * 1024**2
    max_pages: int = 20_000
    batch_files: int = 100
    batch_minutes: float = 5.0
    """Predicted length of a batch: long against the 8 s of start-up, short enough to lose."""
    page_seconds: float = 30.0
    """Three such waits without a page fail a file: within two minutes. The slowest page of the corpus takes 2 s."""
    file_seconds: float = 1800.0
    model: str = "all-MiniLM-L6-v2"
    engine: str = "auto"
    """Who computes vectors; `auto` is torch where `run_memory` holds it, OpenVINO under that."""
    pdf_passwords: tuple[str, ...] = ()
    """Tried on PDFs that the empty password does not open; never logged or stored."""
    record_text: str = ""
    """How a record (CSV, TSV, JSONL, Parquet) becomes text: `{title}. {abstract}`; empty: every field with its name."""
    record_id: str = "id"
    """The field that names a record in search results."""
    s3_endpoint: str = ""
    """Of an S3 server that is not Amazon's: `http://minio:9000`."""
    allow_gaps: bool = True
    """Whether a file of which some pages could not be read may be indexed with these gaps recorded."""
    max_errors: int = 10
    """Errors of infrastructure (database, model, disk) with one cause in a row before everything stops."""
    max_failed_share: float = 1.0
    """Share of failed documents above which everything stops; 1 is never."""
    schedule: str = "0 * * * *"
    ui_port: int = 3000


def parse_size(text: str) -> int:
    """Return the bytes that a size such as `512MiB`, `1.5 GiB`, `50MB` or `1073741824` names.

    Raises:
        ValueError: not a positive size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in UNITS:
        raise ValueError(text)
    size = int(float(match[1]) * UNITS[match[2].lower()])
    if size <= 0:
        raise ValueError(text)
    return size


def format_size(size_bytes: float) -> str:
    """Return bytes as a short text in the binary unit that suits, such as `512 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024 or unit == "GiB":
            return f"{size_bytes:.0f} {unit}" if unit in ("B", "KiB") else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError("unreachable")


def _positive_int(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _positive_number(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _listed(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ValueError(text)
    return found


def _port(text: str) -> int:
    value = int(text)
    if not 0 < value < 65536:
        raise ValueError(text)
    return value


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError(text)
    return text


def _flag(text: str) -> bool:
    return {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}[
        text.lower()
    ]


def _share(text: str) -> float:
    value = 1.0 if text == "off" else float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _template(text: str) -> str:
    if not re.search(r"\{[^{}]+\}", text):
        raise ValueError(text)
    return text


def _endpoint(text: str) -> str:
    if not text.startswith(("http://", "https://")) or "@" in text:
        raise ValueError(text)
    return text.rstrip("/")


def _engine(text: str) -> str:
    if text not in ("auto", "torch", "openvino"):
        raise ValueError(text)
    return text


def _cron(text: str) -> str:
    if not re.fullmatch(r"\S+( \S+){4}", text.strip()):
        raise ValueError(text)
    return text.strip()


SECRETS = ("database_url", "pdf_passwords", "s3_endpoint")  # a URL may hold a password
SIZE, COUNT, NUMBER = "a size such as 512MiB or 1GiB", "a whole number above 0", "a number above 0"
READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "sources": (_listed, "folders, buckets or lists, with commas between them"),
    "home": (lambda text: Path(text).expanduser(), "a folder"),
    "database_url": (_database_url, "postgresql://user:password@host:port/database"),
    "run_memory": (parse_size, SIZE),
    "machine_memory": (lambda text: 0 if text == "0" else parse_size(text), f"{SIZE}; 0 means 80 % of the machine"),
    "max_runs": (_count, "a whole number; 0 means one for each core"),
    "max_file_size": (parse_size, SIZE),
    "max_pages": (_positive_int, COUNT),
    "batch_files": (_positive_int, COUNT),
    "batch_minutes": (_positive_number, NUMBER),
    "page_seconds": (_positive_number, NUMBER),
    "file_seconds": (_positive_number, NUMBER),
    "model": (str.strip, "a model's name or folder"),
    "engine": (_engine, "auto, torch or openvino"),
    "pdf_passwords": (_listed, "passwords, with commas between them"),
    "record_text": (_template, "a text with fields in braces, such as {title}. {abstract}"),
    "record_id": (str, "a field's name"),
    "s3_endpoint": (_endpoint, "http://host:port, without a password"),
    "allow_gaps": (_flag, "on or off"),
    "max_errors": (_positive_int, COUNT),
    "max_failed_share": (_share, "a share from 0 to 1, or off"),
    "schedule": (_cron, "a cron line of five fields"),
    "ui_port": (_port, "a port number"),
}


def variable(name: str) -> str:
    """Return the environment variable of a setting: `run_memory` -> `INGEST_RUN_MEMORY`."""
    return f"INGEST_{name.upper()}"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that the environment asks for; `home` is made absolute.

    Raises:
        BadSetting: a value that cannot be used; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for setting in fields(Settings):
        text = environ.get(variable(setting.name), "").strip()
        if text:
            values[setting.name] = _read(setting.name, text)
    settings = Settings(**values)  # type: ignore[arg-type]
    return _with_absolute_home(settings)


def _read(name: str, text: str) -> object:
    read, expected = READERS[name]
    try:
        return read(text)
    except (ValueError, KeyError, OverflowError, RuntimeError):  # RuntimeError: `~nobody` has no home
        shown = "…" if name in SECRETS else text
        raise BadSetting(variable(name), shown, expected) from None


def _with_absolute_home(settings: Settings) -> Settings:
    values = {setting.name: getattr(settings, setting.name) for setting in fields(Settings)}
    return Settings(**{**values, "home": Path(settings.home).absolute()})
