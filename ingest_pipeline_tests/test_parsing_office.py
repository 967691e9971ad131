"""Word, PowerPoint, OpenDocument: what is read, what is left out, and what a hostile archive cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import EncryptedDocument, PermanentError, TooMuchText, UnreadableDocument, UnsupportedFormat
from ingest_pipeline_tests.made import office as made
from ingest_pipeline_tests.made.office import (
    RELS,
    STRICT,
    A,
    W,
    opendocument,
    paragraph,
    relation,
    shape,
    slides,
    word,
    zipped,
)
from ingest_pipeline_tests.made.words import CZECH, ENGLISH, GREEK, JAPANESE, UKRAINIAN, paragraphs
from ingest_pipeline_tests.parsers import Parsed, Parser, docx_pages, odt_pages, ole_pages, parse, pptx_pages


def found_in(parser: Parser, content: bytes, **fields: Any) -> Parsed:
    """Parse a document in this process."""
    return parse(parser, content, **fields)


def text_of(parser: Parser, content: bytes) -> str:
    """All the text of all the pages."""
    return parse(parser, content).text


def outline_of(parser: Parser, content: bytes) -> list[tuple[int, str]]:
    """Level and title of each heading."""
    return parse(parser, content).outline


STYLES = (
    '<w:style w:styleId="Kop1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="Kop1"/></w:style>'
    '<w:style w:styleId="Out"><w:name w:val="x"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
    '<w:style w:styleId="Loop"><w:name w:val="l"/><w:basedOn w:val="Loop"/></w:style>'
)


@pytest.mark.parametrize("namespace", [W, STRICT])
def test_word_headings(namespace: str) -> None:
    """Headings come from a style's name, what it is based on, its outline level, or the paragraph's own."""
    body = "".join([
        paragraph("One", '<w:pStyle w:val="Kop1"/>'), paragraph("text"),
        paragraph("Two", '<w:pStyle w:val="Mine"/>'), paragraph("Three", '<w:pStyle w:val="Out"/>'),
        paragraph("Four", '<w:outlineLvl w:val="1"/>'), paragraph("plain", '<w:pStyle w:val="Loop"/>'),
    ])  # fmt: skip
    content = word(body, namespace=namespace, styles=STYLES)
    assert outline_of(docx_pages, content) == [(1, "One"), (1, "Two"), (3, "Three"), (2, "Four")]


def test_word_tables_and_boxes() -> None:
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


def test_word_tracked_changes() -> None:
    """Deletions, moves away and field codes are left out; tabs and breaks are kept."""
    run = "<w:r>{}</w:r>".format
    body = (
        "<w:p>" + run("<w:t>kept</w:t><w:tab/><w:t>on</w:t><w:br/><w:t>line</w:t>")
        + "<w:del>" + run("<w:delText>deleted</w:delText>") + "</w:del>"
        + "<w:moveFrom>" + run("<w:t>moved</w:t>") + "</w:moveFrom>"
        + "<w:ins>" + run("<w:t>inserted</w:t>") + "</w:ins>" + run("<w:instrText>PAGE</w:instrText>") + "</w:p>"
    )  # fmt: skip
    assert text_of(docx_pages, word(body)).strip() == "kept\ton\nlineinserted"


def test_word_notes() -> None:
    """Footnotes are part of what a document says, and follow the text."""
    notes = f"<w:footnotes {W}><w:footnote>{paragraph('the note')}</w:footnote></w:footnotes>"
    text = text_of(docx_pages, word(paragraph("body"), more={"word/footnotes.xml": notes}))
    assert text.split() == ["body", "the", "note"]


def test_external_entity(tmp_path: Path) -> None:
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


def test_word_bomb() -> None:
    """Megabytes of one word in a few kilobytes are stopped; half a paragraph is never handed on."""
    content = word(paragraph("word " * 4_000_000))
    assert len(content) < 100_000
    with pytest.raises(TooMuchText, match="bomb"):
        found_in(docx_pages, content, max_expanded_bytes=2 * 1024**2)


def test_deep_nesting() -> None:
    """A thousand text boxes in each other are an error of ours, no crash."""
    body = "<w:p><w:r><w:txbxContent>" * 1000 + "</w:txbxContent></w:r></w:p>" * 1000
    with pytest.raises(PermanentError):
        found_in(docx_pages, word(body))


def test_torn_document() -> None:
    """A document that breaks off gives what was read, and a gap that says so."""
    pages = "".join(paragraph("x" * 900, "") for _ in range(60))
    content = word("", more={"word/document.xml": f"<w:document {W}><w:body>{pages}<w:p><w:broken"})
    found = found_in(docx_pages, content)
    assert len(found.text) > 50_000
    assert found.events[-1] == found.gaps[0]


@pytest.mark.parametrize("parser", [docx_pages, pptx_pages, odt_pages])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no zip", zipped({"x": "y"}), zipped({"_rels/.rels": "<a", "content.xml": "<a>"})]
)
def test_no_office_document(parser: Parser, content: bytes) -> None:
    """What is no office document is one type of error, whatever is wrong."""
    with pytest.raises(UnreadableDocument):
        found_in(parser, content)


def test_part_from_elsewhere() -> None:
    """A relation that leaves the archive leads nowhere."""
    rels = RELS.format(relation("r1", "officeDocument", "../../../etc/passwd"))
    with pytest.raises(UnreadableDocument):
        found_in(docx_pages, zipped({"_rels/.rels": rels}))
    external = RELS.format(relation("r1", "officeDocument", "http://host/x.xml", ' TargetMode="External"'))
    with pytest.raises(UnreadableDocument):
        found_in(docx_pages, zipped({"_rels/.rels": external}))


def test_slides() -> None:
    """Slides come in the presentation's order, with titles, notes and table cells, without numbers and footers."""
    table = "<a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>c1</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl>"
    content = slides(
        shape("First title", "title") + shape("words") + shape("7", "sldNum"), shape("Second", "ctrTitle") + table,
        order="21", notes=shape("say this", "body") + shape("7", "sldNum"),
    )  # fmt: skip
    found = found_in(pptx_pages, content)
    pages = found.pages
    assert found.total_pages == 2
    assert [(page.number, page.heading) for page in pages] == [(1, "Second"), (2, "First title")]
    assert pages[1].text == "First title\n\nwords\n\nsay this"
    assert "c1" in pages[0].text
    assert outline_of(pptx_pages, content) == [(1, "Second"), (1, "First title")]


