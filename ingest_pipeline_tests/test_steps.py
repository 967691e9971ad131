"""What a child died of is tried again in a smaller step, then it is a gap: every page arrives once or is named."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.errors import (
    EncryptedDocument,
    NoText,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimedOut,
    PermanentError,
    UnreadableDocument,
)
from ingest_pipeline.models import Done, Gap, Heading, Page, ParseCost, ParseEvent, Properties
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.steps import CHILDREN_WITHOUT_ANY_PAGE, FRUITLESS_CHILDREN, events_in_steps

MIB = 1024**2


@dataclass
class FakeParser:
    """A document of so many pages; some make their child fail, and so do too many pages for one child."""

    pages_in_all: int
    lethal: frozenset[int] = frozenset()
    capacity: int = 10**6
    """Pages that one child survives."""
    error: type[PermanentError] = ParserOutOfMemory
    pieces: int = 1
    knows_total: bool = True
    seconds_per_failure: float = 0.5
    file_seconds: float = 1800.0
    text: str = "text"
    children: list[tuple[int, int | None]] = field(default_factory=list)
    closed: int = 0

    def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        """Yield the events of one step, or fail."""
        self.children.append((request.first_page, request.last_page))
        yield ParseCost(10 * MIB, 1.0)
        last = min(self.pages_in_all, request.last_page or self.pages_in_all)
        for count, number in enumerate(range(request.first_page, last + 1), start=1):
            if number in self.lethal or count > self.capacity:
                yield ParseCost(100 * MIB, 1.0, self.seconds_per_failure)
                raise self.error(f"file: failed at {number}")
            yield Properties(total_pages=self.pages_in_all if self.knows_total else None)
            yield Heading(1, f"title {number}", number)
            for piece in range(self.pieces):
                text = f"{self.text}{number}.{piece}" if self.text else ""
                yield Page(number, text, continues=piece > 0, whole=piece == self.pieces - 1)
        yield Done(last, more=last < self.pages_in_all)

    def close(self) -> None:
        """End the child."""
        self.closed += 1


def read(parser: FakeParser, parsed: ParseFold, *, width: int | None = None, first_page: int = 1) -> list[Page]:
    request = ParseRequest("file", "application/pdf", first_page=first_page)
    return list(parsed.pages_of(events_in_steps(parser, io.BytesIO(), request, width=width)))


def pages_of(gaps: list[Gap]) -> set[int]:
    return {number for gap in gaps for number in range(gap.page_from, gap.page_to + 1)}


def test_a_healthy_file_is_one_step() -> None:
    """Nothing is paid for what does not happen."""
    parser, parsed = FakeParser(100), ParseFold()
    assert [page.number for page in read(parser, parsed)] == list(range(1, 101))
    assert parser.children == [(1, None)]
    assert parser.closed == 0
    assert not parsed.gaps


def test_the_step_is_halved_after_each_death_and_nothing_is_read_twice() -> None:
    """A parser that grows: 40 pages, then 20 at a time, each by a fresh child."""
    parser, parsed = FakeParser(100, capacity=40), ParseFold()
    assert [page.number for page in read(parser, parsed)] == list(range(1, 101))
    assert parser.children == [(1, None), (41, 60), (61, 80), (81, 100)]
    assert parser.closed == 3
    assert not parsed.gaps


def test_a_page_that_kills_is_tried_alone_and_then_a_gap() -> None:
    """Its neighbours are not lost."""
    parser, parsed = FakeParser(10, lethal=frozenset({7})), ParseFold()
    assert [page.number for page in read(parser, parsed)] == [1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert parsed.gaps == [Gap(7, 7, "ParserOutOfMemory")]
    assert parser.children == [(1, None), (7, 9), (7, 7), (8, 10)]


def test_a_first_page_that_kills_is_a_gap_too() -> None:
    """As long as another page of the file arrives within three children."""
    parser, parsed = FakeParser(5, lethal=frozenset({1})), ParseFold()
    assert [page.number for page in read(parser, parsed)] == [2, 3, 4, 5]
    assert parser.children == [(1, None), (1, 1), (2, None)]


@pytest.mark.parametrize("error", [ParserOutOfMemory, ParserTimedOut, ParserCrashed])
def test_a_file_of_which_nothing_arrives_fails_after_three_children(error: type[PermanentError]) -> None:
    """With the reason of the last; at 30 s a page that is a minute and a half."""
    parser = FakeParser(1000, lethal=frozenset(range(1, 1001)), error=error)
    with pytest.raises(error):
        read(parser, ParseFold())
    assert len(parser.children) == CHILDREN_WITHOUT_ANY_PAGE


def test_what_the_parser_says_of_a_file_is_not_tried_again() -> None:
    """A missing password is no death."""
    parser = FakeParser(5, lethal=frozenset({3}), error=EncryptedDocument)
    with pytest.raises(EncryptedDocument):
        read(parser, ParseFold())
    assert len(parser.children) == 1


def test_a_rest_that_kills_every_child_is_one_gap() -> None:
    """A thousand deadly pages do not cost two thousand children."""
    parser, parsed = FakeParser(1000, lethal=frozenset(range(11, 1001))), ParseFold()
    assert len(read(parser, parsed)) == 10
    assert pages_of(parsed.gaps) == set(range(11, 1001))
    assert len(parser.children) <= FRUITLESS_CHILDREN + 1


def test_a_rest_that_hangs_is_given_up_after_three_waits() -> None:
    """A hang costs half a minute, a crash half a second."""
    parser, parsed = FakeParser(50, lethal=frozenset(range(3, 51)), error=ParserTimedOut), ParseFold()
    assert len(read(parser, parsed)) == 2
    assert pages_of(parsed.gaps) == set(range(3, 51))
    assert len(parser.children) == 4


def test_the_time_of_the_file_counts_over_all_its_children() -> None:
    """Or a file that dies slowly at each page would have its deadline again and again."""
    parser = FakeParser(100, lethal=frozenset({20, 40, 60}), seconds_per_failure=100, file_seconds=250)
    parsed = ParseFold()
    assert len(read(parser, parsed)) == 19
    assert parsed.gaps == [Gap(20, 100, "ParserOutOfMemory; given up from here on")]


def test_a_charged_file_begins_with_small_steps() -> None:
    """A run was killed while it was open: something must change."""
    parser, parsed = FakeParser(10), ParseFold()
    assert len(read(parser, parsed, width=4)) == 10
    assert parser.children == [(1, 4), (5, 8), (9, 12)]


def test_a_page_that_comes_in_pieces_is_not_repeated() -> None:
    """The piece that an earlier child brought of the page at which it died is left out the second time."""

    class DiesInThePage(FakeParser):
        def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
            for event in super().events(stream, request):
                yield event
                if len(self.children) == 1 and isinstance(event, Page) and event.text == "text3.1":
                    raise ParserOutOfMemory("file: failed within page 3")

    parser = DiesInThePage(5, pieces=3)
    parsed = ParseFold()
    texts = [page.text for page in read(parser, parsed)]
    assert texts == [f"text{number}.{piece}" for number in range(1, 6) for piece in range(3)]
    assert [section.title for section in parsed.sections] == [f"title {number}" for number in range(1, 6)]


def test_the_costs_of_all_children_are_the_cost_of_the_file() -> None:
    """Seconds add up; the highest peak stays, also that of a child that died."""
    parsed = ParseFold()
    read(FakeParser(10, lethal=frozenset({7})), parsed)
    assert parsed.cost == ParseCost(100 * MIB, 4.0, 1.5)
    assert parsed.result().seconds == 4.0


def test_a_file_without_text_says_so() -> None:
    """Read to its end, and empty: a scan."""
    with pytest.raises(NoText, match="3 pages without a text layer"):
        read(FakeParser(3, text=""), ParseFold())


def test_nothing_but_gaps_is_not_called_a_scan() -> None:
    """Pages that could not be read are another reason than pages without text."""
    with pytest.raises(UnreadableDocument, match="not one page"):
        read(FakeParser(2, text="", lethal=frozenset({1})), ParseFold())


@given(
    pages=st.integers(1, 60),
    lethal=st.frozensets(st.integers(1, 60), max_size=6),
    capacity=st.integers(1, 70),
    pieces=st.integers(1, 3),
    knows_total=st.booleans(),
    width=st.sampled_from([None, 1, 4, 32]),
)
def test_every_page_arrives_once_or_is_a_gap(
    pages: int, lethal: frozenset[int], capacity: int, pieces: int, knows_total: bool, width: int | None
) -> None:
    """Whatever kills: no page is lost in silence, none arrives twice, and it ends."""
    parser = FakeParser(pages, lethal=lethal, capacity=capacity, pieces=pieces, knows_total=knows_total)
    parsed = ParseFold()
    try:
        found = read(parser, parsed, width=width)
    except ParserOutOfMemory:
        assert {1, 2} & lethal
        return
    except UnreadableDocument:
        assert set(range(1, pages + 1)) <= lethal
        return
    arrived = [page.number for page in found]
    assert arrived == sorted(arrived)
    assert len({(page.number, page.text) for page in found}) == len(found)
    assert set(arrived) == set(range(1, pages + 1)) - lethal
    assert [section.page_from for section in parsed.sections] == sorted(set(arrived))
    assert [page.section for page in found if not page.continues] == list(range(len(set(arrived))))
    assert pages_of(parsed.gaps) >= lethal & set(range(1, pages + 1))
    assert not pages_of(parsed.gaps) & set(arrived)
    assert len(parser.children) <= 2 * pages + 3 * len(lethal) + 4
