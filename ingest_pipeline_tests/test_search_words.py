"""Words become terms: folded, in the language of the text, in pairs where a script has no spaces."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_pipeline.store.connection import Connection, scalar
from ingest_pipeline.store.marks import marks_of

GERMAN = "Der Ofen wird alle sechs Wochen entkalkt, und die Tür ist dabei nicht zu öffnen."
ENGLISH = "The steam boxes of the oven are descaled every six weeks, and this is done when it is cold."
CHINESE = "黑豹队的防守只丢了 308 分，在联赛中排名第六。"


def words(connection: Connection, text: str) -> list[str]:
    return str(scalar(connection, "SELECT words_of(%s)", (text,))).split()


def terms(connection: Connection, language: str, text: str) -> set[str]:
    return set(scalar(connection, "SELECT tsvector_to_array(text_terms(%s, %s))", (language, text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“Über” the Oven’s door: 3.5 mm, 1,000 °C!", "über the oven s door 3.5 mm 1 000 c"),
        ("end.Next a/b foo_bar x@y.org -5.2.", "end next a b foo bar x y org 5.2"),
        ("ﬁne ＷＩＤＥ ½", "fine wide 1 2"),
        ("ÀÉÎ ЖЁ ΣΑ", "àéî жё σα"),
        ("", ""),
    ],
)
def test_words_of_a_text(connection: Connection, text: str, expected: str) -> None:
    """Small letters without punctuation, whatever the database's locale; numbers keep their decimal point."""
    assert " ".join(words(connection, text)) == expected


def test_pairs_of_letters(connection: Connection) -> None:
    """Every pair of neighbours is a word in a script without spaces; Latin words and numbers in it stay whole."""
    assert {"黑豹", "豹队", "队的", "308", "nfl"} <= set(words(connection, "黑豹队的308分NFL"))
    assert "安녕" not in words(connection, "안녕하세요")
    assert {"안녕", "녕하", "하세", "세요"} <= set(words(connection, "안녕하세요"))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "english"), (GERMAN, "german"), (CHINESE, "pairs"), ("oven door handle", "simple"), ("", "simple"),
        ("Le four est nettoyé toutes les six semaines par une équipe", "french"),
        ("Печь чистят не реже чем раз в год, и это делает мастер, как он хочет", "russian"),
        ("id,name,male\n1,Allen,true\n2,Bob,false\n3,Cy,true", "simple"),
        ("Wie oft muss der Ofen entkalkt werden?", "german"),
        ("die hard", "simple"),
    ],
)  # fmt: skip
def test_the_language_of_a_text(connection: Connection, text: str, language: str) -> None:
    """Two frequent words of a language that make up a twelfth of the text; names and tables have none."""
    assert scalar(connection, "SELECT text_language(%s)", (text,)) == language


def test_stems_of_its_language(connection: Connection) -> None:
    """A German text has German stems, an English one English ones; stop words are left out."""
    assert terms(connection, "german", GERMAN) >= {"ofen", "woch", "entkalkt"}
    assert "the" not in terms(connection, "english", ENGLISH)
    assert {"descal", "week"} <= terms(connection, "english", ENGLISH)


def test_marks_are_words() -> None:
    """A mark is a whole word as it is written; marks that touch are one."""
    assert marks_of("The Ovens, the oven-door and 3.5 mm", frozenset({"Ovens", "oven", "3.5"})) == (
        (4, 9), (15, 19), (29, 32),
    )  # fmt: skip
    assert marks_of("用黑豹队的", frozenset({"黑豹", "豹队"})) == ((1, 4),)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200))
def test_any_text_has_terms(connection: Connection, text: str) -> None:
    """No text makes the functions fail, and no term has a sign of punctuation."""
    language = scalar(connection, "SELECT text_language(%s)", (text,))
    assert not terms(connection, language, text) & set("!\"'()*,/:;<=>?@[]{}“”«»")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=300))
def test_any_query_can_be_asked(connection: Connection, text: str) -> None:
    """No query makes the lexical arm or the counts fail."""
    assert connection.execute("SELECT * FROM lexical_texts(%s, 1, '{}', 1000, 10)", (text,)).fetchall() == []
    assert scalar(connection, "SELECT files FROM search_coverage(%s, NULL, '{}')", (text,)) == 0
