"""Lists of URLs, by fsspec's HTTP session: a text with a URL on each line, or the index page of a folder."""

from __future__ import annotations

import codecs
import email.utils
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit, urlunsplit

from ingest_pipeline.errors import (
    BadSetting,
    FileChanged,
    FileCutShort,
    FileVanished,
    SourceUnavailable,
    UnreadableDocument,
)
from ingest_pipeline.models import MAX_NANOSECONDS, ListedFile
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.refusals import changed, vanished
from ingest_pipeline.sources.remote import AnswerCut, Body, ServerAway, downloaded, patiently

MAX_LIST_BYTES = 16 * 1024**2
MAX_DEPTH = 16
SILENT_DOCUMENTS = 3
AWAY = (408, 425, 429, 500, 502, 503, 504)


class WebList:
    """One `http(s)://` URL that names documents. A password for it belongs in `~/.netrc`."""

    def __init__(self, source: str, access: Access) -> None:
        self._source, self._access = source, access
        self._http = _filesystem(access)

    def files(self) -> Iterator[ListedFile]:
        """Yield every document that the list names, or that the index page and those below it link to.

        One that cannot be asked for is refused by name; three in a row say that it is not the documents' fault.

        Raises:
            SourceUnavailable: a list cannot be read to its end, or names nothing: an error page, most likely.
            BadSetting: there is no such list, or it is no list.
        """
        named = silent = 0
        for path, refusal in self._named(self._source, set(), 0):
            named += 1
            try:
                file = ListedFile(path, 0, 0, refusal) if refusal else self.look(path)
                silent = 0
            except FileVanished:
                file = ListedFile(path, 0, 0, refusal="the list names it, but the server has no such document")
            except (UnreadableDocument, FileCutShort) as error:
                file = ListedFile(path, 0, 0, refusal=str(error))
            except SourceUnavailable as error:
                silent += 1
                if silent >= SILENT_DOCUMENTS:
                    raise
                file = ListedFile(path, 0, 0, refusal=str(error))
            yield file
        if not named:
            raise SourceUnavailable(f"{self._source}: it names no document; nothing was changed in the ledger")

    def look(self, path: str) -> ListedFile:
        """Return what the server says of a document without sending it; what it does not say is 0 or ''.

        Raises:
            FileVanished: it is gone.
        """
        headers = patiently(lambda: self._head(path), path, self._access)
        size, modified_ns = headers.get("Content-Length", ""), _nanoseconds(headers.get("Last-Modified", ""))
        etag = headers.get("ETag", "").replace("\x00", "")
        return ListedFile(path, int(size) if re.fullmatch(r"\d{1,15}", size) else 0, modified_ns, etag=etag)

    def _head(self, path: str) -> Mapping[str, str]:
        with self._answer("HEAD", self._url(path), {}) as answer:
            if answer.status >= 400 and answer.status not in (*AWAY, 404, 410):
                return {}  # a link that was signed for GET alone; the download will say more
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
                raise changed(f"{self._source}/{path}", "while it was read")
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
        from aiohttp import ClientError, ClientResponseError, InvalidURL, NonHttpUrlClientError
        from fsspec.asyn import sync

        try:
            session = sync(self._http.loop, self._http.set_session)
            answer = sync(self._http.loop, _asked, session, method, url, headers)
        except (InvalidURL, NonHttpUrlClientError, ValueError):
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
            raise vanished(name)
        if answer.status == 412:
            raise changed(name, "while it was read")
        if answer.status >= 400:
            raise UnreadableDocument(f"{name}: the server says HTTP {answer.status}")

    def _named(self, url: str, seen: set[str], depth: int) -> Iterator[tuple[str, str | None]]:
        """Yield each document once, as it is written below the source or with its whole URL, and why it is refused."""
        seen.add(url)
        for target, refusal in _targets(*self._list(url)):
            if target in seen:
                continue
            seen.add(target)
            if refusal:
                yield target, refusal
            elif not target.endswith("/"):
                yield self._path(target), None
            elif depth < MAX_DEPTH:
                try:
                    yield from self._named(target, seen, depth + 1)
                except BadSetting as error:  # a folder that may not be listed is not the whole source
                    yield self._path(target), str(error)

    def _path(self, url: str) -> str:
        """Return a URL as it is written below the source, where that leads back to it."""
        short = url.removeprefix(urljoin(self._source, "."))
        return short if short and urljoin(self._source, short) == url else url

    def _list(self, url: str) -> tuple[str, str]:
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
        return final, _decoded(bytes(text), url)

    def _redirected(self, url: str) -> str:
        with self._answer("HEAD", url, {}) as answer:
            return str(answer.url)

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


def _targets(url: str, text: str) -> list[tuple[str, str | None]]:
    """Return the URLs that a list names, with why they are refused; of an index page, those below it."""
    if not text.lstrip().startswith("<"):
        lines = [line.strip() for line in text.splitlines()]
        return [_joined(url, line) for line in lines if line and not line.startswith("#")]
    links = _Links()
    links.feed(text)
    found = [_joined(url, target) for target in links.targets if "?" not in target]  # `?C=N;O=D` sorts an index anew
    base = urljoin(url, ".")
    return [(target, refusal) for target, refusal in found if target.startswith(base) and target != url]


def _joined(url: str, target: str) -> tuple[str, str | None]:
    """Return a link's URL, and why it cannot be asked for; a password in it is not shown and not kept."""
    try:
        joined = urldefrag(urljoin(url, target)).url
        parts = urlsplit(joined)
        if "@" in parts.netloc:
            plain = parts._replace(netloc=parts.netloc.rpartition("@")[2])
            return urlunsplit(plain), "a password in a URL would be kept in the ledger; put it into ~/.netrc"
        if parts.scheme in ("http", "https") and parts.hostname and joined.isprintable():
            return joined, None
    except ValueError:
        pass
    shown = target.encode("unicode_escape").decode()[:500]
    return shown, "not a URL that can be asked for"


def _decoded(text: bytes, url: str) -> str:
    """Return a list as text.

    Raises:
        BadSetting: it is something else, a document most likely.
    """
    encoding = "utf-16" if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    decoded = text.decode(encoding, "replace")
    if "\x00" in decoded or text.startswith((b"%PDF", b"PK\x03\x04")):
        raise BadSetting("INGEST_SOURCES", url, "a list of documents, not a document")
    return decoded


def _nanoseconds(when: str) -> int:
    try:
        return min(MAX_NANOSECONDS, max(0, int(email.utils.parsedate_to_datetime(when).timestamp())) * 10**9)
    except (ValueError, OverflowError):
        return 0


def _filesystem(access: Access) -> Any:
    import fsspec
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=access.stall_seconds, sock_read=access.stall_seconds)
    return fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True})
