"""One or more documents of each supported format, and what a reader finds in each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ingest_pipeline_tests.made import epub, mail, office, pages, pdf, records
from ingest_pipeline_tests.made.words import (
    CZECH,
    ENGLISH,
    GERMAN,
    GREEK,
    HEBREW,
    JAPANESE,
    KOREAN,
    LEGACY,
    POLISH,
    RUSSIAN,
    THAI,
    UKRAINIAN,
    paragraphs,
)
from ingest_pipeline_tests.parsers import detect


@dataclass(frozen=True, slots=True)
class Made:
    """A document: its name, the type that it has to be detected as, and what its parser has to find."""

    name: str
    media_type: str
    make: Callable[[], bytes]
    phrases: tuple[str, ...]
    """Stand in its text, whatever the white space."""
    title: str | None = None
    pages: int = 1
    """The number of its last page."""
    headings: tuple[tuple[int, str], ...] = ()
    """Some of its headings, in their order."""


def _html(**options: str) -> str:
    return pages.page(**options)  # type: ignore[arg-type]


def _chapters(*texts: str) -> dict[str, str | bytes]:
    return {f"c{number}.xhtml": epub.chapter(text) for number, text in enumerate(texts, start=1)}


def _mailbox() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        letters = [mail.delivered("Žádost o místo", CZECH), mail.delivered("Ответ", RUSSIAN)]
        return mail.box(Path(folder) / "box", *letters)


SECTIONS = tuple((2, heading) for heading, _ in pages.SECTIONS)
LEDGERS = ((1, "Ledgers"), (2, "Voda a vítr"), (1, "Млин"))
ROWS = tuple(text for row in office.ROWS for text in row)
CATALOGUE = (
    Made("book.pdf", detect.PDF, pdf.book, ("Page 6 of the mill book", "two ledgers"), "The Mill Book", 6,
         ((1, "Part one"), (2, "The ledgers"), (2, "The wind"), (1, "Part two"))),
    Made("form.pdf", detect.PDF, pdf.form, ("Name: Olena Kovalenko", "Season: Autumn", "Received on 3 May"),
         "Application"),
    Made("japanese.pdf", detect.PDF, lambda: pdf.pages([JAPANESE, ""], font="HeiseiMin-W3"), (JAPANESE[:20],), pages=2),
    Made("korean.pdf", detect.PDF, lambda: pdf.pages([KOREAN], font="HYSMyeongJo-Medium"), ("방앗간 노인은",)),
    Made("owner.pdf", detect.PDF, lambda: pdf.locked("AES-256", user=""), ("two ledgers", "Straßenfest"), pages=2),
    *(Made(f"{what}.pdf", detect.PDF, make, (pdf.HELLO,), pages=1 + (what == "a page tree that names itself"))
      for what, make in pdf.REPAIRABLE.items()),
    Made("modern.epub", detect.EPUB, lambda: epub.epub3(_chapters(ENGLISH, THAI, HEBREW), ("c2.xhtml", "คนโม่แป้ง", 1),
                                                        title="Three Mills"),
         ("two ledgers", "คนโม่แป้งชราเดินไปที่แม่น้ำ", HEBREW[:30]), "Three Mills", 3, ((1, "คนโม่แป้ง"),)),
    Made("old.epub", detect.EPUB, lambda: epub.epub2(_chapters(GERMAN, GREEK), ("c1.xhtml", "Die Müllerin", 1),
                                                     ("c2.xhtml", "Ο γέρος", 2)),
         ("Größere Bestellungen", "παλιό τραγούδι"), "A Book", 2, ((1, "Die Müllerin"), (2, "Ο γέρος"))),
    Made("report.docx", detect.DOCX, office.written_word, ("two ledgers", CZECH, UKRAINIAN, JAPANESE, *ROWS),
         "The Mill Report", 1, LEDGERS),
    Made("talk.pptx", detect.PPTX, office.written_slides, ("A talk for the guild", GREEK, "Sacks of rye", *ROWS),
         "The Mill Talk", 3, ((1, "Wind and water"), (1, "Ο μύλος"), (1, "Harvest"))),
    Made("zprava.odt", detect.ODT, office.written_opendocument, (CZECH, JAPANESE, "Told by the miller", *ROWS),
         "Zpráva o mlýně", 1, ((1, "Deník"), (2, "粉屋"))),
    Made("page.html", detect.HTML, lambda: _html().encode(), (JAPANESE, UKRAINIAN), "The mill", 6, SECTIONS),
    Made("wide.html", detect.HTML, lambda: _html().encode("utf-16"), (JAPANESE, GERMAN), "The mill", 6, SECTIONS),
    Made("cyrillic.html", detect.HTML, lambda: pages.page(head='<meta charset="windows-1251">',
         sections=(("Млин", UKRAINIAN),), title="Млин").encode("cp1251"), (UKRAINIAN,), "Млин", 1, ((2, "Млин"),)),
    Made("notes.md", detect.MARKDOWN, lambda: pages.markdown().encode(), (CZECH, "| May | 41 |"), "Mlýn a moře", 6,
         SECTIONS),
    Made("notes.rst", detect.RST, lambda: pages.rst().encode(), (UKRAINIAN,), "Млин", 6, SECTIONS),
    Made("tale.txt", detect.TEXT, lambda: paragraphs(RUSSIAN, 45_000).encode(), (RUSSIAN,), pages=3),
    *(Made(f"{number}.{encoding}.txt", detect.TEXT, lambda text=text, encoding=encoding: f"{text}\n".encode(encoding),
           (text,)) for number, (text, encoding) in enumerate(LEGACY)),
    Made("words.csv", detect.CSV, lambda: records.table(records.rows(120)), ("language: Thai", THAI), pages=2),
    Made("words.tsv", detect.TSV, lambda: records.table(records.rows(3), "\t"), (GERMAN, "id: 3"), pages=1),
    Made("words.json", detect.JSON, lambda: b"[" + records.lines(*records.rows(4)).replace(b"\n", b",") + b"]",
         (GERMAN, "id: 4")),
    Made("words.jsonl", detect.JSONL, lambda: records.lines(*records.rows(250)), (POLISH, "id: 250"), pages=3),
    Made("words.parquet", detect.PARQUET, lambda: records.parquet_file(records.rows(250)), (KOREAN, "id: 250"),
         pages=3),
    Made("words.csv.gz", "text/csv+gzip", lambda: records.packed(records.table(records.rows(9))), (POLISH,)),
    Made("notes.md.gz", "text/markdown+gzip", lambda: records.packed(pages.markdown().encode()), (CZECH,),
         "Mlýn a moře", 6, SECTIONS),
    Made("letter.eml", detect.EMAIL, lambda: bytes(mail.letter("Grüße", GERMAN, html="<p>no</p>")),
         ("Subject: Grüße", "Größere Bestellungen"), "Grüße", 1, ((1, "Grüße"),)),
    Made("1746435600.M1P2.host,S=700", detect.EMAIL, lambda: bytes(mail.delivered("Vlak", CZECH)), (CZECH,), "Vlak", 1,
         ((1, "Vlak"),)),
    Made("inbox.mbox", detect.MBOX, _mailbox, (CZECH, RUSSIAN), "Žádost o místo", 2,
         ((1, "Žádost o místo"), (1, "Ответ"))),
)  # fmt: skip


@cache
def content_of(name: str) -> bytes:
    """The bytes of a document of the catalogue."""
    return next(made for made in CATALOGUE if made.name == name).make()
