"""Word, PowerPoint, OpenDocument: by their parts, as a test wants them, and by the writers that people use; OLE."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from functools import cache

import docx
import pptx
from odf import table as odf_table
from odf import text as odf_text
from odf.dc import Title
from odf.opendocument import OpenDocumentText
from pptx.util import Inches

from ingest_pipeline_tests.made.words import CZECH, ENGLISH, GREEK, JAPANESE, UKRAINIAN

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
STRICT = 'xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main"'
RELS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}</Relationships>'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
P = f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" xmlns:r="{OFFICE}" {A}'
ODF = "urn:oasis:names:tc:opendocument:xmlns"
ODT = f'xmlns:office="{ODF}:office:1.0" xmlns:text="{ODF}:text:1.0" xmlns:table="{ODF}:table:1.0"'
CORE = '<c xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{}</dc:title></c>'
OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

Parts = dict[str, str | bytes]


def zipped(entries: Parts) -> bytes:
    """An archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def relation(name: str, kind: str, target: str, mode: str = "") -> str:
    """A line of a `.rels` part."""
    return f'<Relationship Id="{name}" Type="{OFFICE}/{kind}" Target="{target}"{mode}/>'


def word(body: str, *, namespace: str = W, styles: str = "", more: Parts | None = None) -> bytes:
    """A Word document with this body."""
    parts = relation("s", "styles", "styles.xml") + relation("f", "footnotes", "footnotes.xml")
    return zipped({
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": RELS.format(relation("r1", "officeDocument", "word/document.xml")),
        "word/_rels/document.xml.rels": RELS.format(parts),
        "word/document.xml": f"<w:document {namespace}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {namespace}>{styles}</w:styles>",
        **(more or {}),
    })  # fmt: skip


def paragraph(text: str, properties: str = "") -> str:
    """A paragraph of Word."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def shape(text: str, kind: str = "") -> str:
    """A shape on a slide; `kind` is its placeholder's."""
    placeholder = f'<p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr>' if kind else ""
    return f"<p:sp>{placeholder}<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"


def slides(*bodies: str, order: str, notes: str = "", more: Parts | None = None) -> bytes:
    """A presentation; `order` names its slides by their number."""
    targets = "".join(relation(f"r{number}", "slide", f"slides/slide{number}.xml") for number in range(1, 9))
    ids = "".join(f'<p:sldId id="{256 + int(one)}" r:id="r{one}"/>' for one in order)
    entries: Parts = {
        "_rels/.rels": RELS.format(relation("r1", "officeDocument", "ppt/presentation.xml")),
        "ppt/presentation.xml": f"<p:presentation {P}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": RELS.format(targets),
    }
    for number, body in enumerate(bodies, start=1):
        entries[f"ppt/slides/slide{number}.xml"] = f"<p:sld {P}><p:cSld><p:spTree>{body}</p:spTree></p:cSld></p:sld>"
    if notes:
        entries["ppt/slides/_rels/slide1.xml.rels"] = RELS.format(relation("n", "notesSlide", "../notesSlides/n1.xml"))
        entries["ppt/notesSlides/n1.xml"] = f"<p:notes {P}><p:cSld><p:spTree>{notes}</p:spTree></p:cSld></p:notes>"
    return zipped(entries | (more or {}))


def opendocument(body: str, more: Parts | None = None) -> bytes:
    """An OpenDocument text with this body."""
    content = f"<office:document-content {ODT}><office:body><office:text>{body}</office:text></office:body>"
    return zipped({
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": content + "</office:document-content>",
        "meta.xml": CORE.format("The title"),
        **(more or {}),
    })  # fmt: skip


def ole(*streams: str) -> bytes:
    """Office's old container: only its first bytes and the names of its streams count."""
    directory = b"".join(name.encode("utf-16-le").ljust(64, b"\0") + bytes(64) for name in streams)
    return OLE_MARK + bytes(504) + directory.ljust(512, b"\0") + bytes(300_000)


# ------------------------------------------------------------------------------------------- by the usual writers

ROWS: Sequence[Sequence[str]] = (("Month", "Sacks"), ("May", "41"), ("červen", "52"))


@cache
def written_word() -> bytes:
    """A document of python-docx: title, headings, a list, a table, four languages."""
    document = docx.Document()
    document.core_properties.title = "The Mill Report"
    document.add_heading("Ledgers", level=1)
    document.add_paragraph(ENGLISH)
    document.add_heading("Voda a vítr", level=2)
    document.add_paragraph(CZECH)
    document.add_paragraph("flour", style="List Bullet")
    document.add_paragraph("bran", style="List Bullet")
    document.add_heading("Млин", level=1)
    document.add_paragraph(UKRAINIAN)
    table = document.add_table(rows=0, cols=2)
    for row in ROWS:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_paragraph(JAPANESE)
    return _saved(document)


@cache
def written_slides() -> bytes:
    """A presentation of python-pptx: three slides, a table, notes, a chart."""
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE

    deck = pptx.Presentation()
    deck.core_properties.title = "The Mill Talk"
    first = deck.slides.add_slide(deck.slide_layouts[0])
    first.shapes.title.text, first.placeholders[1].text = "Wind and water", "A talk for the guild"
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Ο μύλος"
    table = second.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(6), Inches(2)).table
    for at, row in enumerate(ROWS):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    second.notes_slide.notes_text_frame.text = GREEK
    third = deck.slides.add_slide(deck.slide_layouts[5])
    third.shapes.title.text = "Harvest"
    data = CategoryChartData()
    data.categories = ["Spring", "Autumn"]
    data.add_series("Sacks of rye", (41, 52))
    third.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, Inches(1), Inches(2), Inches(6), Inches(3), data)
    return _saved(deck)


@cache
def written_opendocument() -> bytes:
    """An OpenDocument text of odfpy: title, headings, a list, a table, a note."""
    document = OpenDocumentText()
    document.meta.addElement(Title(text="Zpráva o mlýně"))
    document.text.addElement(odf_text.H(outlinelevel=1, text="Deník"))
    document.text.addElement(odf_text.P(text=CZECH))
    document.text.addElement(odf_text.H(outlinelevel=2, text="粉屋"))
    noted = odf_text.P(text=JAPANESE)
    note = odf_text.Note(noteclass="footnote")
    note.addElement(odf_text.NoteCitation(text="1"))
    body = odf_text.NoteBody()
    body.addElement(odf_text.P(text="Told by the miller himself."))
    note.addElement(body)
    noted.addElement(note)
    document.text.addElement(noted)
    items = odf_text.List()
    for text in ("flour", "bran"):
        item = odf_text.ListItem()
        item.addElement(odf_text.P(text=text))
        items.addElement(item)
    document.text.addElement(items)
    table = odf_table.Table()
    for row in ROWS:
        line = odf_table.TableRow()
        for text in row:
            cell = odf_table.TableCell()
            cell.addElement(odf_text.P(text=text))
            line.addElement(cell)
        table.addElement(line)
    document.text.addElement(table)
    return _saved(document)


def _saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()
