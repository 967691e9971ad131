"""Pages become chunks: nothing lost, nothing too long, every place exact, resumable anywhere."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_pipeline.chunking import (
    MAX_CHUNK_CHARACTERS,
    WINDOW_CHARACTERS,
    Chunker,
    Encode,
    load_encoder,
    text_hash,
)
from ingest_pipeline.embedding.model import model_folder
from ingest_pipeline.models import START, Checkpoint, Chunk, Page
from ingest_pipeline_tests.made.catalogue import CATALOGUE, content_of
from ingest_pipeline_tests.made.words import LANGUAGES, paragraphs
from ingest_pipeline_tests.parsers import parse_named

MAX_TOKENS = 254
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="session")
def encode() -> Encode:
    """The packaged model's own tokenizer."""
    return load_encoder(model_folder("all-MiniLM-L6-v2") / "tokenizer.json")


def chunked(pages: Iterable[Page], encode: Encode, max_tokens: int = MAX_TOKENS) -> list[Chunk]:
    """All chunks of these pages."""
    chunker = Chunker(encode, max_tokens=max_tokens)
    return [chunk for chunks in chunker.split(pages) for chunk in chunks]


def slabs(text: str, size: int = 20_000) -> list[Page]:
    """One text in slabs that go on from each other."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)] or [""]
    return [Page(number, piece, None, number > 1) for number, piece in enumerate(pieces, start=1)]


def joined(pages: Iterable[Page]) -> str:
    """The file's text: all its pages, one after another."""
    return "".join(page.text for page in pages)


def without_space(text: str) -> str:
    """Every character that is no space, in order."""
    return "".join(text.split())


def check(pages: list[Page], chunks: list[Chunk], encode: Encode, max_tokens: int = MAX_TOKENS) -> None:
    """What holds for the chunks of any pages."""
    text = joined(pages)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    position = 0
    for chunk in chunks:
        assert chunk.text == text[chunk.char_from : chunk.char_to]
        assert chunk.text.strip() == chunk.text != ""
        assert position <= chunk.char_from < chunk.char_to
        assert text[position : chunk.char_from].strip() == "", "text was lost between two chunks"
        position = chunk.char_to
        assert chunk.tokens == len(encode(chunk.text))
        assert chunk.tokens <= max_tokens or len(chunk.text) == 1
    assert text[position:].strip() == "", "text was lost at the end"
    assert without_space("".join(chunk.text for chunk in chunks)) == without_space(text)
    check_places(pages, chunks)


def check_places(pages: list[Page], chunks: list[Chunk]) -> None:
    """Each chunk names the pages on which its first and its last character stand, and the heading there."""
    owners: list[Page] = [page for page in pages for _ in page.text]
    group, groups = 0, []
    for page in pages:
        group += not page.continues
        groups += [group] * len(page.text)
    for chunk in chunks:
        assert chunk.page_from == owners[chunk.char_from].number
        assert chunk.page_to == owners[chunk.char_to - 1].number
        assert chunk.heading == owners[chunk.char_from].heading
        assert groups[chunk.char_from] == groups[chunk.char_to - 1], "a chunk crosses a boundary"


words = st.text(alphabet="abcdefgh éß無骨иж.,!?\n\n  ", max_size=400)
page_texts = st.one_of(
    words,
    st.text(max_size=150),
    st.builds(lambda text, times: text * times, words, st.integers(min_value=1, max_value=40)),
    st.just(""),
    st.just("   \n\n"),
)


@st.composite
def documents(draw: st.DrawFn) -> list[Page]:
    """Draw the pages of a file as parsers number them, with gaps in the numbers.

    Slabs and PDF pages have a number each; sections of a chapter share one, and a chapter never continues.
    """
    chapters = draw(st.booleans())
    pages: list[Page] = []
    number = 1
    for _ in range(draw(st.integers(min_value=1, max_value=8))):
        step = draw(st.integers(min_value=0 if chapters else 1, max_value=2)) if pages else 0
        number += step
        may_continue = bool(pages) and (step == 0 or not chapters)
        heading = draw(st.sampled_from([None, "One", "Two"]))
        pages.append(Page(number, draw(page_texts), heading, may_continue and draw(st.booleans())))
    return pages


@given(documents())
@quick
def test_any_pages(encode: Encode, pages: list[Page]) -> None:
    """Every character is in one chunk, in order, in its place, on its page, in at most 254 tokens."""
    check(pages, chunked(pages, encode), encode)


@given(documents(), st.integers(min_value=1, max_value=20))
@quick
def test_any_limit(encode: Encode, pages: list[Page], max_tokens: int) -> None:
    """A small limit is kept, too, down to one token in a chunk."""
    check(pages, chunked(pages, encode, max_tokens), encode, max_tokens)


