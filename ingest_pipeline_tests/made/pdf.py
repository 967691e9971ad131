"""PDF documents: ordinary ones by reportlab, locked ones by pikepdf, damaged ones written by hand."""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection, Iterable, Sequence
from functools import cache

import pikepdf
import pypdf
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    PdfObject,
    TextStringObject,
)
from reportlab.lib.pagesizes import A6
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from ingest_pipeline_tests.made.words import CHINESE, ENGLISH, GERMAN, JAPANESE, KOREAN

HELLO = "Hello from the mill!"
CID_FONTS = {"HeiseiMin-W3": JAPANESE, "STSong-Light": CHINESE, "HYSMyeongJo-Medium": KOREAN}
"""Fonts that every reader brings along: no font file is part of the document."""

Entry = tuple[str, int, int]
"""An outline entry: title, level from 0, page from 1."""


def lines_of(text: str, width: int) -> list[str]:
    """A text in lines of at most this many characters, cut at spaces where there are any."""
    lines, line = [], ""
    for word in text.split(" ") if " " in text else list(text):
        joined = f"{line} {word}".strip() if " " in text else line + word
        if len(joined) > width and line:
            lines.append(line)
            joined = word
        line = joined
    return [*lines, line]


def pages(
    texts: Sequence[str],
    *,
    title: str | None = None,
    outline: Iterable[Entry] = (),
    font: str = "Helvetica",
    columns: int = 1,
) -> bytes:
    """A PDF with a page for each text; an empty text makes a page without any."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A6, pageCompression=0, invariant=1)
    if font in CID_FONTS:
        pdfmetrics.registerFont(UnicodeCIDFont(font))
    canvas.setTitle(title or "")
    entries = list(outline)
    for number, text in enumerate(texts, start=1):
        for at, (name, level, page) in enumerate(entries):
            if page == number:
                canvas.bookmarkPage(f"entry{at}")
                canvas.addOutlineEntry(name, f"entry{at}", level)
        if text:
            for column, part in enumerate(_columns(lines_of(text, 60 // columns), columns)):
                block = canvas.beginText(20 + column * 130, 390)
                block.setFont(font, 8)
                block.textLines("\n".join(part))
                canvas.drawText(block)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _columns(lines: list[str], columns: int) -> list[list[str]]:
    height = -(-len(lines) // columns)
    return [lines[start : start + height] for start in range(0, len(lines), height)]


@cache
def book() -> bytes:
    """Six pages with a title, a nested outline, and roman labels on the first two."""
    texts = [f"Page {number} of the mill book. {ENGLISH}" for number in range(1, 7)]
    entries = [("Part one", 0, 2), ("The ledgers", 1, 2), ("The wind", 1, 4), ("Part two", 0, 5)]
    with pikepdf.open(io.BytesIO(pages(texts, title="The Mill Book", outline=entries))) as document:
        roman, decimal = pikepdf.Dictionary(S=pikepdf.Name.r), pikepdf.Dictionary(S=pikepdf.Name.D, St=1)
        document.Root.PageLabels = pikepdf.Dictionary(Nums=pikepdf.Array([0, roman, 2, decimal]))
        return saved(document)


@cache
def scan(count: int = 1) -> bytes:
    """Pages that are a picture each, without text."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A6, invariant=1)
    for _ in range(count):
        for line in range(40):
            canvas.rect(20, 10 + line * 10, 250 - line * 3, 2, fill=1)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def saved(document: pikepdf.Pdf, **options: object) -> bytes:
    """The bytes of a document of pikepdf."""
    buffer = io.BytesIO()
    document.save(buffer, deterministic_id="encryption" not in options, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


CIPHERS = {
    "RC4-40": {"R": 2, "aes": False, "metadata": False},
    "RC4-128": {"R": 3, "aes": False, "metadata": False},
    "AES-128": {"R": 4, "aes": True},
    "AES-256": {"R": 6, "aes": True},
}
"""What pikepdf calls the generations of PDF encryption."""


def locked(cipher: str, *, user: str, owner: str = "owner", content: bytes | None = None) -> bytes:
    """A PDF behind a password; an empty one for the user locks only the owner's rights."""
    encryption = pikepdf.Encryption(user=user, owner=owner, **CIPHERS[cipher])  # type: ignore[arg-type]
    with pikepdf.open(io.BytesIO(content or pages([ENGLISH, GERMAN]))) as document:
        return saved(document, encryption=encryption)


def without_extraction() -> bytes:
    """A PDF that opens without a password and forbids to copy its text."""
    allowed = pikepdf.Permissions(extract=False)
    with pikepdf.open(io.BytesIO(pages([ENGLISH]))) as document:
        return saved(document, encryption=pikepdf.Encryption(owner="o", user="", allow=allowed))


# ---------------------------------------------------------------------------------------- by hand, byte for byte


def content_stream(text: str) -> bytes:
    """The operators that show one line."""
    return b"BT /F1 12 Tf 10 50 Td (%s) Tj ET" % text.encode("latin-1")


def stream_object(content: bytes, *, length: object = None, entries: bytes = b"", end: bytes = b"\nendstream") -> bytes:
    """A stream whose dictionary may lie about its length."""
    said = str(len(content) if length is None else length).encode()
    return b"<</Length %s%s>>stream\n%s%s" % (said, entries, content, end)


CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 99]/Contents %d 0 R/Resources<</Font<</F1 5 0 R>>>>>>"


