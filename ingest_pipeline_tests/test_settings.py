"""The `INGEST_*` environment: defaults, every kind of bad value, one clear line for each."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.errors import BadSetting, ConfigurationError
from ingest_pipeline.settings import SAMPLES, Settings, info_of, read_settings, variable
from ingest_pipeline.sizes import counted, format_size, parse_size

BAD = [
    ("extract_mode", "parallel"),
    ("extract_concurrency", "0"),
    ("extract_hybrid_size", "large"),
    ("extract_delay_seconds", "-0.1"),
    ("extract_call_seconds", "0"),
    ("extract_document_seconds", "soon"),
    ("extract_run_seconds", "-1"),
    ("entity_workers", "3"),
    ("embedder", "cohere"),
    ("embedder_url", "http://user:hunter2@host/v1"),
    ("dimensions", "-1"),
    ("chunk_tokens", "many"),
    ("model_tokens", "1.5"),
    ("retention_days", "0"),
    ("log_format", "xml"),
    ("embedder_concurrency", "0"),
    ("embedder_calls_per_minute", "-1"),
    ("embedder_tokens_per_minute", "lots"),
    ("embedder_pause_seconds", "-1"),
    ("embedder_call_seconds", "0"),
    ("embed", "never"),
    ("embed_batch", "-3"),
    ("max_rejected", "0"),
    ("max_tokens_per_run", "1k"),
    ("sources", ","),
    ("sources", " , ,"),
    ("home", "~no-such-user-at-all/ingest"),
    ("database_url", "mysql://user:hunter2@host/db"),
    ("database_url", "host=localhost password=hunter2"),
    ("run_memory", "a lot"),
    ("run_memory", "-1GiB"),
    ("run_memory", "0"),
    ("run_memory", "1 GB extra"),
    ("run_memory", "1EiB"),
    ("run_memory", "inf"),
    ("run_memory", "nan"),
    ("run_memory", "9" * 400),
    ("run_memory", "0.1"),
    ("machine_memory", "most of it"),
    ("max_runs", "-1"),
    ("max_runs", "2.5"),
    ("max_runs", "two"),
    ("max_file_size", "0MiB"),
    ("max_file_size", "MiB"),
    ("max_pages", "0"),
    ("max_pages", "1e3"),
    ("batch_files", "-5"),
    ("batch_files", "many"),
    ("batch_minutes", "0"),
    ("batch_minutes", "nan"),
    ("batch_minutes", "inf"),
    ("pdf_passwords", ","),
    ("record_text", "no field at all"),
    ("s3_endpoint", "minio:9000"),
    ("s3_endpoint", "http://user:hunter2@minio:9000"),
    ("page_seconds", "-1"),
    ("page_seconds", "soon"),
    ("file_seconds", "1h"),
    ("engine", "cuda"),
    ("precision", "f16"),
    ("allow_gaps", "maybe"),
    ("max_errors", "0"),
    ("max_failed_share", "1.5"),
    ("max_failed_share", "nan"),
    ("schedule", "hourly"),
    ("schedule", "0 * * *"),
    ("ui_port", "0"),
    ("ui_port", "65536"),
    ("ui_port", "http"),
    ("ui_host", "localhost"),
    ("ui_host", "::1"),
    ("service_port", "70000"),
    ("service_host", "localhost"),
    ("service_token", "too short"),
    ("service_token", "a token with spaces in it"),
    ("service_token", "x" * 257),
    ("service_names", "http://host"),
    ("service_names", "host:3080"),
]


def test_no_variables_are_a_configuration() -> None:
    """An empty environment gives every setting its default."""
    settings = read_settings({})
    expected = Settings()
    for field in fields(Settings):
        if field.name != "home":
            assert getattr(settings, field.name) == getattr(expected, field.name), field.name
    assert settings.sources == (str(SAMPLES),)
    assert settings.database_url == ""
    assert settings.run_memory == 1024**3
    assert settings.model == "all-MiniLM-L6-v2"


def test_the_default_source_is_there() -> None:
    """The folder that the default source names holds documents: the first start finds some."""
    assert any(path.is_file() for path in SAMPLES.rglob("*"))


def test_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that changes its folder later keeps its home."""
    monkeypatch.chdir(tmp_path)
    assert read_settings({}).home == tmp_path / ".ingest"
    assert read_settings({"INGEST_HOME": "data/here"}).home == tmp_path / "data" / "here"


