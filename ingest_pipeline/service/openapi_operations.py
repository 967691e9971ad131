"""What can be asked of the service by a program: for each path its parameters, bodies and answers."""

from __future__ import annotations

from typing import Any

from ingest_pipeline.models import FILE_STATUSES
from ingest_pipeline.service import documents, embeddings, extract
from ingest_pipeline.service.form import MULTIPART
from ingest_pipeline.service.lines import NDJSON
from ingest_pipeline.service.openapi_schemas import COUNT, TEXT, Schema, listed, ref
from ingest_pipeline.service.parameters import MOST_CHARACTERS, MOST_CONTEXT, MOST_HITS
from ingest_pipeline.stages.own_question import MAX_PROMPT_CHARACTERS

Operation = dict[str, Any]
JSON = "application/json"
BYTES = "application/octet-stream"
PLAIN = "text/plain"
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
ANYBODY: list[dict[str, list[str]]] = [{}, *BEARER]
"""A reader on the same machine needs no token."""
PAGE: Schema = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
FILE_ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**53}
DATE = "A date such as `2026-11-29`, or a time such as `2026-11-29T12:00Z`."


def query(name: str, schema: Schema, description: str, **more: Any) -> dict[str, Any]:
    """Return a parameter of the query string."""
    return {"name": name, "in": "query", "schema": schema, "description": description, **more}


def answers(description: str, schema: Schema, kind: str = JSON) -> dict[str, Any]:
    """Return an answer with a body."""
    return {"description": description, "content": {kind: {"schema": schema}}}


def error(description: str, schema: str = "Error") -> dict[str, Any]:
    """Return an answer that refuses."""
    return answers(description, ref(schema))


def operation(name: str, summary: str, *, reads: bool = True, **more: Any) -> Operation:
    """Return an operation; whatever else goes wrong has the same form."""
    more["responses"] = more["responses"] | {
        "401": error("A token is needed: `Authorization: Bearer TOKEN`."),
        "default": error("What went wrong, and what to do."),
    }
    return {"operationId": name, "summary": summary, "security": ANYBODY if reads else BEARER, **more}


SCOPE = [
    query("source", TEXT, "A source, as `ingest files` shows it."),
    query("path", TEXT, "The beginning of a path; with `*` or `?` a pattern for all of it."),
    query("media_type", TEXT, "`application/pdf`; `text/*` is every kind of text."),
    query("page_from", PAGE, "Passages on this page or a later one."),
    query("page_to", PAGE, "Passages on this page or an earlier one."),
    query("section", TEXT, "Passages in a section whose title has these words."),
    query("since", TEXT, f"Files that changed then or later. {DATE}"),
    query("until", TEXT, f"Files that changed before. {DATE}"),
    query("batch", TEXT, "The files of a batch."),
    query("entity", TEXT, "Passages in which this name was found."),
]
SEARCH = [
    query("q", {"type": "string", "maxLength": MOST_CHARACTERS}, "Words or a sentence."),
    query("top", {"type": "integer", "minimum": 1, "maximum": MOST_HITS, "default": 10}, "Hits at most."),
    query("context", {"type": "integer", "minimum": 0, "maximum": MOST_CONTEXT}, "Passages around each hit."),
    query("model", TEXT, "Another model of the store."),
]
OF_FILES = [one for one in SCOPE if one["name"] in ("source", "path", "media_type", "since", "until", "batch")]
FILES = [
    *OF_FILES,
    query("status", {"type": "string", "enum": list(FILE_STATUSES)}, "Files in this state."),
    query("error", TEXT, "Files that failed for this reason."),
    query("after", FILE_ID, "The page behind this file; `next` has it."),
    query("before", FILE_ID, "The page before this file; `previous` has it."),
]
PATH_ID = {"name": "file_id", "in": "path", "required": True, "schema": FILE_ID, "description": "As in `/files.json`."}
SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": documents.MOST_WAIT_SECONDS, "default": 60}
UPLOAD = [
    query("source", TEXT, "One of INGEST_SOURCES that takes files; may be left out where there is one."),
    query("replace", {"type": "boolean"}, "Make it the new version of a file of this name."),
    query("wait", {"type": "string", "enum": ["indexed"]}, "Answer when it is indexed or failed."),
    query("timeout", SECONDS, "Seconds to wait for that."),
]
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 1024}
STORED_ANSWERS = {
    "200": answers("It is indexed, or failed: `file` says which (`wait=indexed`).", ref("Waited")),
    "202": answers("It is stored, and not indexed yet (`wait=indexed`).", ref("Waited")),
    "400": error("The name, a parameter or the form cannot be used."),
    "409": error("The source has a file of this name."),
    "413": error("Larger than INGEST_MAX_FILE_SIZE; nothing is left of it."),
    "503": error("Too many uploads at once; `Retry-After` says when to come again."),
    "507": error("The source cannot be written."),
}
SECTIONS_FIELD: Schema = {
    "description": 'Titles of sections, or one of `{"level": 1}`, `{"pages": 10}`, `{"whole": true}`, `{"each": '
    '"chunk"}`; default: as INGEST_EXTRACT says.',
    "anyOf": [listed(TEXT, minItems=1), {"type": "object"}],
}
QUESTION: Schema = {
    "type": "object",
    "required": ["document"],
    "additionalProperties": False,
    "properties": {
        "document": {"type": "string", "minLength": 1, "maxLength": extract.MOST_PATH_CHARACTERS},
        "prompt": {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT_CHARACTERS},
        "sections": SECTIONS_FIELD,
    },
}
QUESTION_FORM: Schema = {
    "type": "object",
    "required": ["document"],
    "properties": {
        "document": {"type": "string", "contentMediaType": BYTES, "description": "A file, or the path of one."},
        "prompt": TEXT,
        "sections": {"type": "string", "description": "JSON, or one title."},
    },
}
TEXTS: Schema = {
    "type": "object",
    "required": ["input", "model"],
    "properties": {
        "input": {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": embeddings.MOST_CHARACTERS},
                listed({"type": "string", "minLength": 1}, minItems=1, maxItems=embeddings.MOST_TEXTS),
            ]
        },
        "model": TEXT,
        "encoding_format": {"type": "string", "enum": ["float", "base64"], "default": "float"},
        "dimensions": COUNT,
    },
}
FORM: Schema = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "contentMediaType": BYTES},
        "title": TEXT,
        "extract_entities": {"type": "string", "enum": ["true", "false"]},
    },
}