def hello_objects(text: str = HELLO, **stream: object) -> dict[int, bytes]:
    """The objects of a document of one page with one line."""
    return {
        1: CATALOG,
        2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        3: PAGE % 4,
        4: stream_object(content_stream(text), **stream),  # type: ignore[arg-type]
        5: FONT,
    }


def many_objects(*contents: bytes) -> dict[int, bytes]:
    """The objects of a document with a page for each content stream; objects 2 to 5 are as in `hello_objects`."""
    numbers = [(10 + 2 * at, 11 + 2 * at) for at in range(len(contents))]
    kids = b" ".join(b"%d 0 R" % page for page, _ in numbers)
    objects = {1: CATALOG, 2: b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(contents)), 5: FONT}
    for (page, stream), content in zip(numbers, contents, strict=True):
        objects |= {page: PAGE % stream, stream: stream_object(content)}
    return objects


def written(
    objects: dict[int, bytes],
    *,
    header: bytes = b"%PDF-1.7\n",
    shift: int = 0,
    astray: Collection[int] = (),
    xref: bool = True,
    trailer: bytes = b"<</Root 1 0 R/Size %d>>",
    endobj: bytes = b"\nendobj\n",
    eof: bytes = b"%%EOF\n",
) -> bytes:
    """A file of these objects.

    Args:
        objects: their bodies by number.
        header: the first line.
        shift: what every offset of the cross-reference table is wrong by.
        astray: objects whose offset alone is wrong.
        xref: whether there is a cross-reference table at all.
        trailer: its dictionary.
        endobj: what ends each object.
        eof: the last line.
    """
    body, offsets = header, {}
    for number, content in objects.items():
        offsets[number] = len(body)
        body += b"%d 0 obj\n%s%s" % (number, content, endobj)
    size = max(objects) + 1
    said = trailer % size if b"%d" in trailer else trailer
    if not xref:
        return body + b"trailer" + said + b"\n" + eof
    free = b"0000000000 65535 f \n"
    entries = b"".join(
        b"%010d 00000 n \n" % (offsets[number] + shift + 7 * (number in astray)) if number in offsets else free
        for number in range(1, size)
    )
    start = len(body) + shift
    table = b"xref\n0 %d\n%s%strailer%s\n" % (size, free, entries, said)
    return body + table + b"startxref\n%d\n%s" % (start, eof)


@cache
def hello() -> bytes:
    """The smallest correct document: one page, one line."""
    return written(hello_objects())


