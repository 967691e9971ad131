"""What was typed onto PDF pages: filled forms and notes are text, empty fields and links are not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pypdf
import pytest
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
    PdfObject,
    TextStringObject,
)

from ingest_pipeline.errors import ParserTimedOut
from ingest_pipeline.models import Page, ParsedFile
from ingest_pipeline.parsing.formats import pdf_annotations as pdf_typed
from ingest_pipeline.parsing.formats.pdf import pdf_pages
from ingest_pipeline.parsing.request import ParseFacts, ParseRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import pages_in_steps


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


def pdf_with(
    *annotations: DictionaryObject, form: bool = True, xfa: bool = False, pages: int = 1, text: str = ""
) -> bytes:
    """A PDF of pages with this text, with these annotations on each."""
    writer = pypdf.PdfWriter()
    fields = ArrayObject()
    for _ in range(pages):
        page = writer.add_blank_page(200, 200)
        if text:
            content_of(page, text)
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


def content_of(page: pypdf.PageObject, text: str) -> None:
    """Write a line on a page."""
    font = DictionaryObject({
        NameObject("/Type"): NameObject("/Font"),
        NameObject("/Subtype"): NameObject("/Type1"),
        NameObject("/BaseFont"): NameObject("/Helvetica"),
    })  # fmt: skip
    fonts = DictionaryObject({NameObject("/F"): font})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F 12 Tf 10 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = stream


def texts_of(content: bytes) -> tuple[list[str], list[str]]:
    """Each page's text, and the warnings."""
    facts = ParseFacts()
    found = list(pdf_pages(io.BytesIO(content), ParseRequest("a.pdf", "application/pdf"), facts))
    return [page.text.strip() for page in found if isinstance(page, Page)], facts.warnings


TICKED = {"V": NameObject("/Yes"), "AS": NameObject("/Yes")}


def test_filled_fields_are_text_under_the_names_that_readers_see() -> None:
    """Technical names are left out; empty fields, buttons and boxes without a tick say nothing."""
    content = pdf_with(
        field("/Tx", "f1_01[0]", TextStringObject("Olena Kovalenko"), TU=TextStringObject("Name of the applicant")),
        field("/Tx", "f1_02[0]", TextStringObject("無錫市")),
        field("/Tx", "f1_03[0]", TU=TextStringObject("Telephone")),
        field("/Ch", "town", TextStringObject("Saskatoon")),
        field("/Btn", "send", Ff=NumberObject(1 << 16), TU=TextStringObject("Send")),
        field("/Btn", "box", TU=TextStringObject("I own a boat"), V=NameObject("/Off"), AS=NameObject("/Off")),
    )
    assert texts_of(content) == (["Name of the applicant: Olena Kovalenko\n無錫市\nSaskatoon"], [])


def test_a_ticked_box_is_text() -> None:
    """Its name says what was chosen; without one, `Yes` says nothing."""
    states = DictionaryObject({NameObject("/N"): DictionaryObject({NameObject("/Yes"): DictionaryObject()})})
    named = field("/Btn", "box", TU=TextStringObject("I own a boat"), AP=states, **TICKED)
    assert texts_of(pdf_with(named, field("/Btn", "f1_09[0]", AP=states, **TICKED)))[0] == ["I own a boat: Yes"]


def test_free_text_is_text_and_links_and_comments_are_not() -> None:
    """Also where the document has no form."""
    content = pdf_with(
        annotation("/FreeText", Contents=TextStringObject("Received on 3 May")),
        annotation("/Text", Contents=TextStringObject("a sticky note")),
        annotation("/Link"),
        form=False,
    )
    assert texts_of(content) == (["Received on 3 May"], [])


def test_a_field_that_stands_twice_on_a_page_is_read_once() -> None:
    """A form repeats the applicant's name in its footer."""
    name = field("/Tx", "name", TextStringObject("Olena"))
    assert texts_of(pdf_with(name, name, pages=2))[0] == ["Olena", "Olena"]


def test_a_form_of_xfa_says_so() -> None:
    """Its page may say no more than `Please wait`."""
    found, warnings = texts_of(pdf_with(field("/Tx", "a", TextStringObject("x")), xfa=True))
    assert found == ["x"]
    assert warnings == ["an XFA form: only what it shows to readers without XFA is read"]


def test_more_fields_than_are_looked_at_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, not once for each page."""
    monkeypatch.setattr(pdf_typed, "MAX_FIELDS", 3)
    fields = [field("/Tx", f"f{number}", TextStringObject(f"value {number}")) for number in range(2)]
    found, warnings = texts_of(pdf_with(*fields, pages=3))
    assert found == ["value 0\nvalue 1", "value 0", ""]
    assert warnings == ["typed text was looked for in the first 3 annotations only"]


def test_links_without_end_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stays in memory for as long as the document: a manual has tens of thousands."""
    monkeypatch.setattr(pdf_typed, "MAX_NOTES", 3)
    found, warnings = texts_of(pdf_with(*[annotation("/Link")] * 5, form=False, pages=3))
    assert found == ["", "", ""]
    assert warnings == ["typed text was looked for in the first 3 annotations only"]


