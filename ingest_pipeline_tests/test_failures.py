"""What failed is grouped by reason, and each reason has a remedy."""

from __future__ import annotations

import pytest

from ingest_pipeline import errors
from ingest_pipeline.cli.main import _parser
from ingest_pipeline.errors import EncryptedDocument, NoText
from ingest_pipeline.stages.failures import failures
from ingest_pipeline.stages.remedies import REMEDIES, UNKNOWN, remedy_for
from ingest_pipeline.store import files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.incidents import record_incident
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, add_file, files_of, seal, write

ABSTRACT = {"FileError", "PermanentError", "TransientFileError", "RunError", "ExtractError", "CallError", "RateLimited"}


def leaves() -> set[str]:
    wanted = (errors.FileError, errors.RunError, errors.ExtractError, errors.CallError)
    kinds = [kind for kind in errors._tree(errors.IngestError) if issubclass(kind, wanted)]
    # Clients tell their servers' refusals apart by types of their own, which no ledger names.
    return {kind.__name__ for kind in kinds if kind.__module__ == errors.__name__} - ABSTRACT


def test_every_reason_has_a_remedy() -> None:
    """Each error type that the ledger may name has a remedy, and no remedy is for a type that does not exist."""
    assert set(REMEDIES) == leaves()
    assert remedy_for("SomethingElse") == UNKNOWN


@pytest.mark.parametrize("reason", REMEDIES)
def test_commands_exist(reason: str) -> None:
    """The command of each remedy is one that the parser takes."""
    program, *arguments = REMEDIES[reason].command.split()
    assert program == "ingest"
    assert _parser().parse_args(arguments).command is not None


def test_groups(connection: Connection) -> None:
    """Failures of files come by reason, most frequent first, with an example, its message, and what to do."""
    for path, error in (("a.pdf", NoText), ("b.pdf", EncryptedDocument), ("c.pdf", NoText)):
        add_file(connection, path)
        file = files_of(connection, seal(connection))[path]
        files.refuse_file(connection, file.file_id, error(f"{path}: why"), fingerprint=FINGERPRINT)
    first, second = failures(connection)
    assert (first.kind, first.reason, first.count, first.example) == ("file", "NoText", 2, f"{SOURCE}/a.pdf")
    assert first.message == "a.pdf: why"
    assert (second.reason, second.count) == ("EncryptedDocument", 1)
    assert "INGEST_PDF_PASSWORDS" in second.advice


def test_gap_groups(connection: Connection) -> None:
    """A file counts once for each reason of its gaps, with the first page; the command is the reset by that reason."""
    add_file(connection, "a.pdf")
    generation = write(connection, files_of(connection, seal(connection))["a.pdf"], ["one"], CARD)
    gaps = (
        '[{"page_from": 9, "page_to": 9, "reason": "ParserTimedOut"}, '
        '{"page_from": 2, "page_to": 2, "reason": "ParserTimedOut; given up from here on"}, '
        '{"page_from": 3, "page_to": 3, "reason": "slide 3: bad XML"}]'
    )
    connection.execute(
        "UPDATE files SET status = 'indexed', gaps = %s, generation_id = %s", (gaps, generation.generation_id)
    )
    timed_out, slide = sorted(failures(connection), key=lambda failure: failure.reason)
    assert (timed_out.kind, timed_out.reason, timed_out.count) == ("gap", "ParserTimedOut", 1)
    assert timed_out.message == "page 2: ParserTimedOut; given up from here on"
    assert timed_out.command == "ingest reset --reason ParserTimedOut"
    assert (slide.reason, slide.command) == ("slide 3", "ingest files --status failed")


def test_batches_and_incidents(connection: Connection) -> None:
    """A batch that was given up, and runs that ended for no file's fault, are listed by their cause."""
    add_file(connection, "a.pdf")
    batch = seal(connection)
    message = "StoreUnavailable: Postgres: the server closed the connection"
    connection.execute("UPDATE batches SET status = 'failed', message = %s", (message,))
    record_incident(connection, batch=batch, run_id="run", message=message)
    assert [(one.kind, one.reason, one.count, one.example) for one in failures(connection)] == [
        ("batch", "StoreUnavailable", 1, batch), ("incident", "StoreUnavailable", 1, batch),
    ]  # fmt: skip
