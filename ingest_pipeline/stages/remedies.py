"""What to do about each reason of failure: for people, with the command that does it.

A new error type is a row here; a test compares this table with `errors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a reason."""

    advice: str
    command: str
    """Does it, or tries again after it was done."""


RUN = "ingest run"
FILES = "ingest files --status failed"


def _reset(reason: str) -> str:
    return f"ingest reset --reason {reason}"


REMEDIES = {
    # The document's fault.
    "UnreadableDocument": Remedy("replace the file by one that opens elsewhere; `ingest autopsy` collects why", RUN),
    "UnsupportedFormat": Remedy("convert the file to a format of docs/formats.md, or remove it", RUN),
    "EncryptedDocument": Remedy("set INGEST_PDF_PASSWORDS, or replace the file by one without a password", RUN),
    "NoText": Remedy("run OCR on scans, and replace the file; remove empty ones", RUN),
    "TooMuchText": Remedy("look at the file: it may be a decompression bomb; remove it", FILES),
    "LinkLeavesSource": Remedy("replace the link by the file, or make its target's folder a source", RUN),
    "ParserCrashed": Remedy(
        "report it with `ingest autopsy PATH`; a new version of the parser may read it", _reset("ParserCrashed")
    ),
    # A limit's fault.
    "FileTooLarge": Remedy("raise INGEST_MAX_FILE_SIZE", RUN),
    "TooManyPages": Remedy("raise INGEST_MAX_PAGES", RUN),
    "FileNeedsMoreMemory": Remedy("raise INGEST_RUN_MEMORY; `ingest plan --memory` says to what", RUN),
    "UnreadablePages": Remedy("set INGEST_ALLOW_GAPS=on to index the other pages", RUN),
    "ParserOutOfMemory": Remedy("raise INGEST_RUN_MEMORY", RUN),
    "ParserTimedOut": Remedy("raise INGEST_PAGE_SECONDS or INGEST_FILE_SECONDS", RUN),
    "KilledRepeatedly": Remedy(
        "raise INGEST_RUN_MEMORY, then reset it; `ingest autopsy` collects what happened", _reset("KilledRepeatedly")
    ),
    "TooManyRejected": Remedy(
        "see why the embedder rejects its texts; raise INGEST_MAX_REJECTED to index the others",
        _reset("TooManyRejected"),
    ),
    # The source's fault.
    "FileChanged": Remedy("nothing: the next catalog reads the new version", RUN),
    "FileVanished": Remedy("nothing: the next catalog notes that it is gone", RUN),
    "FileCutShort": Remedy("look at its server: it breaks off while it sends this file", RUN),
    # An answer's fault.
    "AnswerInvalid": Remedy(
        "make prompt or schema simpler, or use a better model; then reset the file", "ingest reset PATH"
    ),
    "AnswerTruncated": Remedy("raise max_output_tokens in the YAML file of INGEST_EXTRACT", RUN),
    "AnswerBlocked": Remedy("the server withholds the answer: change the prompt, or use another model", RUN),
    "AnswerEmpty": Remedy("change the prompt, or use another model; then reset the file", "ingest reset PATH"),
    "InputRejected": Remedy("ask about smaller sections, or send text instead of pages", RUN),
    "CallFailed": Remedy("look at the server; then reset the file", "ingest reset PATH"),
    # Nobody's file.
    "StoreUnavailable": Remedy("look at Postgres: `ingest doctor`", RUN),
    "SourceUnavailable": Remedy("look at the source: `ingest doctor`", RUN),
    "ParserUnavailable": Remedy("look at memory and processes of the machine: `ingest doctor`", RUN),
    "RunOutOfMemory": Remedy("raise INGEST_RUN_MEMORY", RUN),
    "ModelExportFailed": Remedy("set INGEST_ENGINE=torch, or look at disk and memory: `ingest doctor`", RUN),
    "EntityModelUnavailable": Remedy("look at INGEST_ENTITY_MODEL and the run's memory: `ingest doctor`", RUN),
    "ServiceUnavailable": Remedy("look at the server that embeds or answers: `ingest doctor`", RUN),
    "AccessRefused": Remedy("look at the key, the model's name and the quota of the account", RUN),
    "TokenLimitReached": Remedy("nothing: the rest waits for the next run, which counts anew", RUN),
}
UNKNOWN = Remedy("`ingest files` shows the message; report it with `ingest autopsy PATH`", FILES)


def remedy_for(reason: str) -> Remedy:
    """Return what to do about a reason; of an unknown one, where to look."""
    return REMEDIES.get(reason, UNKNOWN)