def test_what_is_chosen_in_a_list_is_what_readers_see() -> None:
    """Its value is a code; of several choices all count."""
    options = ArrayObject(
        ArrayObject([TextStringObject(code), TextStringObject(label)])
        for code, label in (("SK", "Saskatchewan"), ("ON", "Ontario"))
    )
    fruit = ArrayObject(TextStringObject(one) for one in ("Apples", "Pears", "Plums"))
    chosen = ArrayObject(TextStringObject(one) for one in ("Apples", "Plums"))
    content = pdf_with(
        field("/Ch", "province", TextStringObject("SK"), Opt=options, Ff=NumberObject(1 << 17)),
        field("/Ch", "fruit", chosen, Opt=fruit, Ff=NumberObject(1 << 21)),
    )
    assert texts_of(content)[0] == ["Saskatchewan\nApples, Plums"]


def test_what_a_reader_does_not_see_is_not_read() -> None:
    """Hidden fields and notes, and passwords."""
    content = pdf_with(
        field("/Tx", "a", TextStringObject("hidden"), F=NumberObject(2)),
        annotation("/FreeText", Contents=TextStringObject("not viewed"), F=NumberObject(32)),
        field("/Tx", "b", TextStringObject("secret"), Ff=NumberObject(1 << 13)),
        field("/Tx", "c", TextStringObject("seen")),
    )
    assert texts_of(content) == (["seen"], [])


def test_a_field_without_a_form_is_read() -> None:
    """Tools that join documents leave fields without their form."""
    assert texts_of(pdf_with(field("/Tx", "a", TextStringObject("Olena")), form=False)) == (["Olena"], [])


def test_fields_that_share_one_long_value_end_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of them would be a bomb; the page's own text and what came before are kept."""
    monkeypatch.setattr(pdf_typed, "MAX_CHARACTERS", 100)
    fields = [field("/Tx", f"f{n}", TextStringObject("x" * 40), TU=TextStringObject(f"{n}")) for n in range(9)]
    found, warnings = texts_of(pdf_with(*fields, field("/Tx", "long", TextStringObject("x" * 200))))
    assert found == ["\n".join(f"{n}: {'x' * 40}" for n in range(2))]
    assert warnings == ["only the first 100 characters of typed text were read"]


def test_after_a_death_the_pages_own_text_is_read_without_the_form(tmp_path: Path) -> None:
    """60,000 fields hold pdfium for minutes at the first page; the second child leaves them alone, and says so."""
    path, parsed = tmp_path / "many.pdf", ParsedFile()
    path.write_bytes(pdf_with(*[field("/Tx", "a", TextStringObject("typed"))] * 3, text="The page itself."))
    request = ParseRequest(path.name, "application/pdf")
    with DyingOnce(memory_limit_bytes=512 * 1024**2) as box, path.open("rb") as stream:
        pages = list(pages_in_steps(box, stream, request, parsed))
    assert [page.text.strip() for page in pages] == ["The page itself."]
    assert parsed.warnings == ["what was typed onto its pages was not read: a parser died of this file"]
    assert parsed.gaps == []


class DyingOnce(Sandbox):
    """A sandbox whose child dies of whatever is more than plain."""

    def pages(self, stream: BinaryIO, request: ParseRequest, parsed: ParsedFile) -> Iterator[Page]:
        if not request.plain:
            raise ParserTimedOut("hung")
        yield from super().pages(stream, request, parsed)


@pytest.mark.parametrize(
    "damaged",
    [
        DictionaryObject(),
        NumberObject(7),
        annotation("/Widget"),
        field("/Tx", "a", NumberObject(3)),
        annotation("/FreeText", Contents=ArrayObject()),
    ],
    ids=["empty", "a number", "no field", "a value that is no text", "a note that is no text"],
)
def test_a_damaged_annotation_costs_no_page(damaged: PdfObject) -> None:
    """The others are read."""
    after = field("/Tx", "after", TextStringObject("after"))
    found, _ = texts_of(pdf_with(damaged, after))  # type: ignore[arg-type]
    assert found[0].endswith("after")


def test_real_pages_keep_their_text(corpus: Path) -> None:
    """A page's own text comes first, untouched."""
    path = corpus / "pdf" / "pdflatex-4-pages.pdf"
    writer = pypdf.PdfWriter(clone_from=str(path))
    note = annotation("/FreeText", Contents=TextStringObject("Received on 3 May"))
    writer.pages[0][NameObject("/Annots")] = ArrayObject([writer._add_object(note)])
    content = io.BytesIO()
    writer.write(content)
    plain, noted = texts_of(path.read_bytes())[0], texts_of(content.getvalue())[0]
    assert noted == [f"{plain[0]}\nReceived on 3 May", *plain[1:]]
