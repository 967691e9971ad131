"""What a worker does with a batch, without a model: texts are cut into pieces, pieces put into groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.entities.worker import (
    CHARACTERS_AT_A_TIME,
    PIECE_CHARACTERS,
    PIECES_AT_A_TIME,
    _groups,
    _pieces,
)

LONG = st.builds(
    lambda word, times: (word + " ") * times, st.text(min_size=1, max_size=60), st.integers(1, 300)
)  # up to 18,000 characters
TEXTS = st.lists(st.one_of(st.text(), LONG), max_size=10)


@given(texts=TEXTS)
def test_pieces_are_the_text(texts: list[str]) -> None:
    """Nothing is lost and each piece knows its place."""
    together = [""] * len(texts)
    for piece, (number, offset) in _pieces(texts):
        assert offset == len(together[number])
        assert 0 < len(piece) <= PIECE_CHARACTERS
        together[number] += piece
    assert together == texts


def test_pieces_end_before_white_space() -> None:
    """So that no name is cut in two."""
    pieces = [piece for piece, _ in _pieces(["Ada Lovelace " * 1000])]
    assert len(pieces) > 3
    assert all(piece.split()[-1] in ("Ada", "Lovelace") for piece in pieces)


def test_a_text_without_white_space_is_cut() -> None:
    """Anywhere: it has no names."""
    assert [len(piece) for piece, _ in _pieces(["x" * 9000])] == [4000, 4000, 1000]


@given(texts=TEXTS)
def test_groups_are_bounded(texts: list[str]) -> None:
    """Every piece is in one group, in order; no group is larger than what the memory is measured for."""
    pieces = list(_pieces(texts))
    groups = list(_groups(pieces))
    assert [piece for group in groups for piece in group] == pieces
    for group in groups:
        assert 0 < len(group) <= PIECES_AT_A_TIME
        assert sum(len(piece) for piece, _ in group) <= CHARACTERS_AT_A_TIME