def test_a_tilde_in_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~/ingest` is not a folder called `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_settings({"INGEST_HOME": "~/ingest"}).home == tmp_path / "ingest"


def test_a_mapping_replaces_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests and launchers hand over a mapping of their own; the environment is not read then."""
    monkeypatch.setenv("INGEST_MAX_PAGES", "7")
    assert read_settings({"INGEST_MAX_PAGES": "9"}).max_pages == 9
    assert read_settings({}).max_pages == Settings().max_pages
    assert read_settings().max_pages == 7


def test_settings_have_readers_and_variables() -> None:
    """Each setting has a reader and a variable of its own: one that nobody can set would be a constant."""
    names = [field.name for field in fields(Settings)]
    assert all(info_of(field).help.endswith((".", "`.")) for field in fields(Settings))
    assert variable("run_memory") == "INGEST_RUN_MEMORY"
    assert len({variable(name) for name in names}) == len(names)


def test_every_setting_can_be_set() -> None:
    """Good values arrive as the type that the setting has."""
    environ = {
        "INGEST_SOURCES": " ./a , /b ,, ",
        "INGEST_HOME": "/data",
        "INGEST_DATABASE_URL": "postgresql://u:p@h:5432/d",
        "INGEST_RUN_MEMORY": "1.5GiB",
        "INGEST_MACHINE_MEMORY": "4 gb",
        "INGEST_MAX_RUNS": "0",
        "INGEST_MAX_FILE_SIZE": "10MB",
        "INGEST_MAX_PAGES": "5",
        "INGEST_BATCH_FILES": "3",
        "INGEST_BATCH_MINUTES": "0.5",
        "INGEST_PAGE_SECONDS": "1",
        "INGEST_FILE_SECONDS": "2.5",
        "INGEST_MODEL": " some/model ",
        "INGEST_ENGINE": "openvino",
        "INGEST_ALLOW_GAPS": "Off",
        "INGEST_MAX_ERRORS": "3",
        "INGEST_MAX_FAILED_SHARE": "0.25",
        "INGEST_SCHEDULE": "*/5 * * * 1-5",
        "INGEST_UI_PORT": "8080",
    }
    assert read_settings(environ) == Settings(
        sources=("./a", "/b"),
        home=Path("/data"),
        database_url="postgresql://u:p@h:5432/d",
        run_memory=1536 * 1024**2,
        machine_memory=4 * 1000**3,
        max_runs=0,
        max_file_size=10_000_000,
        max_pages=5,
        batch_files=3,
        batch_minutes=0.5,
        page_seconds=1.0,
        file_seconds=2.5,
        model="some/model",
        engine="openvino",
        allow_gaps=False,
        max_errors=3,
        max_failed_share=0.25,
        schedule="*/5 * * * 1-5",
        ui_port=8080,
    )


@pytest.mark.parametrize(
    "settings",
    [
        Settings(home=Path("/home")),
        Settings(
            home=Path("/data"), sources=("/a", "s3://bucket/b"), database_url="postgresql://u:p@h/d", run_memory=2**29,
            machine_memory=2**32, max_runs=3, max_file_size=10**7, max_pages=5, batch_files=3, batch_minutes=0.5,
            page_seconds=1.0, file_seconds=2.5, model="some/model", engine="openvino", pdf_passwords=("one", "two"),
            record_text="{a}", record_id="key", s3_endpoint="http://minio:9000", allow_gaps=False, max_errors=3,
            max_failed_share=0.25, schedule="*/5 * * * 1-5", ui_port=8080, ui_host="0.0.0.0",
            service_port=8081, service_host="0.0.0.0", service_token="0123456789abcdef", service_names=("a.b", "c"),
        ),
    ],
)  # fmt: skip
def test_environ_is_read_back(settings: Settings) -> None:
    """A child process with `environ()` has the same settings."""
    assert read_settings(settings.environ()) == settings


def test_environ_has_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child process in another folder reads the same sources and the same model."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    environ = Settings(sources=("docs", "~/more", "s3://bucket/x"), model="models").environ()
    assert environ["INGEST_SOURCES"] == f"{tmp_path}/docs,{Path.home()}/more,s3://bucket/x"
    assert environ["INGEST_MODEL"] == str(tmp_path / "models")


def test_an_empty_value_means_the_default() -> None:
    """`INGEST_MAX_PAGES=` in an env file is not an error."""
    assert read_settings({"INGEST_MAX_PAGES": "  ", "INGEST_SOURCES": ""}).max_pages == Settings().max_pages


def test_zero_means_a_share_of_the_machine() -> None:
    """`INGEST_MACHINE_MEMORY=0`, the documented default, may be written down."""
    assert read_settings({"INGEST_MACHINE_MEMORY": "0"}).machine_memory == 0


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}-{value[:12]}" for name, value in BAD])
def test_a_bad_value_names_its_variable(name: str, value: str) -> None:
    """A bad value is one line: which variable to change, and to what."""
    with pytest.raises(BadSetting) as caught:
        read_settings({variable(name): value})
    message = str(caught.value)
    assert message.startswith(f"{variable(name)}=")
    assert "\n" not in message
    assert "expected" in message
    assert isinstance(caught.value, ConfigurationError)


def test_every_checked_setting_is_in_the_list() -> None:
    """Every setting but names and texts, which are judged when they are used, has a bad value here."""
    texts = {
        "model",
        "record_id",
        "query_model",
        "passage_prefix",
        "query_prefix",
        "tokenizer",
        "extract",
        "entity_model",
    }
    assert {name for name, _ in BAD} == {field.name for field in fields(Settings)} - texts


def test_a_newline_stays_on_one_line() -> None:
    """A bad value with a line break does not break the line of its message."""
    with pytest.raises(BadSetting) as caught:
        read_settings({"INGEST_MAX_PAGES": "5\n6"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://user:hunter2@host/db", "user:hunter2@host", "hunter2", "POSTGRES//user:hunter2@host:5432/db"],
)
def test_a_bad_url_shows_no_password(url: str) -> None:
    """Neither the message about a bad database URL, nor its representation, nor its attributes hold the password."""
    with pytest.raises(BadSetting) as caught:
        read_settings({"INGEST_DATABASE_URL": url})
    assert "hunter2" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert "INGEST_DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1073741824", 1024**3),
        ("512MiB", 512 * 1024**2),
        ("1.5 GiB", 1536 * 1024**2),
        ("50MB", 50_000_000),
        ("50 mb", 50_000_000),
        ("2g", 2 * 1024**3),
        ("1TiB", 1024**4),
        (" 3 k ", 3072),
        ("7B", 7),
    ],
)
def test_common_spellings_of_a_size(text: str, size: int) -> None:
    """A size is read in binary units with an i or one letter, and in decimal units with a B."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "0", "0GiB", "1,5GiB", "1 Gi B", "0x10", "1e9", "10 apples"])
