"""What was typed onto PDF pages: filled forms and notes are text, empty fields and links are not."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pypdf
import pytest
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject, PdfObject, TextStringObject

from ingest_pipeline.errors import ParserTimedOut
from ingest_pipeline.models import ParseEvent
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import events_in_steps
from ingest_pipeline_tests.made import pdf as made
from ingest_pipeline_tests.made.pdf import annotation, field, with_annotations
from ingest_pipeline_tests.parsers import parse, pdf_annotations, pdf_pages


def texts_of(content: bytes) -> tuple[list[str], list[str]]:
    """Each page's text, and the warnings."""
    found = parse(pdf_pages, content, name="a.pdf")
    return [text.strip() for text in found.texts], found.warnings


TICKED = {"V": NameObject("/Yes"), "AS": NameObject("/Yes")}


def test_filled_fields() -> None:
    """Filled fields are text under the names that readers see; empty fields, buttons and unticked boxes are not."""
    content = with_annotations(
        field("/Tx", "f1_01[0]", TextStringObject("Olena Kovalenko"), TU=TextStringObject("Name of the applicant")),
        field("/Tx", "f1_02[0]", TextStringObject("無錫市")),
        field("/Tx", "f1_03[0]", TU=TextStringObject("Telephone")),
        field("/Ch", "town", TextStringObject("Saskatoon")),
        field("/Btn", "send", Ff=NumberObject(1 << 16), TU=TextStringObject("Send")),
        field("/Btn", "box", TU=TextStringObject("I own a boat"), V=NameObject("/Off"), AS=NameObject("/Off")),
    )
    assert texts_of(content) == (["Name of the applicant: Olena Kovalenko\n無錫市\nSaskatoon"], [])


def test_ticked_box() -> None:
    """A ticked box is text under its name; without one, `Yes` says nothing."""
    states = DictionaryObject({NameObject("/N"): DictionaryObject({NameObject("/Yes"): DictionaryObject()})})
    named = field("/Btn", "box", TU=TextStringObject("I own a boat"), AP=states, **TICKED)
    assert texts_of(with_annotations(named, field("/Btn", "f1_09[0]", AP=states, **TICKED)))[0] == ["I own a boat: Yes"]


def test_free_text() -> None:
    """Free text is text, links and comments are not, also where the document has no form."""
    content = with_annotations(
        annotation("/FreeText", Contents=TextStringObject("Received on 3 May")),
        annotation("/Text", Contents=TextStringObject("a sticky note")),
        annotation("/Link"),
        form=False,
    )
    assert texts_of(content) == (["Received on 3 May"], [])


def test_field_that_stands_twice() -> None:
    """A field that stands twice on a page is read once there, and again on the next page."""
    name = field("/Tx", "name", TextStringObject("Olena"))
    assert texts_of(with_annotations(name, name, pages=2))[0] == ["Olena", "Olena"]


def test_xfa_form() -> None:
    """A form of XFA is a warning: its page may say no more than `Please wait`."""
    found, warnings = texts_of(with_annotations(field("/Tx", "a", TextStringObject("x")), xfa=True))
    assert found == ["x"]
    assert warnings == ["an XFA form: only what it shows to readers without XFA is read"]


def test_too_many_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """More fields than are looked at are one warning, not one for each page."""
    monkeypatch.setattr(pdf_annotations, "MAX_FIELDS", 3)
    fields = [field("/Tx", f"f{number}", TextStringObject(f"value {number}")) for number in range(2)]
    found, warnings = texts_of(with_annotations(*fields, pages=3))
    assert found == ["value 0\nvalue 1", "value 0", ""]
    assert warnings == ["typed text was looked for in the first 3 annotations only"]


def test_too_many_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links without end are not looked at: each stays in memory for as long as the document."""
    monkeypatch.setattr(pdf_annotations, "MAX_NOTES", 3)
    found, warnings = texts_of(with_annotations(*[annotation("/Link")] * 5, form=False, pages=3))
    assert found == ["", "", ""]
    assert warnings == ["typed text was looked for in the first 3 annotations only"]


def test_choice_in_a_list() -> None:
    """What is chosen in a list is the label that readers see, not its code; of several choices all count."""
    options = ArrayObject(
        ArrayObject([TextStringObject(code), TextStringObject(label)])
        for code, label in (("SK", "Saskatchewan"), ("ON", "Ontario"))
    )
    fruit = ArrayObject(TextStringObject(one) for one in ("Apples", "Pears", "Plums"))
    chosen = ArrayObject(TextStringObject(one) for one in ("Apples", "Plums"))
    content = with_annotations(
        field("/Ch", "province", TextStringObject("SK"), Opt=options, Ff=NumberObject(1 << 17)),
        field("/Ch", "fruit", chosen, Opt=fruit, Ff=NumberObject(1 << 21)),
    )
    assert texts_of(content)[0] == ["Saskatchewan\nApples, Plums"]


def test_hidden_fields() -> None:
    """Hidden fields, notes that are not viewed, and passwords are not read."""
    content = with_annotations(
        field("/Tx", "a", TextStringObject("hidden"), F=NumberObject(2)),
        annotation("/FreeText", Contents=TextStringObject("not viewed"), F=NumberObject(32)),
        field("/Tx", "b", TextStringObject("secret"), Ff=NumberObject(1 << 13)),
        field("/Tx", "c", TextStringObject("seen")),
    )
    assert texts_of(content) == (["seen"], [])


def test_field_without_form() -> None:
    """A field without a form is read: tools that join documents leave them."""
    assert texts_of(with_annotations(field("/Tx", "a", TextStringObject("Olena")), form=False)) == (["Olena"], [])


def test_shared_long_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields that share one long value end at a limit; what came before is kept."""
    monkeypatch.setattr(pdf_annotations, "MAX_CHARACTERS", 100)
    fields = [field("/Tx", f"f{n}", TextStringObject("x" * 40), TU=TextStringObject(f"{n}")) for n in range(9)]
    found, warnings = texts_of(with_annotations(*fields, field("/Tx", "long", TextStringObject("x" * 200))))
    assert found == ["\n".join(f"{n}: {'x' * 40}" for n in range(2))]
    assert warnings == ["only the first 100 characters of typed text were read"]


