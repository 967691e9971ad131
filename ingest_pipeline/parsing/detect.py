"""Detects a file's media type by its first bytes, then by its name. Needs no parser library."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

PDF, EPUB = "application/pdf", "application/epub+zip"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
HTML, MARKDOWN, RST, TEXT = "text/html", "text/markdown", "text/x-rst", "text/plain"
CSV, TSV, PARQUET = "text/csv", "text/tab-separated-values", "application/vnd.apache.parquet"
JSON, JSONL = "application/json", "application/jsonl"
EMAIL, MBOX = "message/rfc822", "application/mbox"
OLE = "application/x-ole-storage"
"""The container of Office formats before 2007, and of encrypted files in current Office formats."""
UNKNOWN = "application/octet-stream"
GZIPPED = "+gzip"
"""Suffix of the media type of a compressed text: `text/csv+gzip`."""

TEXTS = (HTML, MARKDOWN, RST, TEXT, CSV, TSV, JSON, JSONL)
SUPPORTED = (PDF, EPUB, DOCX, PPTX, ODT, PARQUET, EMAIL, MBOX, OLE, *TEXTS, *(f"{kind}{GZIPPED}" for kind in TEXTS))

HEAD_BYTES = 4096
MAX_COMMENTS = 200  # before the first tag of an HTML file
BY_SUFFIX = {
    ".pdf": PDF,
    ".epub": EPUB,
    ".docx": DOCX, ".docm": DOCX, ".dotx": DOCX,
    ".pptx": PPTX, ".pptm": PPTX, ".ppsx": PPTX,
    ".odt": ODT, ".ott": ODT,
    ".html": HTML, ".htm": HTML, ".xhtml": HTML,
    ".md": MARKDOWN, ".markdown": MARKDOWN,
    ".rst": RST, ".rest": RST,
    ".txt": TEXT, ".text": TEXT,
    ".csv": CSV, ".tsv": TSV, ".tab": TSV,
    ".json": JSON, ".jsonl": JSONL, ".ndjson": JSONL,
    ".parquet": PARQUET,
    ".eml": EMAIL, ".mbox": MBOX,
}  # fmt: skip
# The first bytes of a format, which no other format has ("magic numbers").
MARKS = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"PAR1", PARQUET),
    # Binary formats without a parser: a name such as `picture.txt` must not make them text.
    *((mark, UNKNOWN) for mark in (
        b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x7fELF", b"7z\xbc\xaf", b"Rar!\x1a", b"BZh9", b"\xfd7zXZ",
        b"\x28\xb5\x2f\xfd", b"RIFF", b"OggS", b"SQLite format 3\x00",
    )),
)  # fmt: skip
ZIPS = (EPUB, DOCX, PPTX, ODT)
# EPUB and OpenDocument store an entry `mimetype` first; Office formats are recognized by the names of their parts.
STORED_MIMETYPE = re.compile(rb"^.{26}\x08\x00..mimetype([\w.+/-]+?)\s*PK", re.DOTALL)
OFFICE_PARTS = ((b"word/", DOCX), (b"ppt/", PPTX))
# A file named .pdf with one of these may be a damaged PDF, otherwise it is a text with a wrong name.
PDF_PARTS = (b"%PDF-", b" obj", b"endobj", b"xref", b"trailer")
HTML_START = re.compile(rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
HEADER = re.compile(rb"([!-9;-~]+):")
HEADERS = frozenset((
    b"from", b"to", b"date", b"subject", b"received", b"return-path", b"delivered-to", b"message-id", b"mime-version",
))  # fmt: skip
MAIL_HEADER = re.compile(  # as mail servers write them: in other texts `Received: 12 March` may begin a line, too
    rb"^(?:received:\s+(?:from|by|\()|(?:return-path|message-id):\s*<|mime-version:\s*1\.0)",
    re.IGNORECASE | re.MULTILINE,
)
MAILBOX_START = re.compile(rb"From \S+ .*\d\d:\d\d.*\n")
BINARY = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
BOMS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")


@dataclass(frozen=True, slots=True)
class Detected:
    """A file's media type, and a warning about it."""

    media_type: str
    disagreement: str | None = None
    """A message where content and name indicate different types."""


def media_type(path: str, head: bytes) -> str:
    """Return the media type of a file from its first 4 KiB and its name; `UNKNOWN` if neither shows it."""
    return detected(path, head).media_type