PATHS: dict[str, dict[str, Operation]] = {
    "/search.json": {
        "get": operation(
            "search", "The passages that answer a query, and what was searched.", parameters=[*SEARCH, *SCOPE],
            responses={"200": answers("Hits, best first.", ref("SearchAnswer")), "400": error("A bad parameter.")},
        )
    },
    "/files.json": {
        "get": operation(
            "files", "What happened to every file, in pages.", parameters=FILES,
            responses={"200": answers("A page.", ref("Files")), "400": error("A bad parameter.")},
        )
    },
    "/files/{file_id}.json": {
        "get": operation(
            "file", "All about one file.", parameters=[PATH_ID],
            responses={"200": answers("The file.", ref("File")), "404": error("There is no such file.")},
        )
    },
    "/files/{file_id}/sections.json": {
        "get": operation(
            "file_sections", "The sections of one file.",
            parameters=[PATH_ID, query("after", FILE_ID, "Sections behind this one.")],
            responses={"200": answers("Sections.", ref("Sections")), "404": error("There is no such file.")},
        )
    },
    "/sections.json": {
        "get": operation(
            "sections", "The sections of one file.",
            parameters=[
                query("file", FILE_ID, "The number of the file.", required=True),
                query("after", FILE_ID, "Sections behind this one."),
            ],
            responses={"200": answers("Sections.", ref("Sections")), "404": error("There is no such file.")},
        )
    },
    "/documents": {
        "post": operation(
            "add_document", "Store the body as a document of a source.", reads=False,
            parameters=[query("name", NAME, "Its name in the source, with `/` for folders.", required=True), *UPLOAD],
            requestBody={"required": True, "content": {BYTES: {"schema": {}}}},
            responses=STORED_ANSWERS | {"201": answers("It is stored.", ref("Stored"))},
        )
    },
    "/api/v1/documents/upload": {
        "post": operation(
            "upload_document", "Store the file of a form as a document of a source.", reads=False, parameters=UPLOAD,
            requestBody={"required": True, "content": {MULTIPART: {"schema": FORM}}},
            responses=STORED_ANSWERS | {"201": answers("It is stored.", ref("StoredOfForm"))},
        )
    },
    "/extract": {
        "post": operation(
            "extract", "An LLM's answers about the sections of one document, as JSON lines.", reads=False,
            parameters=UPLOAD,
            requestBody={
                "required": True,
                "content": {JSON: {"schema": QUESTION}, MULTIPART: {"schema": QUESTION_FORM}},
            },
            responses={
                "200": answers("One line for each section; an error may be the last.", ref("Extract"), NDJSON),
                "202": answers("The document is stored, and not searchable yet.", ref("NotSearchable")),
                "400": error("The question cannot be used."),
                "404": error("No searchable file has this path."),
                "409": error("INGEST_EXTRACT is not set, or the name of an uploaded document is taken."),
                "422": answers("The document is stored, and failed.", ref("NotSearchable")),
                "502": error("The LLM's server fails, or refuses the key."),
                "503": error("Another document is being asked about; `Retry-After` says when to come again."),
            },
        )
    },
    "/v1/embeddings": {
        "post": operation(
            "embeddings", "The vectors of texts, in OpenAI's protocol.", reads=False,
            requestBody={"required": True, "content": {JSON: {"schema": TEXTS}}},
            responses={
                "200": answers("A vector for each text.", ref("Embeddings")),
                "400": error("The texts cannot be used.", "OpenAiError"),
                "404": error("The service has another model.", "OpenAiError"),
                "413": error("The body is too large.", "OpenAiError"),
                "502": error("The model's server fails.", "OpenAiError"),
                "503": error("Too many requests for vectors at once.", "OpenAiError"),
            },
        )
    },
    "/metrics": {
        "get": operation(
            "metrics", "Numbers for Prometheus.", responses={"200": answers("Metrics.", TEXT, PLAIN)},
        )
    },
    "/healthz": {
        "get": operation(
            "healthz", "Whether the service can answer.",
            responses={
                "200": answers("It can.", ref("Health")), "503": answers("The database is away.", ref("Health")),
            },
        )
    },
    "/openapi.json": {
        "get": operation(
            "openapi", "This description.", responses={"200": answers("OpenAPI 3.1.", {"type": "object"})},
        )
    },
}  # fmt: skip
