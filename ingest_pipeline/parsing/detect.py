"""What a file is: by its first bytes, then by its name. Needs no parser library."""

from __future__ import annotations

PDF, EPUB = "application/pdf", "application/epub+zip"
HTML, MARKDOWN, TEXT = "text/html", "text/markdown", "text/plain"
UNKNOWN = "application/octet-stream"
SUPPORTED = (PDF, EPUB, HTML, MARKDOWN, TEXT)

BY_SUFFIX = {
    ".pdf": PDF,
    ".epub": EPUB,
    ".html": HTML, ".htm": HTML, ".xhtml": HTML,
    ".md": MARKDOWN, ".markdown": MARKDOWN,
    ".txt": TEXT, ".text": TEXT,
}  # fmt: skip
OTHER_ZIPS = (".docx", ".pptx", ".odt", ".xlsx", ".zip")


def media_type(path: str, head: bytes) -> str:
    """Return the media type of a file from its first 4 KiB and its name; `UNKNOWN` if neither tells."""
    if b"%PDF-" in head[:1024]:
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return _zip_type(path, head)
    by_name = BY_SUFFIX.get(_suffix(path), UNKNOWN)
    if by_name == TEXT and path.lower().endswith((".md.txt", ".markdown.txt")):
        return MARKDOWN
    return by_name


def _zip_type(path: str, head: bytes) -> str:
    # An EPUB's first entry is `mimetype`, stored: its text stands at byte 38.
    if head[30:58] == b"mimetypeapplication/epub+zip" or _suffix(path) == ".epub":
        return EPUB
    return UNKNOWN


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""
