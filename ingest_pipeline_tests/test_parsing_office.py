"""Word, PowerPoint, OpenDocument: what is read, what is left out, and what a hostile archive cannot do."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from ingest_pipeline.errors import EncryptedDocument, PermanentError, TooMuchText, UnreadableDocument, UnsupportedFormat
from ingest_pipeline.models import Gap, Heading, Page
from ingest_pipeline.parsing.formats.docx import docx_pages
from ingest_pipeline.parsing.formats.odt import odt_pages
from ingest_pipeline.parsing.formats.ole import ole_pages
from ingest_pipeline.parsing.formats.pptx import pptx_pages
from ingest_pipeline.parsing.request import Found, ParseFacts, Parser, ParseRequest

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
STRICT = 'xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main"'
RELS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}</Relationships>'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
P = f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" xmlns:r="{OFFICE}" {A}'
ODF = "urn:oasis:names:tc:opendocument:xmlns"
ODT = f'xmlns:office="{ODF}:office:1.0" xmlns:text="{ODF}:text:1.0" xmlns:table="{ODF}:table:1.0"'


def zipped(entries: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def relation(name: str, kind: str, target: str, mode: str = "") -> str:
    return f'<Relationship Id="{name}" Type="{OFFICE}/{kind}" Target="{target}"{mode}/>'


def word(body: str, *, namespace: str = W, styles: str = "", more: dict[str, str | bytes] | None = None) -> bytes:
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
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def found_in(parser: Parser, content: bytes, **limits: int) -> tuple[list[Found], ParseFacts]:
    facts = ParseFacts()
    return list(parser(io.BytesIO(content), ParseRequest("name", "x/y", **limits), facts)), facts  # type: ignore[arg-type]


def text_of(parser: Parser, content: bytes) -> str:
    return "".join(found.text for found in found_in(parser, content)[0] if isinstance(found, Page))


def outline_of(parser: Parser, content: bytes) -> list[tuple[int, str]]:
    return [(one.level, one.title) for one in found_in(parser, content)[0] if isinstance(one, Heading)]


STYLES = (
    '<w:style w:styleId="Kop1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="Kop1"/></w:style>'
    '<w:style w:styleId="Out"><w:name w:val="x"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
    '<w:style w:styleId="Loop"><w:name w:val="l"/><w:basedOn w:val="Loop"/></w:style>'
)


@pytest.mark.parametrize("namespace", [W, STRICT])
def test_word_headings_come_from_styles_in_any_language(namespace: str) -> None:
    """By a style's name, by what it is based on, by its outline level, or the paragraph's own."""
    body = "".join([
        paragraph("One", '<w:pStyle w:val="Kop1"/>'), paragraph("text"),
        paragraph("Two", '<w:pStyle w:val="Mine"/>'), paragraph("Three", '<w:pStyle w:val="Out"/>'),
        paragraph("Four", '<w:outlineLvl w:val="1"/>'), paragraph("plain", '<w:pStyle w:val="Loop"/>'),
    ])  # fmt: skip
    content = word(body, namespace=namespace, styles=STYLES)
    assert outline_of(docx_pages, content) == [(1, "One"), (1, "Two"), (3, "Three"), (2, "Four")]


def test_word_tables_lists_and_text_boxes_are_text() -> None:
    """Rows are lines; a nested table is part of its cell; a text box comes once, not again for old readers."""
    cell = "<w:tc>{}</w:tc>".format
    inner = f"<w:tbl><w:tr>{cell(paragraph('in 1'))}{cell(paragraph('in 2'))}</w:tr></w:tbl>"
    box = (
        '<w:p><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice><w:txbxContent>{paragraph('boxed')}</w:txbxContent></mc:Choice>"
        f"<mc:Fallback><w:txbxContent>{paragraph('boxed')}</w:txbxContent></mc:Fallback>"
        "</mc:AlternateContent></w:r><w:r><w:t>around</w:t></w:r></w:p>"
    )
    body = f"<w:tbl><w:tr>{cell(paragraph('a') + paragraph('b'))}{cell(inner)}</w:tr></w:tbl>" + box
    body += paragraph("item", "<w:numPr/>")
    text = text_of(docx_pages, word(body))
    assert "a b | in 1 | in 2\n" in text
    assert text.count("boxed") == 1
    assert "around" in text
    assert "- item\n" in text


def test_word_leaves_out_what_was_deleted_and_what_is_no_text() -> None:
    """Tracked deletions, moves away, field codes; tabs and breaks are kept."""
    run = "<w:r>{}</w:r>".format
    body = (
        "<w:p>" + run("<w:t>kept</w:t><w:tab/><w:t>on</w:t><w:br/><w:t>line</w:t>")
        + "<w:del>" + run("<w:delText>deleted</w:delText>") + "</w:del>"
        + "<w:moveFrom>" + run("<w:t>moved</w:t>") + "</w:moveFrom>"
        + "<w:ins>" + run("<w:t>inserted</w:t>") + "</w:ins>" + run("<w:instrText>PAGE</w:instrText>") + "</w:p>"
    )  # fmt: skip
    assert text_of(docx_pages, word(body)).strip() == "kept\ton\nlineinserted"


def test_word_notes_follow_the_text() -> None:
    """Footnotes are part of what a document says."""
    notes = f"<w:footnotes {W}><w:footnote>{paragraph('the note')}</w:footnote></w:footnotes>"
    text = text_of(docx_pages, word(paragraph("body"), more={"word/footnotes.xml": notes}))
    assert text.split() == ["body", "the", "note"]


def test_an_external_entity_is_not_read(tmp_path: Path) -> None:
    """Neither a file nor a bomb of entities comes into the text."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    bomb = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
    evil = (
        f'<!DOCTYPE w [<!ENTITY x SYSTEM "file://{secret}"><!ENTITY l0 "ha">{bomb}]>'
        f"<w:document {W}><w:body>{paragraph('before &x; &l9; after')}</w:body></w:document>"
    )
    content = word("", more={"word/document.xml": evil})
    try:
        text = text_of(docx_pages, content)
    except PermanentError:
        return
    assert "hunter2" not in text
    assert len(text) < 10_000