def test_broken_slide() -> None:
    """A slide that is broken or missing is a gap; its neighbours are read, from whichever slide on."""
    content = slides(shape("one"), "<broken", shape("three"), order="1283")
    found = found_in(pptx_pages, content)
    assert [page.number for page in found.pages] == [1, 4]
    assert [(gap.page_from, gap.page_to) for gap in found.gaps] == [(2, 2), (3, 3)]
    assert found.events == [found.pages[0], *found.gaps, found.pages[1]]
    assert found_in(pptx_pages, content, first_page=4).texts == ["three"]


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


def test_diagrams_and_charts() -> None:
    """What diagrams say and charts name is text; a name that several series share comes once, numbers do not."""
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
def test_names_of_charts(drawn: str, said: str) -> None:
    """Breaks part words; levels of categories, literals, labels and new kinds of charts count."""
    chart = f'<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" {A}>{drawn}</c:chartSpace>'
    parts: dict[str, str | bytes] = {"ppt/drawn/c.xml": chart}
    parts["ppt/slides/_rels/slide1.xml.rels"] = RELS.format(relation("c", "chartEx", "../drawn/c.xml"))
    assert text_of(pptx_pages, slides(shape("words"), order="1", more=parts)) == f"words\n\n{said}"


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 93)], ids=["encrypted", "unknown compression"])
def test_locked_chart(offset: int, value: int) -> None:
    """A chart that is locked, or packed in a way that nobody knows, costs no slide."""
    parts: dict[str, str | bytes] = {"ppt/slides/_rels/slide1.xml.rels": DRAWN}
    parts |= {"ppt/drawn/d.xml": DIAGRAM, "ppt/drawn/c.xml": CHART}
    damaged = bytearray(slides(shape("words"), shape("more"), order="12", more=parts))
    damaged[damaged.rindex(b"PK\x01\x02", 0, damaged.rindex(b"ppt/drawn/c.xml")) + offset] = (
        value  # in the central directory
    )
    found = found_in(pptx_pages, bytes(damaged))
    assert found.texts == ["words\n\nAsk first\nBuild", "more"]
    assert len(found.warnings) == 1


@pytest.mark.parametrize("damaged", ["<c:broken", None], ids=["torn", "missing"])
def test_damaged_chart(damaged: str | None) -> None:
    """A damaged chart costs no slide and is a warning; the diagram beside it is read."""
    parts: dict[str, str | bytes] = {"ppt/slides/_rels/slide1.xml.rels": DRAWN, "ppt/drawn/d.xml": DIAGRAM}
    parts |= {"ppt/drawn/c.xml": damaged} if damaged else {}
    found = found_in(pptx_pages, slides(shape("words"), order="1", more=parts))
    assert found.texts == ["words\n\nAsk first\nBuild"]
    assert [warning.partition(":")[0] for warning in found.warnings] == ["a diagram or chart cannot be read to its end"]