@given(documents())
@settings(quick, max_examples=15)
def test_resume_gives_the_same(encode: Encode, pages: list[Page]) -> None:
    """After any number of pages a run may be killed: the next one ends where an unbroken one would."""
    whole = chunked(pages, encode)
    for stop in range(len(pages) + 1):
        first = Chunker(encode, max_tokens=MAX_TOKENS)
        stored: list[Chunk] = []
        for count, chunks in enumerate(first.split(pages), start=1):
            stored += chunks
            if count > stop:
                break
        saved = first.checkpoint
        kept = [chunk for chunk in stored if chunk.ordinal < saved.chunks]
        rest = [page for page in pages if page.number > saved.pages]
        second = Chunker(encode, max_tokens=MAX_TOKENS, start=saved)
        assert kept + [chunk for chunks in second.split(rest) for chunk in chunks] == whole


@given(documents())
@quick
def test_checkpoint_counts(encode: Encode, pages: list[Page]) -> None:
    """A checkpoint's chunks are out, its characters are those of its pages, and it never goes back."""
    chunker = Chunker(encode, max_tokens=MAX_TOKENS)
    stored = 0
    before = START
    for chunks in chunker.split(pages):
        stored += len(chunks)
        now = chunker.checkpoint
        assert now.chunks <= stored
        assert now.characters == len(joined(page for page in pages if page.number <= now.pages))
        assert (now.pages, now.characters, now.chunks) >= (before.pages, before.characters, before.chunks)
        before = now


ADVERSARIAL = {
    "base64": base64.b64encode(random.Random(1).randbytes(60_000)).decode(),
    "CJK": "吾輩は猫である。名前はまだ無い。" * 2000,
    "CJK without an end": "無" * 30_000,
    "spaces": "start" + " " * 50_000 + "end",
    "spaces alone": " " * 50_000,
    "newlines": "start" + "\n" * 50_000 + "end",
    "dots": "." * 30_000,
    "dotted lines": ("Chapter " + "." * 120 + " 7\n") * 200,
    "combining marks": "a" + "\u0301" * 30_000 + " end",
    "marks alone": "\u0301" * 45_000,
    "marks between words": "start " + "\u0301" * 45_000 + " end",
    "zero width spaces": "start " + "\u200b" * 45_000 + " end",
    "one word of 100 kB": "x" * 100_000,
    "one word in capitals": "Donaudampfschifffahrt" * 5000,
    "emoji": "👩‍👩‍👧‍👦" * 4000,
    "private use": "\ue000" * 25_000,
    "unknown script": "𒀀𒀁𒀂" * 9000,
    "hangul": "가나다라마바사 " * 4000,
    "thai": "สวัสดีชาวโลก" * 3000,
    "arabic ligatures": "ﷺ" * 20_000,
    "hashes": "0123456789abcdef" * 4 * 800,
    "source code": "    if (x[i] != y->z) { return f(&a, *b); }\n" * 900,
    "ideographic spaces": "word\u3000" * 9000,
}


@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=list(ADVERSARIAL))
def test_adversarial_text(encode: Encode, text: str) -> None:
    """An adversarial text keeps every limit, as one page and in slabs."""
    for pages in ([Page(1, text)], slabs(text)):
        chunks = chunked(pages, encode)
        check(pages, chunks, encode)
        assert all(len(chunk.text) <= MAX_CHUNK_CHARACTERS for chunk in chunks)


def test_empty_file(encode: Encode) -> None:
    """A file of nothing, or of space, has no chunks."""
    assert chunked([], encode) == []
    assert chunked([Page(1, ""), Page(2, " \n ")], encode) == []


def test_short_text(encode: Encode) -> None:
    """A short text is one chunk without the space around it, in its exact place."""
    (chunk,) = chunked([Page(3, "  Some words.\n", "Heading")], encode)
    assert chunk == Chunk(
        ordinal=0,
        text="Some words.",
        tokens=3,
        page_from=3,
        page_to=3,
        char_from=2,
        char_to=13,
        heading="Heading",
    )


def test_page_begins_a_chunk(encode: Encode) -> None:
    """A page that does not continue begins a chunk, so that a chunk names its pages exactly."""
    chunks = chunked([Page(number, f"Page {number}. ") for number in range(1, 6)], encode)
    assert [(chunk.text, chunk.page_from, chunk.page_to) for chunk in chunks] == [
        (f"Page {number}.", number, number) for number in range(1, 6)
    ]


def test_continued_page(encode: Encode) -> None:
    """A sentence across two slabs stays together, and names both."""
    chunks = chunked([Page(1, "A sentence that goes "), Page(2, "on and ends.", None, True)], encode)
    assert [(chunk.text, chunk.page_from, chunk.page_to) for chunk in chunks] == [
        ("A sentence that goes on and ends.", 1, 2)
    ]


def test_word_across_slabs(encode: Encode) -> None:
    """A word across two slabs stays a word."""
    chunks = chunked([Page(1, "docu"), Page(2, "ment", None, True)], encode)
    assert [chunk.text for chunk in chunks] == ["document"]