def test_what_is_no_size_is_a_value_error(text: str) -> None:
    """A text that is no size is refused; nothing is guessed."""
    with pytest.raises(ValueError):
        parse_size(text)


@given(st.integers(min_value=1, max_value=2**52))
def test_a_number_of_bytes_is_read_exactly(size: int) -> None:
    """Bytes without a unit go through unchanged."""
    assert parse_size(str(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (512 * 1024**2, "512.0 MiB"),
        (1536 * 1024**2, "1.5 GiB"),
        (3 * 1024**4, "3072.0 GiB"),
        (-2048, "-2 KiB"),
    ],
)
def test_a_size_is_shown_in_a_suitable_unit(size: int, text: str) -> None:
    """A size is shown short enough for a table, in no unit larger than GiB."""
    assert format_size(size) == text


@given(st.integers(min_value=1, max_value=2**50))
def test_a_shown_size_can_be_read_again(size: int) -> None:
    """What the UI shows can be pasted into a setting; only its rounding is lost."""
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.51)


def test_counts_agree_with_nouns() -> None:
    """One is singular, every other number plural, with thousands apart."""
    texts = [counted(1, "file"), counted(0, "file"), counted(1200, "chunk"), counted(2, "batch"), counted(1, "batch")]
    assert texts == ["1 file", "0 files", "1,200 chunks", "2 batches", "1 batch"]