def detected(path: str, head: bytes) -> Detected:
    """Return the media type by a file's first 4 KiB, or by its name where these do not show it.

    Text with an unknown suffix, or without one (`README`, `.log`, `.xml`), is plain text.
    """
    by_name = _by_name(path)
    if head[:2] == b"\x1f\x8b":
        return Detected(_packed_type(path, head))
    by_content = _by_content(head, by_name)
    if by_content is None:
        return Detected(by_name)
    agrees = by_content == by_name or by_name == UNKNOWN
    return Detected(by_content, None if agrees else f"named like {by_name}, but holds {by_content}: read as that")


def short_name(media_type: str) -> str:
    """Return the short name of a media type: `docx`, `csv.gz`; the media type itself if it has none."""
    plain = media_type.removesuffix(GZIPPED)
    name = next((suffix[1:] for suffix, kind in BY_SUFFIX.items() if kind == plain), media_type)
    return f"{name}.gz" if plain != media_type else name


def _by_content(head: bytes, by_name: str) -> str | None:
    """Return the media type that the bytes show; None if only the name can tell."""
    if _starts_pdf(head, by_name):
        return PDF
    for mark, kind in MARKS:
        if head.startswith(mark):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _zip_type(head, by_name)
    if by_name == PDF:  # without the mark: a text, or a damaged PDF, which the PDF parser may still read
        return TEXT if _is_text(head) and not any(part in head for part in PDF_PARTS) else None
    if _starts_html(head):
        return HTML
    if by_name in (UNKNOWN, *ZIPS, PARQUET):
        if by_name == UNKNOWN and (mail := _mail_type(head)):
            return mail
        return TEXT if _is_text(head) else UNKNOWN if head else None
    return None


def _mail_type(head: bytes) -> str | None:
    """Return EMAIL or MBOX if one begins here, else None: the files of a Maildir have no suffix."""
    cut = len(head) >= HEAD_BYTES
    head = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    mailbox = MAILBOX_START.match(head)
    headers, end, _ = head[mailbox.end() if mailbox else 0 :].partition(b"\n\n")
    if not (end or cut):
        return None
    lines = headers.split(b"\n")[: None if end else -1]  # the last line may be cut
    matches = [HEADER.match(line) for line in lines]
    if not all(match or line.startswith((b" ", b"\t")) for match, line in zip(matches, lines, strict=True)):
        return None
    names = {match[1].lower() for match in matches if match} & HEADERS
    # Three known headers and one that only mail servers write: many texts begin with lines like `Date: today`.
    if len(names) < 3 or (end and b"from" not in names) or not (mailbox or MAIL_HEADER.search(headers)):
        return None
    return MBOX if mailbox else EMAIL


def _starts_pdf(head: bytes, by_name: str) -> bool:
    """Return whether a PDF begins here.

    Other bytes may precede its mark, except in a file that is named like a text: a text may mention `%PDF-`.
    """
    if by_name in TEXTS:
        return head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"%PDF-")
    return b"%PDF-" in head[:1024]


def _starts_html(head: bytes) -> bool:
    """Return whether HTML begins here, after comments and an XML declaration.

    Without a regular expression: one that repeats comments backtracks for minutes on two dozen of them.
    """
    rest = head.lstrip()
    for begin, end in ((b"<?xml", b"?>"), *((b"<!--", b"-->") for _ in range(MAX_COMMENTS))):
        if rest.startswith(begin):
            rest = rest.partition(end)[2].lstrip()
    return HTML_START.match(rest) is not None


def _zip_type(head: bytes, by_name: str) -> str:
    stored = STORED_MIMETYPE.match(head)
    if stored:
        kind = stored[1].decode("ascii", "replace").removesuffix("-template")
        return kind if kind in (EPUB, ODT) else by_name if by_name in ZIPS else UNKNOWN
    if by_name in ZIPS:
        return by_name
    return next((kind for part, kind in OFFICE_PARTS if b"[Content_Types].xml" in head and part in head), UNKNOWN)


def _packed_type(path: str, head: bytes) -> str:
    name = path[: -len(".gz")] if path.lower().endswith(".gz") else path
    try:
        inner = zlib.decompressobj(31).decompress(head, HEAD_BYTES)
    except zlib.error:
        inner = b""
    if inner[:2] == b"\x1f\x8b":  # nested archives are refused: some unpack to themselves without end
        return UNKNOWN
    kind = media_type(name, inner)
    return f"{kind}{GZIPPED}" if kind in TEXTS else UNKNOWN


def _is_text(head: bytes) -> bool:
    """Return whether bytes are text in any encoding: without control characters that only binary files contain."""
    if not head:
        return False
    return head.startswith(BOMS) or not BINARY.search(head)


def _by_name(path: str) -> str:
    kind = BY_SUFFIX.get(_suffix(path), UNKNOWN)
    if kind == TEXT and path.lower().endswith((".md.txt", ".markdown.txt")):
        return MARKDOWN
    return kind


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""