def test_a_word_bomb_is_stopped() -> None:
    """Megabytes of one word in a few kilobytes; half a paragraph is never handed on."""
    content = word(paragraph("word " * 4_000_000))
    assert len(content) < 100_000
    with pytest.raises(TooMuchText, match="bomb"):
        found_in(docx_pages, content, max_expanded_bytes=2 * 1024**2)


def test_deep_nesting_is_refused_and_not_followed() -> None:
    """A thousand text boxes in each other: an error of ours, no crash."""
    body = "<w:p><w:r><w:txbxContent>" * 1000 + "</w:txbxContent></w:r></w:p>" * 1000
    with pytest.raises(PermanentError):
        found_in(docx_pages, word(body))


def test_a_document_that_breaks_off_keeps_what_came() -> None:
    """A first half that was read, and a gap that says so."""
    pages = "".join(paragraph("x" * 900, "") for _ in range(60))
    content = word("", more={"word/document.xml": f"<w:document {W}><w:body>{pages}<w:p><w:broken"})
    found, _ = found_in(docx_pages, content)
    assert sum(len(one.text) for one in found if isinstance(one, Page)) > 50_000
    assert isinstance(found[-1], Gap)


@pytest.mark.parametrize("parser", [docx_pages, pptx_pages, odt_pages])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no zip", zipped({"x": "y"}), zipped({"_rels/.rels": "<a", "content.xml": "<a>"})]
)
def test_what_is_no_office_document_is_unreadable(parser: Parser, content: bytes) -> None:
    """One type of error, whatever is wrong."""
    with pytest.raises(UnreadableDocument):
        found_in(parser, content)


def test_a_part_cannot_be_fetched_from_elsewhere() -> None:
    """A relation that leaves the archive leads nowhere."""
    rels = RELS.format(relation("r1", "officeDocument", "../../../etc/passwd"))
    with pytest.raises(UnreadableDocument):
        found_in(docx_pages, zipped({"_rels/.rels": rels}))
    external = RELS.format(relation("r1", "officeDocument", "http://host/x.xml", ' TargetMode="External"'))
    with pytest.raises(UnreadableDocument):
        found_in(docx_pages, zipped({"_rels/.rels": external}))


def shape(text: str, kind: str = "") -> str:
    placeholder = f'<p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr>' if kind else ""
    return f"<p:sp>{placeholder}<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"