def test_plain_after_a_death(tmp_path: Path) -> None:
    """After a parser died of a form, the next one reads the page's own text alone, and says so."""
    path, parsed = tmp_path / "many.pdf", ParseFold()
    path.write_bytes(with_annotations(*[field("/Tx", "a", TextStringObject("typed"))] * 3, text="The page itself."))
    request = ParseRequest(path.name, "application/pdf")
    with DyingOnce(memory_limit_bytes=512 * 1024**2) as box, path.open("rb") as stream:
        pages = list(parsed.pages_of(events_in_steps(box, stream, request)))
    assert [page.text.strip() for page in pages] == ["The page itself."]
    assert parsed.warnings == ["form fields and notes on its pages were not read: a parser failed on this file"]
    assert parsed.gaps == []


class DyingOnce(Sandbox):
    """A sandbox whose child dies of whatever is more than plain."""

    def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        if not request.plain:
            raise ParserTimedOut("hung")
        yield from super().events(stream, request)


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
def test_damaged_annotation(damaged: PdfObject) -> None:
    """A damaged annotation costs neither the page nor the annotations behind it."""
    after = field("/Tx", "after", TextStringObject("after"))
    found, _ = texts_of(with_annotations(damaged, after))  # type: ignore[arg-type]
    assert found[0].endswith("after")


def test_real_page_text_first(corpus: Path) -> None:
    """The own text of a real page comes first, untouched."""
    path = corpus / "pdf" / "pdflatex-4-pages.pdf"
    writer = pypdf.PdfWriter(clone_from=str(path))
    note = annotation("/FreeText", Contents=TextStringObject("Received on 3 May"))
    writer.pages[0][NameObject("/Annots")] = ArrayObject([writer._add_object(note)])
    content = io.BytesIO()
    writer.write(content)
    plain, noted = texts_of(path.read_bytes())[0], texts_of(content.getvalue())[0]
    assert noted == [f"{plain[0]}\nReceived on 3 May", *plain[1:]]


def test_page_text_first() -> None:
    """A page's own text comes first, and what was typed onto it follows."""
    assert texts_of(made.form()) == (
        ["Application for a place at the mill\nName: Olena Kovalenko\nI bring a boat: Yes\nSeason: Autumn\n"
         "Received on 3 May"], [],
    )  # fmt: skip


def test_plain_request() -> None:
    """Where only the pages' own text is asked for, that is all, with a warning."""
    found = parse(pdf_pages, made.form(), plain=True)
    assert found.texts == ["Application for a place at the mill"]
    assert found.warnings == ["form fields and notes on its pages were not read: a parser failed on this file"]


def test_long_value_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One value that is longer than all typed text may be is left out with a warning."""
    monkeypatch.setattr(pdf_annotations, "MAX_CHARACTERS", 10)
    assert texts_of(with_annotations(field("/Tx", "a", TextStringObject("x" * 50)))) == (
        [""], ["typed text of 51 characters in one place was left out"],
    )  # fmt: skip


def test_unreadable_annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations that cannot be read are one warning, and the pages keep their text; out of memory is no such case."""
    content = with_annotations(field("/Tx", "a", TextStringObject("typed")), pages=2, text="The page itself.")

    def failing(error: BaseException) -> Callable[..., str]:
        def text_of(self: object, annotation: object) -> str:
            raise error

        return text_of

    monkeypatch.setattr(pdf_annotations.AnnotationText, "_text_of", failing(ValueError("odd")))
    assert texts_of(content) == (["The page itself."] * 2, ["annotations unreadable: ValueError"])
    monkeypatch.setattr(pdf_annotations.AnnotationText, "_text_of", failing(MemoryError()))
    with pytest.raises(MemoryError):
        texts_of(content)
