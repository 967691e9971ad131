"""Lists of URLs, read by fsspec's HTTP session: a text with one URL on each line, or the index page of a folder."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from ingest_pipeline.errors import (
    BadSetting,
    FileChanged,
    FileCutShort,
    FileVanished,
    SourceUnavailable,
    UnreadableDocument,
)
from ingest_pipeline.models import ListedFile
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.ahead import answers_ahead
from ingest_pipeline.sources.base import file_name
from ingest_pipeline.sources.download import (
    Body,
    Downloads,
    ServerUnavailable,
    TruncatedResponse,
    downloaded,
    patiently,
    revision_of,
)
from ingest_pipeline.sources.links import list_text, targets_of
from ingest_pipeline.sources.wording import changed, not_a_source, vanished

MAX_LIST_BYTES = 16 * 1024**2  # a list is in memory as a whole
MAX_DEPTH = 16  # of index pages: a server may generate them without end
HEADS_AT_ONCE = 16  # a request waits for the network nearly all of its time
MAX_UNAVAILABLE = 3  # documents in a row; then the server is considered unavailable
BUSY = (408, 425, 429, 500, 502, 503, 504)  # the request is sent again
MISSING = (404, 410)


def canonical(text: str) -> str:
    """Return a list's URL as it is written: a trailing slash has a meaning.

    Raises:
        BadSetting: it names no host.
    """
    try:
        if urlsplit(text).hostname and text.isprintable():
            return text
    except ValueError:
        pass
    raise not_a_source(text)


def open_source(name: str, access: Access) -> Downloads:
    """Return the source of this name."""
    return Downloads(UrlList(name, access), access)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A document as the server describes it; the error, if the server was unavailable."""

    file: ListedFile
    error: SourceUnavailable | None = None


