"""Errors that are no file's fault: counted in a row by cause, reset at a new beginning, a verdict at the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.store import batches, reports
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.incidents import MIN_DOCUMENTS, cause_of, record_incident, reset_incidents, spent_budget
from ingest_pipeline_tests.documents import add_file, seal

DATABASE = "ingest_pipeline.errors.StoreUnavailable: Postgres: connection refused; is it running?"
MODEL = "ingest_pipeline.errors.ModelExportFailed: model: the export to OpenVINO failed"


def verdict(connection: Connection, *, max_errors: int = 3, max_failed_share: float = 1.0) -> str | None:
    return spent_budget(
        connection, max_errors=max_errors, max_failed_share=max_failed_share, since="2000-01-01T00:00:00+00:00"
    )


def note(connection: Connection, *messages: str) -> None:
    for message in messages:
        record_incident(connection, batch="b", run_id="r", message=message)


def test_one_cause_in_a_row_is_a_verdict(connection: Connection) -> None:
    """The verdict has the count, the cause, the setting, and the last message."""
    note(connection, DATABASE, DATABASE)
    assert verdict(connection) is None
    note(connection, DATABASE.replace("refused", "reset"))
    found = verdict(connection)
    assert found is not None
    assert "3 runs in a row ended with StoreUnavailable (INGEST_MAX_ERRORS=3)" in found
    assert "connection reset" in found


def test_another_cause_resets_the_count(connection: Connection) -> None:
    """Two of this and two of that are not four of one."""
    note(connection, DATABASE, DATABASE, MODEL, DATABASE, DATABASE)
    assert verdict(connection) is None
    note(connection, DATABASE)
    assert verdict(connection) is not None


def test_a_finished_batch_resets_the_count(connection: Connection) -> None:
    """A batch that is finished resets the count: something works."""
    note(connection, DATABASE, DATABASE)
    connection.execute(
        "INSERT INTO batches (batch, memory_limit_bytes, predicted_peak_bytes, predicted_seconds) VALUES ('b', 1, 1, 1)"
    )
    batches.finish_batch(connection, "b")
    note(connection, DATABASE)
    assert verdict(connection) is None


def test_a_new_beginning_resets_the_count(connection: Connection) -> None:
    """Somebody asked for the catalog again; what happened stays on record."""
    note(connection, *[DATABASE] * 5)
    reset_incidents(connection)
    assert verdict(connection) is None
    assert connection.execute("SELECT count(*) FROM incidents").fetchone() == (5,)


def test_only_own_failures_are_incidents(connection: Connection) -> None:
    """A run that fails by itself is an incident; a kill is attributed to its file, a cancellation to nobody."""
    add_file(connection, "a.txt", "1")
    key = seal(connection)
    for run, killed, canceled in (("r1", False, False), ("r2", False, True)):
        batches.begin_batch(connection, key, run)
        batches.reconcile_batch(connection, key, run, killed=killed, canceled=canceled, message=DATABASE)
    assert connection.execute("SELECT run_id, cause FROM incidents").fetchall() == [("r1", "StoreUnavailable")]


@pytest.mark.parametrize(("failed", "indexed", "share", "stops"), [
    (6, 14, 0.25, True), (5, 15, 0.25, False), (20, 0, 1.0, False), (19, 0, 0.1, False), (1, 19, 0.0, True),
])  # fmt: skip
def test_a_share_of_failures_is_a_verdict(
    connection: Connection, failed: int, indexed: int, share: float, stops: bool
) -> None:
    """Off unless it is set; a handful of documents has no share that says anything."""
    connection.execute(
        "INSERT INTO files (source, path, size_bytes, media_type, status) SELECT 's', n::text, 1, 't', "
        "CASE WHEN n <= %s THEN 'failed' ELSE 'indexed' END FROM generate_series(1, %s) n",
        (failed, failed + indexed),
    )
    found = verdict(connection, max_failed_share=share)
    assert (found is not None) == stops
    if found:
        assert f"{failed} of {failed + indexed} documents failed" in found
        assert failed + indexed >= MIN_DOCUMENTS


def test_earlier_documents_do_not_count(connection: Connection) -> None:
    """The share is of what came to its end since the beginning."""
    connection.execute(
        "INSERT INTO files (source, path, size_bytes, media_type, status) "
        "SELECT 's', n::text, 1, 't', 'failed' FROM generate_series(1, 50) n"
    )
    now = reports.now(connection)
    assert spent_budget(connection, max_errors=10, max_failed_share=0.1, since=now) is None


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (DATABASE, "StoreUnavailable"),
        ("RuntimeError: Exception from src/inference", "RuntimeError"),
        ("psycopg.errors.DiskFull: could not extend file", "DiskFull"),
        ("MemoryError", "MemoryError"),
        ("its run is not in Dagster's history", "its run is not in Dagster's history"),
        ("", ""),
    ],
)
def test_a_cause_is_the_type_of_the_error(message: str, cause: str) -> None:
    """Two messages of one type are the same cause, whatever else they say."""
    assert cause_of(message) == cause


@given(st.text())
def test_any_message_has_a_cause(message: str) -> None:
    """Whatever a library throws."""
    assert len(cause_of(message)) <= max(60, len(message))
