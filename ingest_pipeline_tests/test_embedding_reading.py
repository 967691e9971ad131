"""A model that does not know the words of a query says so."""

from __future__ import annotations

import pytest

from ingest_pipeline.embedding.model import model_folder
from ingest_pipeline.embedding.reading import load_tokens, reads


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("How often do the steam boxes have to be descaled?", True),
        ("Wie oft muss der Ofen entkalkt werden?", True),
        ("308", True), ("???", True), ("", True),
        ("黑豹队的防守丢了多少分？", False),
        ("Как часто нужно чистить печь?", False),
        ("كم مرة يجب تنظيف الفرن", False),
        ("How many points did 黑豹队 score in the last game?", True),
    ],
)  # fmt: skip
def test_the_packaged_model(text: str, is_read: bool) -> None:
    """It reads what is written in Latin letters, also with a foreign name in it."""
    assert reads(load_tokens(model_folder("all-MiniLM-L6-v2") / "tokenizer.json"), text) == is_read


def test_a_letter_may_be_a_token() -> None:
    """Where a letter is a syllable or a word, a token for each is how a model for it reads."""
    assert reads(_letters, "黑豹队的防守")
    assert not reads(_letters, "чистить")


def _letters(text: str) -> list[tuple[str, int]]:
    return [(letter, 1) for letter in text]
