"""Files of the ledger: the list, all about one, its sections, and the picture of its memory."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest_pipeline.models import FILE_STATUSES
from ingest_pipeline.service import links
from ingest_pipeline.service.parameters import BadParameter, scope_of
from ingest_pipeline.service.state import service_of
from ingest_pipeline.stages.file_details import Row, file_details, file_list, file_sections
from ingest_pipeline.stages.memory_history import memory_of_file
from ingest_pipeline.stages.memory_picture import memory_svg
from ingest_pipeline.store.facets import FileFilter
from ingest_pipeline.store.memory_records import files_of_record

MOST_DIGITS = 18
"""Of a number of the ledger."""
PICTURE_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "no-cache"}
"""Also where somebody opens the picture by itself, nothing in it runs."""


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [
        Route("/files.json", files_json),
        Route("/sections.json", sections_json),
        Route("/files/{file_id}/sections.json", sections_json),
        Route("/files/{file_id}/memory.svg", memory_picture),
        Route("/files/{file_id}.json", file_json),
    ]


def files_json(request: Request) -> JSONResponse:
    """Return a page of the list of files."""
    return JSONResponse(listed(request))


def file_json(request: Request) -> JSONResponse:
    """Return all about one file."""
    return JSONResponse(details(request))


def sections_json(request: Request) -> JSONResponse:
    """Return the sections of one file, 200 at a time."""
    file_id = asked_file(request)
    after = _number(request, "after")
    with service_of(request).pool.connection() as connection:
        rows = file_sections(connection, file_id, after=-1 if after is None else after)
    if rows is None:
        raise _no_file(file_id)
    place = links.address(f"/files/{file_id}/sections.json", {"after": rows["after"]})
    return JSONResponse(rows | {"next": place if rows["after"] is not None else None})


def memory_picture(request: Request) -> Response:
    """Return the memory of the last runs that were at work on a file, as SVG."""
    file_id, service = asked_file(request), service_of(request)
    with service.pool.connection() as connection:
        records = memory_of_file(connection, service.settings, file_id)
        stages = [(record, files_of_record(connection, record)) for record in records]
    if not stages:
        raise HTTPException(404, f"no memory is recorded of file {file_id}")
    return Response(memory_svg(stages, named=True), media_type="image/svg+xml", headers=PICTURE_HEADERS)


def listed(request: Request) -> Row:
    """Return a page of the list of files, with the addresses of the pages around it.

    Raises:
        BadParameter: one of the parameters cannot be used.
    """
    chosen, after, before = file_filter(request), _number(request, "after"), _number(request, "before")
    with service_of(request).pool.connection() as connection:
        rows = file_list(connection, chosen, after=after, before=before)
    parameters = links.without_place(request.query_params)
    places = {"next": rows.pop("after"), "previous": rows.pop("before")}
    return rows | {
        name: None if place is None else links.address("/files.json", parameters, **{side: place})
        for (name, place), side in zip(places.items(), links.PLACES, strict=True)
    }


def details(request: Request) -> Row:
    """Return all about the file of a request, with the addresses that lead on.

    Raises:
        HTTPException: there is no such file.
    """
    file_id, service = asked_file(request), service_of(request)
    with service.pool.connection() as connection:
        row = file_details(connection, file_id, settings=service.settings)
    if row is None:
        raise _no_file(file_id)
    for attempt in row["attempts"]:
        attempt["dagster_url"] = links.run_url(request, service.settings, attempt["run_id"])
    if batch := row["batch_details"]:
        batch["dagster_url"] = links.partition_url(request, service.settings, batch["batch"])
    picture = f"/files/{file_id}/memory.svg" if row.pop("has_memory") else None
    return row | {"memory_picture": picture, "all_sections": f"/files/{file_id}/sections.json"}


def file_filter(request: Request) -> FileFilter:
    """Return which files a request means.

    Raises:
        BadParameter: one of the parameters cannot be used.
    """
    status, error = (request.query_params.get(name, "").strip() or None for name in ("status", "error"))
    if status is not None and status not in FILE_STATUSES:
        raise BadParameter(f"status: one of {', '.join(FILE_STATUSES)}")
    if error is not None and not error.isidentifier():
        raise BadParameter("error: the reason of a failure, such as NoText")
    chosen = FileFilter.of_scope(scope_of(request.query_params))
    values = {name: getattr(chosen, name) for name in chosen.__slots__}
    return FileFilter(**values | {"status": status, "error": error})


def asked_file(request: Request) -> int:
    """Return the number of the file that a request asks for, in its path or as `file`.

    Raises:
        BadParameter: there is none.
        HTTPException: the path has none that could be a file's.
    """
    text = request.path_params.get("file_id")
    if text is None:
        number = _number(request, "file")
        if number is None:
            raise BadParameter("file: the number of a file, as in /files.json")
        return number
    if not _is_number(text):
        raise HTTPException(404, "a file has a number, as in /files/12")
    return int(text)


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "").strip()
    if not text:
        return None
    if not _is_number(text):
        raise BadParameter(f"{name}: a whole number")
    return int(text)


def _is_number(text: Any) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS


def _no_file(file_id: int) -> HTTPException:
    return HTTPException(404, f"the ledger has no file {file_id}")