def test_ends_at_a_paragraph(encode: Encode) -> None:
    """A chunk ends at a paragraph where it can."""
    paragraph = "Some sentence of eight words stands here now. " * 18
    chunks = chunked([Page(1, f"{paragraph}\n\n{paragraph}\n\n{paragraph}")], encode)
    assert [chunk.text for chunk in chunks] == [paragraph.strip()] * 3


def test_ends_at_a_sentence(encode: Encode) -> None:
    """Where there is no paragraph, a chunk ends at a sentence, in English and in Chinese."""
    for sentence in ("Some sentence of eight words stands here now. ", "名前はまだ無いのである。"):
        chunks = chunked([Page(1, sentence * 200)], encode)
        assert len(chunks) > 2
        assert all(chunk.text[-1] in ".。" for chunk in chunks)


def test_well_filled(encode: Encode) -> None:
    """A chunk is closed when the next part would not fit: at least half of the limit is used."""
    prose = " ".join(f"Sentence number {number} has a few words in it." for number in range(2000))
    chunks = chunked([Page(1, prose)], encode)
    assert all(chunk.tokens > MAX_TOKENS / 2 for chunk in chunks[:-1])


def test_bounded_memory(encode: Encode) -> None:
    """The buffer holds at most a window and a slab, and chunks come while pages come."""
    chunker = Chunker(encode, max_tokens=MAX_TOKENS)
    largest, first_seen = 0, None
    for count, chunks in enumerate(chunker.split(slabs("Some words of a long text. " * 6_000)), start=1):
        largest = max(largest, len(chunker._buffer))
        if chunks and first_seen is None:
            first_seen = count
    assert largest <= WINDOW_CHARACTERS + 20_000
    assert first_seen is not None
    assert first_seen <= 3


def test_pages_one_at_a_time(encode: Encode) -> None:
    """A generator of pages is consumed one at a time."""
    taken = []

    def pages() -> Iterable[Page]:
        for number in range(1, 100):
            taken.append(number)
            yield Page(number, f"Page {number}.")

    lists = Chunker(encode, max_tokens=MAX_TOKENS).split(pages())
    next(lists)
    assert next(lists)[0].text == "Page 1."
    assert taken == [1, 2]


def test_list_for_each_page(encode: Encode) -> None:
    """Every page gives one list and the end one more, so that whoever stores can store after each page."""
    lists = list(Chunker(encode, max_tokens=MAX_TOKENS).split([Page(1, "a"), Page(2, "b"), Page(3, "c")]))
    assert [[chunk.text for chunk in chunks] for chunks in lists] == [[], ["a"], ["b"], ["c"]]


def test_sections_are_no_checkpoint(encode: Encode) -> None:
    """Sections of a chapter share a number: only between two numbers may the parser be taken up again."""
    chunker = Chunker(encode, max_tokens=MAX_TOKENS)
    pages = [Page(1, "aaa", "One"), Page(1, "bbb", "Two"), Page(2, "ccc", "Three")]
    marks = [chunker.checkpoint for _ in chunker.split(pages)]
    assert marks == [START, START, Checkpoint(1, 6, 2), Checkpoint(1, 6, 2)]


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=list(LANGUAGES))
def test_languages(encode: Encode, text: str) -> None:
    """A long text in any language is chunked whole, as one page and in slabs."""
    long = paragraphs(text, 6_000)
    for pages in ([Page(1, long)], slabs(long, 2_500)):
        chunks = chunked(pages, encode)
        check(pages, chunks, encode)
        assert len(chunks) > 1


def test_documents(encode: Encode) -> None:
    """The pages of a document of each format are chunked whole: every character in its place, on its page."""
    for made in CATALOGUE:
        pages = parse_named(made.name, content_of(made.name)).pages
        check(pages, chunked(pages, encode), encode)


def test_real_books(encode: Encode, corpus: Path) -> None:
    """Real books in four scripts are chunked whole."""
    for name in ("debian-faq.pt.txt", "debian-faq.ru.txt", "debian-faq.zh-cn.txt", "live-manual.ja.txt"):
        pages = slabs((corpus / "txt" / name).read_text(encoding="utf-8")[:25_000])
        chunks = chunked(pages, encode)
        check(pages, chunks, encode)
        assert len(chunks) > 10


def test_tokenizer_is_not_truncated(encode: Encode) -> None:
    """The model's tokenizer file has truncation switched on, which the encoder switches off."""
    assert len(encode("word " * 3000)) == 3000
    assert encode("Hello wörld") == [(0, 5), (6, 11)]
    assert encode("") == []


def test_text_hash() -> None:
    """The same text gives the same 32 bytes; a lone surrogate harms nothing."""
    assert text_hash("a") == text_hash("a")
    assert text_hash("a") != text_hash("a ")
    assert len(text_hash("")) == 32
    assert len(text_hash("\ud800")) == 32