def test_opendocument() -> None:
    """Headings, spaces that are elements, tables, lists and notes are read; deletions are left out."""
    body = (
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        '<text:h text:outline-level="2">Head</text:h><text:p>a<text:s text:c="3"/>b<text:tab/>c<text:line-break/>d'
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>noted</text:p></text:note-body></text:note></text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>"
        "<table:table-cell><text:p>y</text:p></table:table-cell></table:table-row></table:table>"
        "<text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>"
    )
    content = opendocument(body)
    text = text_of(odt_pages, content)
    assert "a   b\tc\nd" in text
    assert "noted" in text
    assert "x | y\n" in text
    assert "- item\n" in text
    assert "deleted" not in text
    assert outline_of(odt_pages, content) == [(2, "Head")]
    assert found_in(odt_pages, content).title == "The title"


def test_billion_spaces() -> None:
    """A billion spaces in one element are a thousand."""
    assert len(text_of(odt_pages, opendocument('<text:p>a<text:s text:c="999999999"/>b</text:p>'))) < 2_000


def test_locked_documents() -> None:
    """An OpenDocument's manifest and Office's wrapper each tell that a password is needed."""
    locked = opendocument("", {"META-INF/manifest.xml": "<m><file-entry><encryption-data/></file-entry></m>"})
    with pytest.raises(EncryptedDocument, match="name: the document needs a password"):
        found_in(odt_pages, locked)
    with pytest.raises(EncryptedDocument, match="name: the Office document needs a password"):
        found_in(ole_pages, made.ole("EncryptionInfo", "EncryptedPackage"))
    with pytest.raises(UnsupportedFormat, match=r"save as \.docx"):
        found_in(ole_pages, made.OLE_MARK + bytes(600_000))
    with pytest.raises(UnsupportedFormat, match=r"save as \.docx"):
        found_in(ole_pages, made.ole("WordDocument"))


@pytest.mark.parametrize("at", [0, 262_130, 262_144, 524_270])
def test_locked_at_a_seam(at: int) -> None:
    """The name of the encrypted stream is found also where it lies across two reads."""
    with pytest.raises(EncryptedDocument):
        found_in(ole_pages, bytes(at) + "EncryptedPackage".encode("utf-16-le") + bytes(9))


def test_real_locked_document(corpus: Path) -> None:
    """A real document of Word behind a password is encrypted."""
    with pytest.raises(EncryptedDocument):
        found_in(ole_pages, corpus / "bad" / "tika-password.docx")  # type: ignore[arg-type]


def test_written_word() -> None:
    """A document of a usual writer has its title, its headings, lists and table rows, and text in four scripts."""
    found = found_in(docx_pages, made.written_word())
    assert (found.title, found.gaps, found.warnings) == ("The Mill Report", [], [])
    assert found.outline == [(1, "Ledgers"), (2, "Voda a vítr"), (1, "Млин")]
    for text in (ENGLISH, CZECH, UKRAINIAN, JAPANESE, "flour", "bran", "Month | Sacks\nMay | 41\nčerven | 52\n"):
        assert text in found.text


def test_written_slides() -> None:
    """A presentation of a usual writer has its title, a page for each slide, table rows, notes and a chart's names."""
    found = found_in(pptx_pages, made.written_slides())
    assert (found.title, found.total_pages, found.gaps, found.warnings) == ("The Mill Talk", 3, [], [])
    assert found.outline == [(1, "Wind and water"), (1, "Ο μύλος"), (1, "Harvest")]
    assert found.texts == [
        "Wind and water\n\nA talk for the guild",
        f"Ο μύλος\n\nMonth | Sacks\nMay | 41\nčerven | 52\n\n{GREEK}",
        "Harvest\n\nSacks of rye\nSpring\nAutumn",
    ]


def test_written_opendocument() -> None:
    """An OpenDocument text of a usual writer has its title, headings, a list, a note and table rows."""
    found = found_in(odt_pages, made.written_opendocument())
    assert (found.title, found.gaps, found.warnings) == ("Zpráva o mlýně", [], [])
    assert found.outline == [(1, "Deník"), (2, "粉屋")]
    for text in (CZECH, JAPANESE, "Told by the miller", "- flour\n- bran\n", "Month | Sacks\nMay | 41\nčerven | 52\n"):
        assert text in found.text


