"""Reads the documents that a list names: a text with one URL on each line, or the index page of a folder."""

from __future__ import annotations

import codecs
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit, urlunsplit

from ingest_pipeline.errors import BadSetting


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [target for name, target in attributes if name == "href" and target]


def targets_of(url: str, text: str) -> list[tuple[str, str | None]]:
    """Return the URLs of a list, or those below an index page, each with the reason if it is refused."""
    if not text.lstrip().startswith("<"):
        lines = [line.strip() for line in text.splitlines()]
        return [_joined(url, line) for line in lines if line and not line.startswith("#")]
    links = _Links()
    links.feed(text)
    joined = [_joined(url, target) for target in links.targets if "?" not in target]  # `?C=N;O=D` sorts the same index
    base = urljoin(url, ".")  # an index page also links to its parent, and perhaps to other sites
    return [(target, refusal) for target, refusal in joined if target.startswith(base) and target != url]


def _joined(url: str, target: str) -> tuple[str, str | None]:
    """Return a link's URL, and the reason if it cannot be requested; a password in it is removed."""
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
    return shown, "not a URL that can be requested"


def list_text(text: bytes, url: str) -> str:
    """Return a list as text.

    Raises:
        BadSetting: it is not a text, but most likely a document.
    """
    encoding = "utf-16" if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    decoded = text.decode(encoding, "replace")
    if "\x00" in decoded or text.startswith((b"%PDF", b"PK\x03\x04")):
        raise BadSetting("INGEST_SOURCES", url, "a list of documents, not a document")
    return decoded