REPAIRABLE = {
    "offsets that are wrong": lambda: written(hello_objects(), shift=7),
    "no cross-reference table": lambda: written(hello_objects(), xref=False),
    "a missing endobj": lambda: written(hello_objects(), endobj=b"\n"),
    "a missing endstream": lambda: written(hello_objects(end=b"")),
    "a length that is too large": lambda: written(hello_objects(length=2**31 - 1)),
    "a length that is no number": lambda: written(hello_objects(length="5.5")),
    "a length that points to itself": lambda: written(hello_objects(length="4 0 R")),
    "no last line": lambda: written(hello_objects(), eof=b""),
    "bytes before the header": lambda: b"HTTP/1.1 200 OK\r\n\r\n" + hello(),
    "bytes behind the end": lambda: hello() + b"\0" * 3000,
    "a misspelt type": lambda: hello().replace(b"/Type/Pages", b"/Type/Pqges"),
    "a page tree that names itself": lambda: written(
        {**hello_objects(), 2: b"<</Type/Pages/Kids[3 0 R 2 0 R]/Count 2>>"}
    ),
    "a content that names itself": lambda: written(
        {
            **hello_objects(),
            4: stream_object(content_stream(HELLO) + b" /X1 Do"),
            3: (PAGE % 4).replace(b"/Font<<", b"/XObject<</X1 6 0 R>>/Font<<"),
            6: stream_object(b"/X1 Do", entries=b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources 7 0 R"),
            7: b"<</XObject<</X1 6 0 R>>>>",
        }
    ),
    "operators that nobody knows": lambda: written(hello_objects(text=HELLO + ") Tj 1 2 nonsense (")),
}
"""Documents of one page that says `HELLO`, damaged in ways that do not matter."""

UNREADABLE = {
    "only a header": lambda: b"%PDF-1.7\n",
    "a header and zeros": lambda: b"%PDF-1.7\n" + bytes(5000),
    "no document catalog": lambda: written({number: body for number, body in hello_objects().items() if number != 1}),
    "a page tree of itself alone": lambda: written({1: CATALOG, 2: b"<</Type/Pages/Kids[2 0 R]/Count 1>>"}),
    "a trailer that is a number": lambda: written(hello_objects(), trailer=b" 7"),
}
"""Documents of which no page can be had."""


def truncated(content: bytes, part: float) -> bytes:
    """The beginning of a document, as an interrupted download leaves it."""
    return content[: int(len(content) * part)]


def missing_kid() -> bytes:
    """A page tree whose only page is not in the file."""
    return written({number: body for number, body in hello_objects().items() if number != 3})


def broken_second_branch() -> bytes:
    """Two pages, of which the second is a number."""
    objects = {**hello_objects(), 2: b"<</Type/Pages/Kids[3 0 R 6 0 R]/Count 2>>", 6: b"42"}
    return written(objects)


def outline_loop(count: int = 3) -> bytes:
    """Pages with an outline whose last entry is followed by its first."""
    objects = many_objects(*(content_stream(f"Page {number}") for number in range(1, count + 1)))
    objects[1] = b"<</Type/Catalog/Pages 2 0 R/Outlines 6 0 R>>"
    objects[6] = b"<</First 7 0 R/Last 8 0 R/Count 2>>"
    objects[7] = b"<</Title(One)/Parent 6 0 R/Dest[10 0 R/Fit]/Next 8 0 R>>"
    objects[8] = b"<</Title(Two)/Parent 6 0 R/Dest[12 0 R/Fit]/Next 7 0 R>>"
    return written(objects)


def named_destinations() -> bytes:
    """Four pages whose outline leads to them by name, by action, by an old name, and nowhere."""
    objects = many_objects(*(content_stream(f"Page {number}") for number in range(1, 5)))
    names = b"<</Names[(first)<</D[10 0 R/Fit]>>]/Limits[(first)(first)]>>"
    others = b"<</Names[(z)[10 0 R/Fit]]/Limits[(y)(z)]>>"
    objects[1] = (
        b"<</Type/Catalog/Pages 2 0 R/Outlines 6 0 R/Dests<</old[14 0 R/Fit]>>"
        b"/Names<</Dests<</Kids[30 0 R 31 0 R]>>>>/PageLabels<</Nums[0<</S/D/P(M-)>>]>>>>"
    )
    objects |= {30: names, 31: others}
    objects[6] = b"<</First 20 0 R/Last 25 0 R/Count 6>>"
    entries = [
        b"/Title(Part)/First 26 0 R/Last 26 0 R", b"/Title(By action)/A<</S/GoTo/D[12 0 R/Fit]>>",
        b"/Title(By old name)/Dest/old", b"/Title(To a page that is gone)/Dest[99 0 R/Fit]",
        b"/Title(To no name)/Dest(nobody)", b"/Title(Last)/Dest[16 0 R/Fit]",
    ]  # fmt: skip
    for at, entry in enumerate(entries):
        following = b"/Next %d 0 R" % (21 + at) if at < 5 else b""
        objects[20 + at] = b"<<%s/Parent 6 0 R%s>>" % (entry, following)
    objects[26] = b"<</Title(By name)/Parent 20 0 R/Dest(first)>>"
    return written(objects)


def unbalanced_outline() -> bytes:
    """A page with an outline entry that has no title and one whose destination is a number."""
    objects = {**hello_objects(), 1: b"<</Type/Catalog/Pages 2 0 R/Outlines 6 0 R>>"}
    objects[6] = b"<</First 7 0 R/Last 8 0 R/Count 2>>"
    objects[7] = b"<</Parent 6 0 R/Dest[3 0 R/Fit]/Next 8 0 R>>"
    objects[8] = b"<</Title(Odd)/Parent 6 0 R/Dest 7>>"
    return written(objects)


def garbled_page() -> bytes:
    """Three pages, of which the second has a content stream that no filter unpacks."""
    good = stream_object(content_stream("The first page."))
    objects = many_objects(content_stream("The first page."), b"", content_stream("The third page."))
    assert objects[11] == good
    objects[13] = stream_object(b"no deflated bytes at all", entries=b"/Filter/FlateDecode")
    return written(objects)


def operator_bomb(operators: int) -> bytes:
    """A small file of two pages: the first unpacks to very many operators, the second is harmless."""
    objects = many_objects(b"", content_stream("harmless"))
    packed = zlib.compress(b"0 0 m 1 1 l " * operators, 9)
    objects[11] = stream_object(packed, entries=b"/Filter/FlateDecode")
    return written(objects)


def without_header() -> bytes:
    """A document that pdfium does not take for one: its first line is missing."""
    return written(hello_objects(), header=b"")


def page_tree(depth: int) -> bytes:
    """One page below so many nodes of the page tree."""
    objects = hello_objects()
    for level in range(depth):
        objects[100 + level] = b"<</Type/Pages/Kids[%d 0 R]/Count 1>>" % (101 + level)
    objects[2] = b"<</Type/Pages/Kids[100 0 R]/Count 1/Resources<<>>/MediaBox[0 0 300 99]>>"
    objects[100 + depth] = objects.pop(3)
    return written(objects)


# ------------------------------------------------------------------------------------------ forms and annotations


def annotation(kind: str, **entries: PdfObject) -> DictionaryObject:
    """A rectangle on the page."""
    rectangle = ArrayObject(FloatObject(at) for at in (10, 10, 100, 30))
    base = {"/Type": NameObject("/Annot"), "/Subtype": NameObject(kind), "/Rect": rectangle}
    named = {f"/{name}": value for name, value in entries.items()}
    return DictionaryObject({NameObject(name): value for name, value in (base | named).items()})


def field(kind: str, name: str, value: PdfObject | None = None, **entries: PdfObject) -> DictionaryObject:
    """A field of a form and its place, in one."""
    given = {} if value is None else {"V": value}
    return annotation("/Widget", FT=NameObject(kind), T=TextStringObject(name), **given, **entries)


def with_annotations(
    *annotations: PdfObject, form: bool = True, xfa: bool = False, pages: int = 1, text: str = ""
) -> bytes:
    """A PDF of pages with this text, with these annotations on each."""
    writer = pypdf.PdfWriter()
    fields = ArrayObject()
    for _ in range(pages):
        page = writer.add_blank_page(200, 200)
        if text:
            write_line(writer, page, text)
        page[NameObject("/Annots")] = ArrayObject(writer._add_object(one) for one in annotations)
        fields += page["/Annots"]  # type: ignore[arg-type]
    if form:
        writer.root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): fields})
        if xfa:
            writer.root_object[NameObject("/NeedsRendering")] = BooleanObject(True)
            writer.root_object["/AcroForm"][NameObject("/XFA")] = TextStringObject("<xdp/>")  # type: ignore[index]
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