def slides(*bodies: str, order: str, notes: str = "", more: dict[str, str | bytes] | None = None) -> bytes:
    """A presentation; `order` names its slides by their number."""
    targets = "".join(relation(f"r{number}", "slide", f"slides/slide{number}.xml") for number in range(1, 9))
    ids = "".join(f'<p:sldId id="{256 + int(one)}" r:id="r{one}"/>' for one in order)
    entries: dict[str, str | bytes] = {
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


def test_slides_come_as_they_are_shown() -> None:
    """In the presentation's order, with titles, notes and table cells; without numbers and footers."""
    table = "<a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>c1</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl>"
    content = slides(
        shape("First title", "title") + shape("words") + shape("7", "sldNum"), shape("Second", "ctrTitle") + table,
        order="21", notes=shape("say this", "body") + shape("7", "sldNum"),
    )  # fmt: skip
    found, facts = found_in(pptx_pages, content)
    pages = [one for one in found if isinstance(one, Page)]
    assert facts.total_pages == 2
    assert [(page.number, page.heading) for page in pages] == [(1, "Second"), (2, "First title")]
    assert pages[1].text == "First title\n\nwords\n\nsay this"
    assert "c1" in pages[0].text
    assert outline_of(pptx_pages, content) == [(1, "Second"), (1, "First title")]


def test_a_slide_that_is_broken_or_missing_is_a_gap() -> None:
    """Its neighbours are read, from whichever slide on."""
    content = slides(shape("one"), "<broken", shape("three"), order="1283")
    found, _ = found_in(pptx_pages, content)
    assert [one.number if isinstance(one, Page) else (one.page_from, one.page_to) for one in found] == [  # type: ignore[union-attr]
        1, (2, 2), (3, 3), 4,
    ]  # fmt: skip
    later, _ = found_in(pptx_pages, content, first_page=4)
    assert [one.text for one in later if isinstance(one, Page)] == ["three"]


DIAGRAM = (
    f'<dgm:dataModel xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram" {A}><dgm:ptLst>'
    "<dgm:pt><dgm:t><a:p><a:r><a:t>Ask </a:t></a:r><a:r><a:t>first</a:t></a:r></a:p></dgm:t></dgm:pt>"
    "<dgm:pt><dgm:t><a:p><a:r><a:t>Build</a:t></a:r></a:p></dgm:t></dgm:pt></dgm:ptLst></dgm:dataModel>"
)
SERIES = (
    "<c:ser><c:tx><c:strRef><c:strCache><c:pt><c:v>{}</c:v></c:pt></c:strCache></c:strRef></c:tx>"
    "<c:cat><c:strRef><c:strCache><c:pt><c:v>Spring</c:v></c:pt></c:strCache></c:strRef></c:cat>"
    "<c:val><c:numRef><c:numCache><c:pt><c:v>4.5</c:v></c:pt></c:numCache></c:numRef></c:val></c:ser>"
)
CHART = (
    f'<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" {A}><c:chart>'
    "<c:title><c:tx><c:rich><a:p><a:r><a:t>Revenue</a:t></a:r></a:p></c:rich></c:tx></c:title>"
    f"{SERIES.format('North')}{SERIES.format('South')}</c:chart></c:chartSpace>"
)
DRAWN = RELS.format(relation("d", "diagramData", "../drawn/d.xml") + relation("c", "chart", "../drawn/c.xml"))


def test_what_diagrams_say_and_charts_name_is_text() -> None:
    """On their slide; in Word behind the text. A name that several series share comes once; numbers are left out."""
    drawn = "Ask first\nBuild\n\nRevenue\nNorth\nSpring\nSouth"
    parts: dict[str, str | bytes] = {"ppt/drawn/d.xml": DIAGRAM, "ppt/drawn/c.xml": CHART}
    parts["ppt/slides/_rels/slide1.xml.rels"] = DRAWN
    assert text_of(pptx_pages, slides(shape("words"), order="1", more=parts)) == f"words\n\n{drawn}"
    parts = {"drawn/d.xml": DIAGRAM, "drawn/c.xml": CHART, "word/_rels/document.xml.rels": DRAWN}
    assert text_of(docx_pages, word(paragraph("words"), more=parts)) == f"words\n\n{drawn}"


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ("<a:p><a:r><a:t>Revenue</a:t></a:r><a:br/><a:r><a:t>North</a:t></a:r></a:p>", "Revenue North"),
        ("<c:ser><c:tx><c:v>Houses</c:v></c:tx><c:val><c:numLit><c:pt><c:v>1</c:v></c:pt></c:numLit></c:val></c:ser>",
         "Houses"),
        ("<c:strLit><c:pt><c:v>Spring</c:v></c:pt></c:strLit>", "Spring"),
        ("<c:multiLvlStrCache><c:lvl><c:pt><c:v>May</c:v></c:pt></c:lvl><c:lvl><c:pt><c:v>2024</c:v></c:pt></c:lvl>"
         "</c:multiLvlStrCache>", "May\n2024"),
        ("<cx:data xmlns:cx='x'><cx:strDim><cx:f>A1</cx:f><cx:lvl><cx:pt>Costs</cx:pt></cx:lvl></cx:strDim>"
         "<cx:numDim><cx:lvl><cx:pt>7</cx:pt></cx:lvl></cx:numDim></cx:data>", "Costs"),
    ],
)  # fmt: skip
def test_a_chart_says_its_names_wherever_they_stand(drawn: str, said: str) -> None:
    """Breaks part words; several levels of categories, literals, labels and new kinds of charts count."""
    chart = f'<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" {A}>{drawn}</c:chartSpace>'
    parts: dict[str, str | bytes] = {"ppt/drawn/c.xml": chart}
    parts["ppt/slides/_rels/slide1.xml.rels"] = RELS.format(relation("c", "chartEx", "../drawn/c.xml"))
    assert text_of(pptx_pages, slides(shape("words"), order="1", more=parts)) == f"words\n\n{said}"


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 93)], ids=["encrypted", "unknown compression"])
def test_a_locked_chart_costs_no_slide(offset: int, value: int) -> None:
    """Nor one that is packed in a way that nobody knows."""
    parts: dict[str, str | bytes] = {"ppt/slides/_rels/slide1.xml.rels": DRAWN}
    parts |= {"ppt/drawn/d.xml": DIAGRAM, "ppt/drawn/c.xml": CHART}
    hurt = bytearray(slides(shape("words"), shape("more"), order="12", more=parts))
    hurt[hurt.rindex(b"PK\x01\x02", 0, hurt.rindex(b"ppt/drawn/c.xml")) + offset] = value  # in the central directory
    found, facts = found_in(pptx_pages, bytes(hurt))
    assert [one.text for one in found if isinstance(one, Page)] == ["words\n\nAsk first\nBuild", "more"]
    assert len(facts.warnings) == 1


