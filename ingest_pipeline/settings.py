"""The table of settings: each field of `Settings` has its default, reader, expected form and help.

The environment variables, the fields of the `ingest` resource, docs/settings.md and the environment of child processes
are derived from this table. A process reads the environment at its start and passes the settings on as a value; only
the classes that dagster.yaml names read it at each call.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from ingest_pipeline.engines import AUTO, BF16, ENGINES, F32, LOCAL, ON_THIS_MACHINE, SERVERS
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.schemes import scheme_of
from ingest_pipeline.sizes import parse_size

SAMPLES = Path(__file__).parent / "samples"
SIZE, COUNT, NUMBER = "a size such as 512MiB or 1GiB", "a whole number above 0", "a number above 0"


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """The description of a setting, beside its name, type and default."""

    read: Callable[[str], object]
    """Parses a text; raises ValueError, KeyError or OverflowError if it is invalid."""
    expected: str
    """The expected form of the text, for error messages."""
    help: str
    write: Callable[[Any], str] = str
    """The inverse of `read`."""
    default_text: str = ""
    """The default in the documentation; empty: as `write` returns it."""
    of_instance: bool = False
    """True for settings that Dagster's instance (launcher, queue, storage, schedule) or the server needs: these have no
    resource, so such a setting is read from the environment only and is not a field of the resource."""
    secret: bool = False
    """True when the value may contain a password: it is never shown."""


def _setting(default: Any, read: Callable[[str], object], expected: str, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"info": SettingInfo(read, expected, help, **more)})


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
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise ValueError(text)
    return parts


def _port(text: str) -> int:
    value = int(text)
    if not 0 < value < 65536:
        raise ValueError(text)
    return value


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


def _token(text: str) -> str:
    if not re.fullmatch(r"[!-~]{16,256}", text):  # it goes into a header
        raise ValueError(text)
    return text


def _host_names(text: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in _listed(text))
    if not all(re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", name) for name in names):
        raise ValueError(text)
    return names


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError(text)
    return text


def _flag(text: str) -> bool:
    return {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}[
        text.lower()
    ]


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


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
    if text not in ENGINES or ENGINES[text].server:
        raise ValueError(text)
    return text


def _one_of(*values: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return read


def _engines_help() -> str:
    return ", ".join(f"`{name}`" + f" ({engine.help})" * bool(engine.help) for name, engine in ON_THIS_MACHINE.items())


def _workers(text: str) -> int:
    value = int(text)
    if value not in (1, 2):
        raise ValueError(text)
    return value


def _cron(text: str) -> str:
    if not re.fullmatch(r"\S+( \S+){4}", text.strip()):
        raise ValueError(text)
    return text.strip()


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # `~name` of a user that does not exist
        raise ValueError(text) from error


def _write_sources(sources: tuple[str, ...]) -> str:
    # Absolute, because a child process may run in another folder.
    return ",".join(source if "://" in source else str(Path(source).expanduser().absolute()) for source in sources)


def _write_file(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else path  # a child process may run in another folder


def _write_model(model: str) -> str:
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def _write_number(number: float) -> str:
    return f"{number:.17g}"  # 17 digits give the same float again


def _write_flag(flag: bool) -> str:
    return "on" if flag else "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; the help of each describes it."""

    sources: tuple[str, ...] = _setting(
        (str(SAMPLES),), _listed, "folders, buckets or lists, with commas between them",
        "Where documents are: folders, `s3://bucket/prefix`, `http(s)://` lists, with commas between them.",
        write=_write_sources, default_text="the samples",
    )  # fmt: skip
    s3_endpoint: str = _setting(
        "", _endpoint, "http://host:port, without a password",
        "An S3 server that is not Amazon's: `http://minio:9000`.", default_text="empty: Amazon", secret=True,
    )  # fmt: skip
    home: Path = _setting(
        Path(".ingest"), _folder, "a folder",
        "Where the embedded Postgres, Dagster's files, exported models and records of runs are.", of_instance=True,
    )  # fmt: skip
    database_url: str = _setting(
        "", _database_url, "postgresql://user:password@host:port/database",
        "Your own Postgres with pgvector 0.8 or later.",
        default_text="empty: the embedded one", of_instance=True, secret=True,
    )  # fmt: skip
    run_memory: int = _setting(
        1024**3, parse_size, SIZE,
        "What one run may use at its peak, all its processes together; at least 416MiB (352MiB where OpenVINO computes "
        "in bf16, 768MiB with `INGEST_ENGINE=torch`).", default_text="1GiB", of_instance=True,
    )  # fmt: skip
    machine_memory: int = _setting(
        0, lambda text: 0 if text == "0" else parse_size(text), f"{SIZE}; 0 means 80 % of the machine",
        "What everything together may use.", default_text="80 % of the machine or its cgroup", of_instance=True,
    )  # fmt: skip
    max_runs: int = _setting(
        0, _count, "a whole number; 0 means one for each core",
        "Runs at once at most, whatever the memory allows.", default_text="0: one for each core", of_instance=True,
    )  # fmt: skip
    max_file_size: int = _setting(50 * 1024**2, parse_size, SIZE, "Larger files are refused.", default_text="50MiB")
    max_pages: int = _setting(20_000, _positive_int, COUNT, "Longer documents are refused.")
    batch_files: int = _setting(1000, _positive_int, COUNT, "Files in one batch at most.")
    batch_minutes: float = _setting(
        5.0, _positive_number, NUMBER,
        "Longest predicted duration of a batch, in minutes. A shorter one loses less when its run is killed.",
        write=_write_number,
    )  # fmt: skip
    page_seconds: float = _setting(
        # Three such waits fail a file within two minutes; the slowest page takes 2 s (docs/findings.md, E10).
        30.0, _positive_number, NUMBER,
        "The longest that one page may take, in seconds.", write=_write_number,
    )  # fmt: skip
    file_seconds: float = _setting(
        1800.0, _positive_number, NUMBER, "The longest that parsing one file may take, in seconds.",
        write=_write_number,
    )  # fmt: skip
    pdf_passwords: tuple[str, ...] = _setting(
        (), _listed, "passwords, with commas between them",
        "Tried on PDFs that do not open without one; never logged or stored. New ones: the next catalog tries the "
        "locked files again.", write=",".join, default_text="none", secret=True,
    )  # fmt: skip
    record_text: str = _setting(
        "", _template, "a text with fields in braces, such as {title}. {abstract}",
        "How a record (CSV, TSV, JSON, JSONL, Parquet) becomes text, such as `{title}. {abstract}` or `{meta.source}`.",
        default_text="every field with its name",
    )  # fmt: skip
    record_id: str = _setting("id", str, "a field's name", "The field that names a record in search results.")
    allow_gaps: bool = _setting(
        True, _flag, "on or off",
        "Whether a file of which some pages could not be read is `indexed` with the gaps recorded; off: "
        "`failed: UnreadablePages`.", write=_write_flag,
    )  # fmt: skip
    max_errors: int = _setting(
        10, _positive_int, COUNT,
        "Errors of infrastructure (database, model, disk) with the same cause in a row before everything stops with "
        "exit code 3.",
    )  # fmt: skip
    max_failed_share: float = _setting(
        1.0, _share, "a share from 0 to 1, or off",
        "Share of failed documents above which everything stops with exit code 3.", default_text="off",
    )  # fmt: skip
    retention_days: int = _setting(
        30, _positive_int, COUNT,
        "Days for which Dagster's history keeps everything of a run, if it is among the newest 1,000. Of an older one "
        "the nightly job `retention` keeps how it ended and what it materialized.", of_instance=True,
    )  # fmt: skip
    model: str = _setting(
        "all-MiniLM-L6-v2", str.strip, "a model's name or folder",
        "A sentence-transformers model; the default comes with the package.", write=_write_model, of_instance=True,
    )  # fmt: skip
    engine: str = _setting(
        AUTO, _engine, f"{AUTO}, {' or '.join(ON_THIS_MACHINE)}",
        f"Who computes vectors: {_engines_help()}, or `{AUTO}`: the first that can compute the model.",
        of_instance=True,
    )  # fmt: skip
    precision: str = _setting(
        AUTO, _one_of(AUTO, F32, BF16), "auto, f32 or bf16",
        "In what precision OpenVINO computes; `auto`: bf16 where the processor has instructions for it, else f32. The "
        "vectors are the same (cosine above 0.9999); torch computes in f32.",
        of_instance=True,
    )  # fmt: skip
    embedder: str = _setting(
        LOCAL, _one_of(LOCAL, *SERVERS), f"{LOCAL} or {' or '.join(SERVERS)}",
        "Where vectors are computed: on this machine, or by a server of the OpenAI protocol (OpenAI, Azure, Ollama, "
        "vLLM, TEI, llama.cpp). Its key is read from `OPENAI_API_KEY`, and never stored or logged.", of_instance=True,
    )  # fmt: skip
    embedder_url: str = _setting(
        "https://api.openai.com/v1", _endpoint, "http(s)://host/path, without a password",
        "Where the embedder's server is.", of_instance=True, secret=True, default_text="OpenAI",
    )  # fmt: skip
    query_model: str = _setting(
        "", str.strip, "a model's name", "Model of the embedder's server for queries, if it is called otherwise.",
        default_text="`INGEST_MODEL`", of_instance=True,
    )  # fmt: skip
    passage_prefix: str = _setting(
        "", str, "a text", "Written before each chunk that is embedded, with a space between them: `passage:` for E5.",
        default_text="none", of_instance=True,
    )  # fmt: skip
    query_prefix: str = _setting(
        "", str, "a text", "Written before each query, with a space between them: `query:` for E5.",
        default_text="none", of_instance=True,
    )  # fmt: skip
    dimensions: int = _setting(
        0, _count, "a whole number; 0 means the model's own",
        "To how many dimensions the embedder's server shortens its vectors, for models that can.",
        default_text="0: the model's own, which is asked for once", of_instance=True,
    )  # fmt: skip
    chunk_tokens: int = _setting(
        0, _count, "a whole number; 0 means what the model takes",
        "Tokens in a chunk at most.", default_text="what the model takes, at most 512", of_instance=True,
    )  # fmt: skip
    model_tokens: int = _setting(
        0, _count, "a whole number; 0 means what is known of the model",
        "Tokens that the model on the embedder's server takes.", default_text="8,191 for OpenAI's, else 512",
        of_instance=True,
    )  # fmt: skip
    tokenizer: str = _setting(
        "", str.strip, "a file tokenizer.json, or a model that has one",
        "What counts the tokens for the embedder's server.",
        default_text="two bytes of text count as one token", of_instance=True,
    )  # fmt: skip
    embedder_concurrency: int = _setting(
        1, _positive_int, COUNT, "Calls of the embedder's server at once; 1: one after another.", of_instance=True,
    )  # fmt: skip
    embedder_calls_per_minute: int = _setting(
        0, _count, "a whole number; 0 means no limit", "Calls of the embedder's server in a minute at most.",
        default_text="no limit", of_instance=True,
    )  # fmt: skip
    embedder_tokens_per_minute: int = _setting(
        0, _count, "a whole number; 0 means no limit", "Tokens sent to the embedder's server in a minute at most.",
        default_text="no limit", of_instance=True,
    )  # fmt: skip
    embedder_pause_seconds: float = _setting(
        0.0, _seconds, "a number of seconds, 0 or more", "Pause between two calls of the embedder's server.",
        write=_write_number, of_instance=True,
    )  # fmt: skip
    embedder_call_seconds: float = _setting(
        60.0, _positive_number, NUMBER, "The longest that one call of the embedder's server may take, in seconds.",
        write=_write_number, of_instance=True,
    )  # fmt: skip
    embed: str = _setting(
        "now", _one_of("now", "on-demand"), "now or on-demand",
        "When vectors are made: with the chunks, or when `ingest embed` asks for them.",
    )  # fmt: skip
    embed_batch: int = _setting(
        0, _count, "a whole number; 0 means as many as their tokens allow",
        "Texts in one micro-batch, one call and one commit at most.",
        default_text="as their tokens allow; 32 in a call of a server",
    )  # fmt: skip
    max_rejected: int = _setting(
        10, _positive_int, COUNT,
        "Chunks of one file that the embedder may reject before the file fails as `TooManyRejected`. Fewer are noted, "
        "and the file is indexed without them.",
    )  # fmt: skip
    max_tokens_per_run: int = _setting(
        0, _count, "a whole number; 0 means no limit",
        "Tokens that a run may send to servers and receive; then it stops, and what is left waits.",
        default_text="no limit",
    )  # fmt: skip
    extract: str = _setting(
        "", str.strip, "the path of a YAML file",
        "What an LLM is asked about each section of a document; empty: nothing. See docs/models.md.",
        default_text="nothing", write=_write_file,
    )  # fmt: skip
    extract_mode: str = _setting(
        "sequential", _one_of("sequential", "concurrent", "hybrid"), "sequential, concurrent or hybrid",
        "One section at a time, several at once, or one at a time only for files above `INGEST_EXTRACT_HYBRID_SIZE`.",
    )  # fmt: skip
    extract_concurrency: int = _setting(
        2, _positive_int, COUNT, "Sections that are asked about at once, if not one at a time.",
    )  # fmt: skip
    extract_hybrid_size: int = _setting(
        10 * 1024**2, parse_size, SIZE, "Larger files are asked about one section at a time in `hybrid`.",
        default_text="10MiB",
    )  # fmt: skip
    extract_delay_seconds: float = _setting(
        0.1, _seconds, "a number of seconds, 0 or more", "Pause between two calls of the LLM's server.",
        write=_write_number,
    )  # fmt: skip
    extract_call_seconds: float = _setting(
        600.0, _positive_number, NUMBER, "The longest that one call of the LLM's server may take, in seconds.",
        write=_write_number,
    )  # fmt: skip
    extract_document_seconds: float = _setting(
        1800.0, _positive_number, NUMBER,
        "After so many seconds no more sections of a document are asked about in this run; the rest waits.",
        write=_write_number,
    )  # fmt: skip
    extract_run_seconds: float = _setting(
        1800.0, _positive_number, NUMBER,
        "After so many seconds a run asks about no more sections; what is left waits in a new batch.",
        write=_write_number,
    )  # fmt: skip
    entity_model: str = _setting(
        "", str.strip, "a spaCy model's package or folder",
        "A spaCy model that finds named entities in chunks of its language, such as `en_core_web_sm`; needs "
        "`pip install 'ingest-pipeline[entities]'` and the model's package.", write=_write_model,
        default_text="empty: off",
    )  # fmt: skip
    entity_workers: int = _setting(
        1, _workers, "1 or 2",
        "Processes that find entities at once at most, 170 MiB each; fewer where the run's memory holds no more.",
    )  # fmt: skip
    log_format: str = _setting(
        "text", _one_of("text", "json"), "text or json",
        "How commands and runs write their log to the standard error: as text, or one JSON object on each line.",
        of_instance=True,
    )  # fmt: skip
    schedule: str = _setting(
        "0 * * * *", _cron, "a cron line of five fields",
        "When `catalog_schedule` lists the sources, once you turn it on.", of_instance=True,
    )  # fmt: skip
    ui_port: int = _setting(3000, _port, "a port number", "Port of `ingest ui`.", of_instance=True)
    ui_host: str = _setting(
        "127.0.0.1", _address, "an IPv4 address",
        "Address that `ingest ui` listens on. The UI asks for no password: `0.0.0.0` only in a container whose port is "
        "published to this machine alone, or behind a proxy that asks.", of_instance=True,
    )  # fmt: skip
    service_port: int = _setting(3080, _port, "a port number", "Port of `ingest serve`.", of_instance=True)
    service_host: str = _setting(
        "127.0.0.1", _address, "an IPv4 address",
        "Address that `ingest serve` listens on. Any other than `127.…` needs `INGEST_SERVICE_TOKEN`.",
        of_instance=True,
    )  # fmt: skip
    service_token: str = _setting(
        "", _token, "16 to 256 letters, digits and signs without spaces, such as `openssl rand -hex 16` prints",
        "Who writes through `ingest serve` has to show it, and on another address than `127.…` who reads, too; without "
        "one nobody writes.", default_text="none", of_instance=True, secret=True,
    )  # fmt: skip
    service_names: tuple[str, ...] = _setting(
        (), _host_names, "host names without ports, with commas between them",
        "Names by which others call `ingest serve`: of this machine, of its container, or of the proxy before it. Who "
        "calls it by one of them has to show the token.", write=",".join, default_text="none", of_instance=True,
    )  # fmt: skip

    @property
    def reads_servers(self) -> bool:
        """Whether a run with these settings needs the client libraries for servers."""
        return any((scheme := scheme_of(source)) is not None and scheme.on_server for source in self.sources)

    def environ(self) -> dict[str, str]:
        """Return the environment variables that pass these settings to a child process; paths are absolute.

        `read_settings` of them returns equivalent settings. A setting with its default value is left out, unless it is
        a path.
        """
        written = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value != setting.default or isinstance(value, Path):
                written[variable(setting.name)] = info_of(setting).write(value)
        return written


def info_of(setting: Field[Any]) -> SettingInfo:
    """Return the description of a field of `Settings`."""
    info: SettingInfo = setting.metadata["info"]
    return info


def variable(name: str) -> str:
    """Return the environment variable of a setting: `run_memory` -> `INGEST_RUN_MEMORY`."""
    return f"INGEST_{name.upper()}"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in the environment; `home` is made absolute.

    Raises:
        BadSetting: a value that cannot be used; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        text = environ.get(variable(setting.name), "").strip()
        if text:  # an empty variable means the default, as in compose files
            values[setting.name] = _read(setting, text)
    home = values.get("home", Settings.__dataclass_fields__["home"].default)
    return Settings(**{**values, "home": home.absolute()})


def _read(setting: Field[Any], text: str) -> object:
    info = info_of(setting)
    try:
        return info.read(text)
    except (ValueError, KeyError, OverflowError):
        raise BadSetting(variable(setting.name), "…" if info.secret else text, info.expected) from None
