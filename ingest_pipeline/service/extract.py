"""An LLM's answers about the sections of one document, as JSON lines; one document at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest_pipeline.errors import BadSetting, ConfigurationError
from ingest_pipeline.service.body import Body, json_of
from ingest_pipeline.service.documents import Documents, seconds_of, wanted_of
from ingest_pipeline.service.form import MULTIPART, OVERHEAD_BYTES, UploadForm
from ingest_pipeline.service.lines import Lines
from ingest_pipeline.service.refused import BAD_REQUEST, Refused, refusing
from ingest_pipeline.service.slots import Slots
from ingest_pipeline.service.state import Service, service_of
from ingest_pipeline.stages.one_document import extract_document
from ingest_pipeline.stages.own_question import OwnQuestion, asking_this
from ingest_pipeline.stages.uploads import refuse_upload_name

BODY_BYTES = 256 * 1024
MOST_PATH_CHARACTERS = 4096
NOT_SEARCHABLE = 422
FIELDS = ("document", "prompt", "sections")
FILE_FIELDS = ("document", "file")
RETRY_SECONDS = 30
NOT_ASKING = "nobody is asked here: INGEST_EXTRACT must name a YAML file with provider, model and schema"


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [Route("/extract", Extract().extract, methods=["POST"])]


@dataclass(frozen=True, slots=True)
class Asked:
    """A document, and the question about it."""

    document: str
    question: OwnQuestion


class Extract:
    """The endpoint, and its one slot."""

    def __init__(self) -> None:
        self._slots = Slots(1, "documents asked about", retry_after_seconds=RETRY_SECONDS)
        self._documents = Documents()

    @refusing
    async def extract(self, request: Request) -> Response:
        """Ask about a document of a source, or about one that is uploaded with the question."""
        service = service_of(request)
        if not service.settings.extract:
            raise Refused(409, NOT_ASKING, error="NotConfigured")
        if request.headers.get("content-type", "").lower().startswith(MULTIPART):
            asked = await self._of_form(request)
        else:
            asked = asked_of(await json_of(request, most_bytes=BODY_BYTES))
        if isinstance(asked, Response):
            return asked
        return Lines(lambda: rows_of(service, asked), self._slots)

    async def _of_form(self, request: Request) -> Asked | Response:
        settings = service_of(request).settings
        self._slots.refuse_without()  # before a document is stored for nothing
        body = Body(request, most_bytes=settings.max_file_size + OVERHEAD_BYTES)
        form = UploadForm(body, request.headers["content-type"], FILE_FIELDS)
        await form.begin()
        if form.file_name is None:
            return asked_of(_fields(form.fields))
        wanted, seconds = wanted_of(request.query_params, settings), seconds_of(request.query_params.get("timeout", ""))
        refuse_upload_name(form.file_name)
        async with self._documents.uploads.slot():
            row = await self._documents.stored(form.file_name, form.piece, wanted, settings)
        asked = asked_of(_fields(form.fields) | {"document": f"{row['source']}/{row['name']}"})
        file = await self._documents.indexed(request, row, seconds)
        if file is None or file["status"] != "indexed":
            why = "it is stored; ask again by its path when it is searchable"
            status = NOT_SEARCHABLE if file and file["status"] == "failed" else 202
            return JSONResponse(row | {"file": file, "document": asked.document, "message": why}, status)
        return asked


def rows_of(service: Service, asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield what an LLM answers about each section, in order.

    Raises:
        Refused: no searchable file has this path, or the question cannot be used.
        IngestError: the LLM, its key or the store cannot be used.
    """
    try:
        with asking_this(service.settings, asked.question) as settings, service.writing() as connection:
            yield from extract_document(connection, asked.document, settings=settings)
    except BadSetting as error:
        if asked.question == OwnQuestion() or not error.expected.startswith(FIELDS):
            raise
        raise Refused(BAD_REQUEST, error.expected) from None  # the message has the name of a temporary file
    except ConfigurationError as error:
        raise Refused(404, str(error), error="NotFound") from None


def asked_of(fields: Mapping[str, Any]) -> Asked:
    """Return what a request asks.

    Raises:
        Refused: it cannot be used.
    """
    for name in fields:
        if name not in FIELDS:
            raise Refused(BAD_REQUEST, f"no field {name[:60]!r}; the fields are {', '.join(FIELDS)}")
    document, prompt, sections = fields.get("document"), fields.get("prompt"), fields.get("sections")
    if not isinstance(document, str) or not document.strip() or len(document) > MOST_PATH_CHARACTERS:
        raise Refused(BAD_REQUEST, "document: the path of a searchable file")
    if "\x00" in document:
        raise Refused(BAD_REQUEST, "document: a path has no NUL character")
    if prompt is not None and not isinstance(prompt, str):
        raise Refused(BAD_REQUEST, "prompt: a text")
    if sections is not None and not isinstance(sections, list | dict):
        raise Refused(BAD_REQUEST, 'sections: a list of titles, or an object such as {"level": 1}')
    return Asked(document, OwnQuestion(prompt, sections))


def _fields(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a form; `sections` is JSON, or one title."""
    fields: dict[str, Any] = {name: text for name, text in form.items() if text}
    if "sections" in fields:
        text = fields["sections"]
        fields["sections"] = [text]
        with suppress(ValueError, RecursionError):
            fields["sections"] = json.loads(text)
    return fields
