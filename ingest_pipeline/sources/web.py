"""Lists of URLs, by fsspec's HTTP session: a text with a URL on each line, or the index page of a folder."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any, TypeVar
from urllib.parse import urldefrag, urljoin, urlsplit

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
from ingest_pipeline.sources.remote import AnswerCut, Body, ServerAway, downloaded, patiently

MAX_LIST_BYTES = 16 * 1024**2
MAX_DEPTH = 16
AWAY = (408, 425, 429, 500, 502, 503, 504)
Answer = TypeVar("Answer")


class WebList:
    """One `http(s)://` URL that names documents. A password for it belongs in `~/.netrc`."""

    def __init__(self, source: str, access: Access) -> None:
        self._source, self._access = source, access
        self._http = _filesystem(access)

    def files(self) -> Iterator[ListedFile]:
        """Yield every document that the list names, or that the index page and those below it link to.

        Raises:
            SourceUnavailable: a list cannot be read to its end.
            BadSetting: there is no such list, or it is no list.
        """
        for path in self._named(self._source, set(), 0):
            try:
                yield self.look(path)
            except FileVanished:
                yield ListedFile(path, 0, 0, refusal="the list names it, but the server has no such document")
            except (UnreadableDocument, FileCutShort) as error:
                yield ListedFile(path, 0, 0, refusal=str(error))

    def look(self, path: str) -> ListedFile:
        """Return what the server says of a document without sending it; what it does not say is 0 or ''.

        Raises:
            FileVanished: it is gone.
        """
        headers = patiently(lambda: self._head(path), path, self._access)
        size = headers.get("Content-Length", "")
        modified_ns = _nanoseconds(headers.get("Last-Modified", ""))
        return ListedFile(path, int(size) if size.isdecimal() else 0, modified_ns, etag=headers.get("ETag", ""))

    def _head(self, path: str) -> Mapping[str, str]:
        with self._answer("HEAD", self._url(path), {}) as answer:
            if answer.status in (405, 501):
                return {}
            self._check(answer, path)
            return answer.headers.copy()

    @contextmanager
    def get(self, path: str, *, begin: int, etag: str) -> Iterator[Body]:
        """Open a document's bytes, from `begin` on where the server can.

        Raises:
            FileVanished, FileChanged: it is gone, or no longer this version.
            ServerAway: worth another try.
        """
        # Packed on the way, a length would be that of the packed bytes.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
        headers |= {"If-Match": etag} if begin and etag and not etag.startswith("W/") else {}
        with self._answer("GET", self._url(path), headers) as answer:
            self._check(answer, path)
            now = answer.headers.get("ETag", "")
            if etag and now and now != etag:
                raise FileChanged(f"{self._source}/{path}: changed while it was read; the next catalog takes it up")
            begins_at = begin if answer.status == 206 else 0
            length = "" if "Content-Encoding" in answer.headers else answer.headers.get("Content-Length", "")
            ends_at = begins_at + int(length) if length.isdecimal() else None
            yield Body(lambda size: self._read(answer, size), now, begins_at, ends_at)

    def _read(self, answer: Any, size: int) -> bytes:
        from fsspec.asyn import sync

        try:
            return bytes(sync(self._http.loop, answer.content.read, size))
        except Exception as error:  # aiohttp and asyncio each have their own for a broken answer
            raise AnswerCut(type(error).__name__) from None

    @contextmanager
    def _answer(self, method: str, url: str, headers: dict[str, str]) -> Iterator[Any]:
        from aiohttp import ClientError, ClientResponseError, InvalidURL
        from fsspec.asyn import sync

        try:
            session = sync(self._http.loop, self._http.set_session)
            answer = sync(self._http.loop, _asked, session, method, url, headers)
        except InvalidURL:
            raise UnreadableDocument(f"{url}: not a URL that can be asked for") from None
        except ClientResponseError as error:  # it sends what is no HTTP, or more than it said
            raise AnswerCut(type(error).__name__) from None
        except (ClientError, OSError) as error:  # also fsspec's and asyncio's timeouts, which are OSErrors
            raise ServerAway(type(error).__name__) from None
        try:
            yield answer
        finally:
            answer.close()

    def _check(self, answer: Any, path: str) -> None:
        name = f"{self._source}/{path}" if path else self._source
        if answer.status in AWAY:
            raise ServerAway(f"HTTP {answer.status}")
        if answer.status in (404, 410):
            raise FileVanished(f"{name}: no longer there; the next catalog settles it")
        if answer.status == 412:
            raise FileChanged(f"{name}: changed while it was read; the next catalog takes it up")
        if answer.status >= 400:
            raise UnreadableDocument(f"{name}: the server says HTTP {answer.status}")

    def _named(self, url: str, seen: set[str], depth: int) -> Iterator[str]:
        """Yield each document once, as it is written below the source, or with its whole URL."""
        seen.add(url)
        for target in _targets(url, self._list(url)):
            if target in seen:
                continue
            if target.endswith("/"):
                if depth < MAX_DEPTH:
                    yield from self._named(target, seen, depth + 1)
                continue
            seen.add(target)
            yield target.removeprefix(urljoin(self._source, "."))

    def _list(self, url: str) -> str:
        text = bytearray()
        try:
            for piece in downloaded(self, url, self._access):
                text += piece
                if len(text) > MAX_LIST_BYTES:
                    raise BadSetting("INGEST_SOURCES", self._source, f"a list of at most {MAX_LIST_BYTES:,} bytes")
        except (FileVanished, UnreadableDocument) as error:
            raise BadSetting("INGEST_SOURCES", self._source, f"a list of documents ({error})") from None
        except (FileCutShort, FileChanged) as error:
            raise SourceUnavailable(str(error)) from None
        return text.decode("utf-8", "replace")

    def _url(self, path: str) -> str:
        return urljoin(self._source, path)


async def _asked(session: Any, method: str, url: str, headers: dict[str, str]) -> Any:
    return await session.request(method, url, headers=headers)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [target for name, target in attributes if name == "href" and target]


def _targets(url: str, text: str) -> list[str]:
    """Return the URLs that a list names; of an index page, those below it."""
    if "<a" not in text.lower():
        lines = [line.strip() for line in text.splitlines()]
        return [target for line in lines if line and not line.startswith("#") if (target := _joined(url, line))]
    links = _Links()
    links.feed(text)
    found = [_joined(url, target) for target in links.targets if "?" not in target]  # `?C=N;O=D` sorts an index anew
    return [target for target in found if target and target.startswith(urljoin(url, ".")) and target != url]


def _joined(url: str, target: str) -> str | None:
    try:
        joined = urldefrag(urljoin(url, target)).url
        return joined if urlsplit(joined).scheme in ("http", "https") else None
    except ValueError:
        return None


def _nanoseconds(when: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(when).timestamp()) * 10**9
    except ValueError:
        return 0


def _filesystem(access: Access) -> Any:
    import fsspec
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=access.stall_seconds, sock_read=access.stall_seconds)
    return fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True})