@pytest.mark.parametrize("damaged", ["<c:broken", None], ids=["torn", "missing"])
def test_a_damaged_chart_costs_no_slide_and_is_a_warning(damaged: str | None) -> None:
    """The diagram beside it is read."""
    parts: dict[str, str | bytes] = {"ppt/slides/_rels/slide1.xml.rels": DRAWN, "ppt/drawn/d.xml": DIAGRAM}
    parts |= {"ppt/drawn/c.xml": damaged} if damaged else {}
    [page], facts = found_in(pptx_pages, slides(shape("words"), order="1", more=parts))
    assert isinstance(page, Page)
    assert page.text == "words\n\nAsk first\nBuild"
    assert [warning.partition(":")[0] for warning in facts.warnings] == ["a diagram or chart cannot be read to its end"]


def opendocument(body: str, more: dict[str, str] | None = None) -> bytes:
    content = f"<office:document-content {ODT}><office:body><office:text>{body}</office:text></office:body>"
    return zipped({
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": content + "</office:document-content>",
        "meta.xml": '<m xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The title</dc:title></m>',
        **(more or {}),
    })  # fmt: skip


def test_an_opendocument_text_is_read() -> None:
    """Headings, spaces that are elements, tables, lists, notes in their place; deletions left out."""
    body = (
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        '<text:h text:outline-level="2">Head</text:h><text:p>a<text:s text:c="3"/>b<text:tab/>c<text:line-break/>d'
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>noted</text:p></text:note-body></text:note></text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>"
        "<table:table-cell><text:p>y</text:p></table:table-cell></table:table-row></table:table>"
        "<text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>"
    )
    content = opendocument(body)
    text, facts = text_of(odt_pages, content), found_in(odt_pages, content)[1]
    assert "a   b\tc\nd" in text
    assert "noted" in text
    assert "x | y\n" in text
    assert "- item\n" in text
    assert "deleted" not in text
    assert outline_of(odt_pages, content) == [(2, "Head")]
    assert facts.title == "The title"


def test_a_billion_spaces_in_one_element_are_a_thousand() -> None:
    """`text:c` is a number that anybody may write."""
    assert len(text_of(odt_pages, opendocument('<text:p>a<text:s text:c="999999999"/>b</text:p>'))) < 2_000


def test_locked_office_documents_say_so(corpus: Path) -> None:
    """An OpenDocument's manifest and Word's wrapper each tell; what is merely old is unsupported."""
    locked = opendocument("", {"META-INF/manifest.xml": "<m><file-entry><encryption-data/></file-entry></m>"})
    with pytest.raises(EncryptedDocument):
        found_in(odt_pages, locked)
    with pytest.raises(EncryptedDocument):
        found_in(ole_pages, (corpus / "bad" / "tika-password.docx").read_bytes())
    with pytest.raises(UnsupportedFormat, match=r"save as \.docx"):
        found_in(ole_pages, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600_000))