class UrlList:
    """One `http(s)://` URL that names documents. A password for it belongs in `~/.netrc`."""

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self._access = access
        self._http = _filesystem(access)

    def files(self) -> Iterator[ListedFile]:
        """Yield every document that the list names, or that the index page and those below it link to.

        A document that cannot be requested has `refusal` set; three in a row are a failure of the server.

        Raises:
            SourceUnavailable: a list cannot be read completely, or it is empty, most likely an error page.
            BadSetting: there is no such list, or the document is not a list.
        """
        listed = unavailable = 0
        for answer in answers_ahead(self._asked, self._documents(self.name, set(), 0), at_once=HEADS_AT_ONCE):
            listed += 1
            unavailable = unavailable + 1 if answer.error else 0
            if answer.error and unavailable >= MAX_UNAVAILABLE:
                raise answer.error
            yield answer.file
        if not listed:
            raise SourceUnavailable(f"{self.name}: it names no document; nothing was changed in the ledger")

    def _asked(self, document: tuple[str, str | None]) -> _Answer:
        """Return what the server says of a document, which may be that it is unavailable."""
        path, refusal = document
        if refusal:
            return _Answer(self._refused(path, refusal))
        try:
            return _Answer(self._listed(path))
        except SourceUnavailable as error:
            return _Answer(self._refused(path, str(error)), error)

    def _listed(self, path: str) -> ListedFile:
        try:
            return self.head(path)
        except FileVanished:
            return self._refused(path, "the list names it, but the server has no such document")
        except (UnreadableDocument, FileCutShort) as error:
            return ListedFile(path, 0, refusal=error.with_traceback(None))  # the traceback holds the response

    def _refused(self, path: str, why: str) -> ListedFile:
        return ListedFile(path, 0, refusal=UnreadableDocument(f"{file_name(self.name, path)}: {why}"))

    def head(self, path: str) -> ListedFile:
        """Return size and revision of a document by a HEAD request; 0 or '' where the server does not report them.

        Raises:
            FileVanished: it no longer exists.
        """
        headers = patiently(lambda: self._headers(path), path, self._access)
        length, modified = headers.get("Content-Length", ""), _seconds(headers.get("Last-Modified", ""))
        size_bytes = int(length) if re.fullmatch(r"\d{1,15}", length) else 0
        return ListedFile(path, size_bytes, revision_of(headers.get("ETag", ""), size_bytes, modified))

    def _headers(self, path: str) -> Mapping[str, str]:
        with self._response("HEAD", self._url(path), {}) as response:
            if response.status >= 400 and response.status not in (*BUSY, *MISSING):
                return {}  # a URL may be signed for GET alone; the download reports a real error
            self._refuse_status(response, path)
            return response.headers.copy()

    @contextmanager
    def get(self, path: str, *, begin: int, etag: str) -> Iterator[Body]:
        """Open a document's bytes, from `begin` on if the server supports ranges.

        Raises:
            FileVanished, FileChanged: it no longer exists, or is no longer this version.
            ServerUnavailable: to be tried again.
        """
        # Without compression, because Content-Length would be the length of the compressed bytes.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
        # A weak ETag does not identify the bytes: If-Match never matches it (RFC 9110, 13.1.1).
        headers |= {"If-Match": etag} if begin and etag and not etag.startswith("W/") else {}
        with self._response("GET", self._url(path), headers) as response:
            self._refuse_status(response, path)
            now = response.headers.get("ETag", "")
            if etag and now and now != etag:
                raise changed(file_name(self.name, path), "while it was read")
            begins_at = begin if response.status == 206 else 0
            length = "" if "Content-Encoding" in response.headers else response.headers.get("Content-Length", "")
            ends_at = begins_at + int(length) if length.isdecimal() else None
            yield Body(lambda size: self._read(response, size), now, begins_at, ends_at)

    def _read(self, response: Any, size: int) -> bytes:
        from fsspec.asyn import sync

        try:
            return bytes(sync(self._http.loop, response.content.read, size))
        except Exception as error:  # aiohttp and asyncio have no common type for a broken response
            raise TruncatedResponse(type(error).__name__) from None

    @contextmanager
    def _response(self, method: str, url: str, headers: dict[str, str]) -> Iterator[Any]:
        from aiohttp import ClientError, ClientResponseError, InvalidURL, NonHttpUrlClientError
        from fsspec.asyn import sync

        try:
            session = sync(self._http.loop, self._http.set_session)
            response = sync(self._http.loop, _send, session, method, url, headers)
        except (InvalidURL, NonHttpUrlClientError, ValueError):
            raise UnreadableDocument(f"{url}: not a URL that can be requested") from None
        except ClientResponseError as error:  # the server sends invalid HTTP, or more bytes than announced
            raise TruncatedResponse(type(error).__name__) from None
        except (ClientError, OSError) as error:  # also fsspec's and asyncio's timeouts, which are OSErrors
            raise ServerUnavailable(type(error).__name__) from None
        try:
            yield response
        finally:
            response.close()

    def _refuse_status(self, response: Any, path: str) -> None:
        name = file_name(self.name, path)
        if response.status in BUSY:
            raise ServerUnavailable(f"HTTP {response.status}")
        if response.status in MISSING:
            raise vanished(name)
        if response.status == 412:
            raise changed(name, "while it was read")
        if response.status >= 400:
            raise UnreadableDocument(f"{name}: the server returned HTTP {response.status}")

    def _documents(self, url: str, seen: set[str], depth: int) -> Iterator[tuple[str, str | None]]:
        """Yield each document once: its path below the source or its whole URL, and the reason if it is refused."""
        seen.add(url)
        for target, refusal in targets_of(*self._read_list(url)):
            if target in seen:
                continue
            seen.add(target)
            if refusal:
                yield target, refusal
            elif not target.endswith("/"):
                yield self._path(target), None
            elif depth < MAX_DEPTH:
                try:
                    yield from self._documents(target, seen, depth + 1)
                except BadSetting as error:  # of one folder that cannot be listed: the others can
                    yield self._path(target), str(error)

    def _path(self, url: str) -> str:
        """Return a URL relative to the source if it can be resolved back to the same URL, else the whole URL."""
        short = url.removeprefix(urljoin(self.name, "."))
        return short if short and urljoin(self.name, short) == url else url

    def _read_list(self, url: str) -> tuple[str, str]:
        """Return a list's URL, after redirections, and its text."""
        text = bytearray()
        try:
            final = patiently(lambda: self._redirected(url), url, self._access)
            for piece in downloaded(self, url, self._access):
                text += piece
                if len(text) > MAX_LIST_BYTES:
                    raise BadSetting("INGEST_SOURCES", url, f"a list of at most {MAX_LIST_BYTES:,} bytes")
        except (FileVanished, UnreadableDocument) as error:
            raise BadSetting("INGEST_SOURCES", url, f"a list of documents ({error})") from None
        except (FileCutShort, FileChanged) as error:
            raise SourceUnavailable(str(error)) from None
        return final, list_text(bytes(text), url)

    def _redirected(self, url: str) -> str:
        with self._response("HEAD", url, {}) as response:
            return str(response.url)

    def _url(self, path: str) -> str:
        return urljoin(self.name, path)


async def _send(session: Any, method: str, url: str, headers: dict[str, str]) -> Any:
    return await session.request(method, url, headers=headers)


def _seconds(when: str) -> int:
    try:
        return max(0, int(email.utils.parsedate_to_datetime(when).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _filesystem(access: Access) -> Any:
    import fsspec
    from aiohttp import ClientTimeout

    # No total timeout: a large file may take long, as long as bytes arrive. `trust_env` reads proxies and ~/.netrc.
    timeout = ClientTimeout(total=None, sock_connect=access.stall_seconds, sock_read=access.stall_seconds)
    return fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True})
