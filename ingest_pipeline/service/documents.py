"""Documents that are handed over: streamed into a source, for the next catalog run to take up."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

import anyio
from anyio import to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest_pipeline.errors import BadSetting, ConfigurationError
from ingest_pipeline.service.body import Body, Pulled
from ingest_pipeline.service.form import OVERHEAD_BYTES, UploadForm
from ingest_pipeline.service.parameters import BadParameter
from ingest_pipeline.service.refused import BAD_REQUEST, Refused, refusing
from ingest_pipeline.service.slots import Slots
from ingest_pipeline.service.state import Service, service_of
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.uploads import Added, add_stream, refuse_upload_name, upload_source
from ingest_pipeline.store.reports import file_at

UPLOADS_AT_ONCE = 4
WAITING_AT_ONCE = 16
"""Who waits holds no thread and no connection, only asks every two seconds."""
DEFAULT_WAIT_SECONDS, MOST_WAIT_SECONDS = 60.0, 300.0
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.2, 2.0
ENDED = ("indexed", "failed")
FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
FORM_FIELDS = ("title", "extract_entities")
NextPiece = Callable[[], Coroutine[Any, Any, bytes]]


def routes() -> list[Route]:
    """Return the routes of this module."""
    documents = Documents()
    return [
        Route("/documents", documents.add, methods=["POST"]),
        Route("/api/v1/documents/upload", documents.add_form, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the query string of an upload asks for."""

    source: str
    replace: bool
    wait_seconds: float | None
    """None: the answer does not wait until the document is indexed."""


class Documents:
    """The endpoints that take documents, and how many at once."""

    def __init__(self) -> None:
        self.uploads = Slots(UPLOADS_AT_ONCE, "uploads", retry_after_seconds=10)
        self._waiting = 0
        self._threads = anyio.CapacityLimiter(UPLOADS_AT_ONCE)  # of their own: a slow client keeps no search waiting

    @refusing
    async def add(self, request: Request) -> Response:
        """Store the body under a name."""
        settings = service_of(request).settings
        wanted, name = wanted_of(request.query_params, settings), request.query_params.get("name", "")
        refuse_upload_name(name)
        body = Body(request, most_bytes=settings.max_file_size)
        async with self.uploads.slot():
            row = await self.stored(name, body.piece, wanted, settings)
        return await self._answer(request, row, wanted)

    @refusing
    async def add_form(self, request: Request) -> Response:
        """Store the file of a form under its own name."""
        settings = service_of(request).settings
        wanted = wanted_of(request.query_params, settings)
        body = Body(request, most_bytes=settings.max_file_size + OVERHEAD_BYTES)
        form = UploadForm(body, request.headers.get("content-type", ""))
        async with self.uploads.slot():
            await form.begin()
            if form.file_name is None:
                raise Refused(BAD_REQUEST, "the form has no file: its field is called `file`")
            refuse_upload_name(form.file_name)
            row = await self.stored(form.file_name, form.piece, wanted, settings)
        return await self._answer(request, row | {"not_used": not_used(form.fields, settings)}, wanted)

    async def stored(self, name: str, next_piece: NextPiece, wanted: Wanted, settings: Settings) -> dict[str, Any]:
        """Stream a document into its source, in a thread; return what was stored.

        Raises:
            IngestError: it is refused; nothing is left of it.
            ClientDisconnect: the client broke off; nothing is left of it.
        """
        pulled = Pulled(next_piece)
        add = partial(
            add_stream, name, cast(BinaryIO, pulled), to=wanted.source, replace=wanted.replace, settings=settings
        )
        added: Added = await to_thread.run_sync(add, limiter=self._threads)
        return {"source": added.source, "name": added.name, "size_bytes": added.size_bytes, "version": pulled.version}

    async def _answer(self, request: Request, row: dict[str, Any], wanted: Wanted) -> Response:
        if wanted.wait_seconds is None:
            return JSONResponse(row, 201)
        file = await self.indexed(request, row, wanted.wait_seconds)
        return JSONResponse(row | {"file": file}, 200 if file and file["status"] in ENDED else 202)

    async def indexed(self, request: Request, row: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        """Return the status row of what was stored when it is indexed or failed, or when the time is over.

        None: no catalog run has seen these bytes yet.
        """
        service, ends, pause = service_of(request), time.monotonic() + seconds, FIRST_PAUSE_SECONDS
        if self._waiting >= WAITING_AT_ONCE:
            ends = 0.0
        self._waiting += 1
        try:
            while True:
                file = await run_in_threadpool(_file_of, service, row)
                is_over = time.monotonic() + pause > ends or await request.is_disconnected()
                if is_over or (file and file["status"] in ENDED):
                    return file
                await anyio.sleep(pause)
                pause = min(MOST_PAUSE_SECONDS, pause * 1.5)
        finally:
            self._waiting -= 1


def wanted_of(parameters: Mapping[str, str], settings: Settings) -> Wanted:
    """Return what a query string asks for.

    Raises:
        BadParameter: it cannot be used.
    """
    replace, wait = parameters.get("replace", "").lower(), parameters.get("wait", "")
    if replace not in FLAGS:
        raise BadParameter("replace: 1, or 0")
    if wait not in ("", "indexed"):
        raise BadParameter("wait: indexed, or leave it out")
    seconds = seconds_of(parameters.get("timeout", ""))
    try:
        source = upload_source(parameters.get("source") or None, settings)
    except BadSetting:  # its folder is gone: no fault of the client
        raise
    except ConfigurationError as error:
        raise BadParameter(str(error)) from None
    return Wanted(source, FLAGS[replace], seconds if wait else None)


def seconds_of(text: str) -> float:
    """Return how long a client wants to wait.

    Raises:
        BadParameter: no number of seconds, or too many.
    """
    try:
        seconds = float(text or DEFAULT_WAIT_SECONDS)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MOST_WAIT_SECONDS:
        raise BadParameter(f"timeout: seconds from 0 to {MOST_WAIT_SECONDS:.0f}")
    return seconds


def not_used(fields: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return which fields of a form changed nothing, and why."""
    reasons = {name: "there is no such field" for name in fields if name not in FORM_FIELDS}
    if fields.get("title"):
        reasons["title"] = "a document has the title that stands in it"
    asked = fields.get("extract_entities", "").lower()
    if asked not in FLAGS:
        reasons["extract_entities"] = "it is neither true nor false"
    elif FLAGS[asked] and not settings.entity_model:
        reasons["extract_entities"] = "no entities are looked for: INGEST_ENTITY_MODEL is not set"
    elif asked and not FLAGS[asked] and settings.entity_model:
        reasons["extract_entities"] = "INGEST_ENTITY_MODEL is set: entities are looked for in every document"
    return reasons


def _file_of(service: Service, row: Mapping[str, Any]) -> dict[str, Any] | None:
    with service.pool.connection() as connection:
        file = file_at(connection, row["source"], row["name"])
    return file if file and file["version"] == row["version"] else None