def write_line(writer: pypdf.PdfWriter, page: pypdf.PageObject, text: str) -> None:
    """Write a line on a page of pypdf."""
    font = DictionaryObject({
        NameObject("/Type"): NameObject("/Font"),
        NameObject("/Subtype"): NameObject("/Type1"),
        NameObject("/BaseFont"): NameObject("/Helvetica"),
    })  # fmt: skip
    fonts = DictionaryObject({NameObject("/F"): font})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F 12 Tf 10 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)


@cache
def form() -> bytes:
    """A filled form, as reportlab writes it, with a note on it."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A6, invariant=1)
    canvas.setTitle("Application")
    canvas.drawString(20, 380, "Application for a place at the mill")
    canvas.acroForm.textfield(name="a1", tooltip="Name", value="Olena Kovalenko", x=20, y=340, width=200)
    canvas.acroForm.textfield(name="a2", tooltip="Telephone", value="", x=20, y=300, width=200)
    canvas.acroForm.checkbox(name="a3", tooltip="I bring a boat", checked=True, x=20, y=260)
    canvas.acroForm.checkbox(name="a4", tooltip="I bring a horse", checked=False, x=20, y=220)
    canvas.acroForm.choice(name="a5", tooltip="Season", value="Autumn", options=["Spring", "Autumn"], x=20, y=180)
    canvas.freeTextAnnotation("Received on 3 May", "/Helv 10 Tf", Rect=(20, 20, 150, 60))
    canvas.save()
    return buffer.getvalue()