def test_sections_are_pages() -> None:
    """Sections that are long enough have a page each, with their heading."""
    text = paragraphs(UKRAINIAN, 600)
    body = "".join(
        paragraph(name, '<w:pStyle w:val="Kop1"/>') + paragraph(text) for name in ("Перший", "Другий", "Третій")
    )
    found = found_in(docx_pages, word(body, styles=STYLES))
    assert [(page.number, page.heading) for page in found.pages] == [(1, "Перший"), (2, "Другий"), (3, "Третій")]


def test_document_without_text() -> None:
    """A document of pictures has no pages, and one without styles or properties is read all the same."""
    assert found_in(docx_pages, word("<w:p><w:r><w:drawing/></w:r></w:p>")).pages == []
    bare = word(paragraph("words"), more={"word/styles.xml": "no XML", "docProps/core.xml": "<torn"})
    found = found_in(docx_pages, bare)
    assert (found.text.strip(), found.title) == ("words", None)


@pytest.mark.parametrize("parser", [docx_pages, odt_pages, pptx_pages])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
def test_truncated_archive(parser: Parser, part: float) -> None:
    """A download that was interrupted has no directory and is unreadable."""
    written = {docx_pages: made.written_word, odt_pages: made.written_opendocument, pptx_pages: made.written_slides}
    content = written[parser]()
    with pytest.raises(UnreadableDocument, match="name: not a readable"):
        found_in(parser, content[: int(len(content) * part)])


def test_slide_that_unpacks_to_a_bomb() -> None:
    """A slide, or a chart on it, that unpacks to hundreds of megabytes ends the presentation."""
    bomb = shape("word " * 4_000_000)
    with pytest.raises(TooMuchText, match="bomb"):
        found_in(pptx_pages, slides(bomb, order="1"), max_expanded_bytes=2 * 1024**2)
    parts: made.Parts = {"ppt/drawn/c.xml": CHART.replace("Revenue", "word " * 4_000_000), "ppt/drawn/d.xml": DIAGRAM}
    parts["ppt/slides/_rels/slide1.xml.rels"] = DRAWN
    with pytest.raises(TooMuchText, match="bomb"):
        found_in(pptx_pages, slides(shape("words"), order="1", more=parts), max_expanded_bytes=2 * 1024**2)


def test_empty_rows() -> None:
    """A row without a word in its cells is no line."""
    row = "<w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr>".format
    body = f"<w:tbl>{row(paragraph('a'), paragraph('b'))}{row(paragraph(''), '')}{row('', paragraph('c'))}</w:tbl>"
    assert text_of(docx_pages, word(body)).strip() == "a | b\n | c"


def test_equation() -> None:
    """Word keeps an equation's text in another vocabulary."""
    namespace = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    math = f'<m:oMath xmlns:m="{namespace}"><m:r><m:t>mc2</m:t></m:r></m:oMath>'
    assert text_of(docx_pages, word(f"<w:p><w:r><w:t>E is </w:t></w:r>{math}</w:p>")).strip() == "E is mc2"


def test_deep_tables() -> None:
    """A hundred tables in each other are an error of ours, no crash."""
    body = "<w:tbl><w:tr><w:tc>" * 100 + paragraph("x") + "</w:tc></w:tr></w:tbl>" * 100
    with pytest.raises(UnreadableDocument, match="tables nested 64 deep"):
        found_in(docx_pages, word(body))


def test_slide_tabs_and_fallbacks() -> None:
    """Breaks and tabs are kept; what stands there once more for old readers is not read twice."""
    runs = "<a:r><a:t>one</a:t></a:r><a:tab/><a:r><a:t>two</a:t></a:r><a:br/><a:r><a:t>three</a:t></a:r>"
    old = f"<mc:Fallback xmlns:mc='m'>{shape('old')}</mc:Fallback>"
    body = f"<p:sp><p:txBody><a:p>{runs}</a:p></p:txBody></p:sp>{old}"
    assert text_of(pptx_pages, slides(body, order="1")) == "one\ttwo\nthree"


def test_text_outside_of_paragraphs() -> None:
    """What stands outside of paragraphs, rows and cells is the XML's own white space."""
    assert text_of(odt_pages, opendocument("stray<text:p>kept</text:p>stray")).strip() == "kept"
    stray = "<table:table-cell><text:p>cell</text:p></table:table-cell>"
    assert "cell" in text_of(odt_pages, opendocument(stray))


def test_opendocument_without_content() -> None:
    """An archive without `content.xml` is no OpenDocument text."""
    with pytest.raises(UnreadableDocument, match=r"it has no content\.xml"):
        found_in(odt_pages, zipped({"mimetype": "application/vnd.oasis.opendocument.text"}))
