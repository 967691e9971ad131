"""The shapes of JSON that the service answers with, as JSON Schemas. Keys may be added; those that are here stay."""

from __future__ import annotations

from typing import Any

from ingest_pipeline.models import FILE_STATUSES

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}


def ref(name: str) -> Schema:
    """Return a reference to a schema of this description."""
    return {"$ref": f"#/components/schemas/{name}"}


def shape(**properties: Schema) -> Schema:
    """Return the schema of an object that has all of these keys, and perhaps more."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def listed(items: Schema, **more: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **more}


def maybe(schema: Schema) -> Schema:
    """Return the schema of a value that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def mapped(values: Schema) -> Schema:
    """Return the schema of an object with any keys."""
    return {"type": "object", "additionalProperties": values}


def _pair(item: Schema) -> Schema:
    return listed(item, minItems=2, maxItems=2)


PLACE = shape(source=TEXT, path=TEXT, pages=_pair(COUNT))
PATH_OF_TITLES = maybe({"anyOf": [TEXT, listed(TEXT)]})
HIT = shape(
    score=NUMBER, source=TEXT, path=TEXT, pages=_pair(COUNT), text=TEXT, page_label=maybe(TEXT), section=maybe(TEXT),
    heading=maybe(TEXT), file_id=COUNT, ordinal=COUNT, characters=_pair(COUNT), media_type=TEXT, title=maybe(TEXT),
    vector_score=maybe(NUMBER), lexical_score=maybe(NUMBER), marks=listed(_pair(COUNT)), snippet=TEXT, places=COUNT,
    also_at=listed(PLACE), before=listed(TEXT), after=listed(TEXT),
)  # fmt: skip
COVERAGE = shape(
    files=COUNT, searched=COUNT, waiting=COUNT, failed=COUNT, outdated=COUNT, unreadable_pages=COUNT,
    files_with_gaps=COUNT, failed_matching=COUNT, failed_names=listed(TEXT), sentence=TEXT, seconds=NUMBER,
)  # fmt: skip
FACET = listed(shape(value=TEXT, files=COUNT, chosen=FLAG))
STATUS: Schema = {"type": "string", "enum": list(FILE_STATUSES)}
_BYTES = maybe(COUNT)
LISTED_FILE = shape(
    file_id=COUNT, source=TEXT, path=TEXT, media_type=TEXT, bytes=COUNT, status=STATUS, error=maybe(TEXT),
    message=maybe(TEXT), pages=maybe(COUNT), chunks=COUNT, gaps=COUNT, title=maybe(TEXT), predicted_peak_bytes=_BYTES,
    measured_peak_bytes=_BYTES, seconds=maybe(NUMBER), batch=maybe(TEXT), updated_at=TIME,
)  # fmt: skip
ATTEMPT = shape(
    batch=TEXT, run_id=TEXT, stage=maybe(TEXT), open=FLAG, outcome=maybe(TEXT), error=maybe(TEXT),
    started_at=TIME, ended_at=maybe(TIME),
)  # fmt: skip
SECTION = shape(ordinal=COUNT, level=COUNT, title=TEXT, page_from=COUNT, page_to=maybe(COUNT))
EXTRACT = shape(
    section=COUNT, title=TEXT, page_from=COUNT, page_to=COUNT, status=TEXT, answer={}, prompt_tokens=maybe(COUNT),
    completion_tokens=maybe(COUNT), seconds=maybe(NUMBER), error=maybe(TEXT), message=maybe(TEXT),
)  # fmt: skip
FILE = shape(
    file_id=COUNT, source=TEXT, path=TEXT, version=TEXT, media_type=TEXT, bytes=COUNT, status=STATUS,
    error=maybe(TEXT), message=maybe(TEXT), retryable=maybe(FLAG), pages=maybe(COUNT), chunks=COUNT,
    title=maybe(TEXT), updated_at=TIME, advice=maybe(shape(text=TEXT, command=TEXT)),
    gaps=listed({"type": "object"}), warnings=listed({}), attempts=listed(ATTEMPT), section_count=COUNT,
    sections=listed(SECTION), extracts=listed(EXTRACT), entities=listed({"type": "object"}),
    same_bytes=listed({"type": "object"}),
)  # fmt: skip
STATUS_ROW = shape(
    source=TEXT, path=TEXT, version=TEXT, media_type=TEXT, bytes=COUNT, pages=maybe(COUNT), status=STATUS,
    attempts=COUNT, error=maybe(TEXT), message=maybe(TEXT), retryable=maybe(FLAG), gaps={}, chunks=COUNT,
    seconds=maybe(NUMBER), batch=maybe(TEXT),
)  # fmt: skip
STORED = shape(source=TEXT, name=TEXT, size_bytes=COUNT, version={"type": "string", "pattern": "^[0-9a-f]{64}$"})
VECTOR = {"anyOf": [listed(NUMBER), {"type": "string", "contentEncoding": "base64"}]}

SCHEMAS: dict[str, Schema] = {
    "Error": shape(error=TEXT, message=TEXT),
    "OpenAiError": shape(error=shape(message=TEXT, type=TEXT, code=maybe(TEXT))),
    "Hit": HIT,
    "Coverage": COVERAGE,
    "SearchAnswer": shape(hits=listed(ref("Hit")), coverage=ref("Coverage"), models=listed(TEXT), notes=listed(TEXT)),
    "Facets": shape(files=COUNT, source=FACET, media_type=FACET, status=FACET),
    "ListedFile": LISTED_FILE,
    "Files": shape(files=listed(ref("ListedFile")), facets=ref("Facets"), next=maybe(TEXT), previous=maybe(TEXT)),
    "File": FILE,
    "Sections": shape(
        file_id=COUNT, source=TEXT, path=TEXT, title=maybe(TEXT), section_count=COUNT, sections=listed(SECTION),
        next=maybe(TEXT),
    ),
    "StatusRow": STATUS_ROW,
    "Stored": STORED,
    "StoredOfForm": {"allOf": [ref("Stored"), shape(not_used=mapped(TEXT))]},
    "Waited": {"allOf": [ref("Stored"), shape(file=maybe(ref("StatusRow")))]},
    "NotSearchable": {"allOf": [ref("Waited"), shape(document=TEXT, message=TEXT)]},
    "Extract": {"anyOf": [EXTRACT, ref("Error")]},
    "Embeddings": shape(
        object={"const": "list"}, model=TEXT, usage=shape(prompt_tokens=COUNT, total_tokens=COUNT),
        data=listed(shape(object={"const": "embedding"}, index=COUNT, embedding=VECTOR)),
    ),
    "Health": shape(status=TEXT),
}  # fmt: skip
