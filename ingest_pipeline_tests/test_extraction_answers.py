"""An answer is a value of the schema or a typed verdict; one more attempt is made, and every token is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.errors import (
    AnswerBlocked,
    AnswerEmpty,
    AnswerInvalid,
    AnswerTruncated,
    CallFailed,
    ExtractError,
    InputRejected,
    ServiceUnavailable,
)
from ingest_pipeline.extraction.answers import Entity, entities_of, validated
from ingest_pipeline.extraction.ask import answered
from ingest_pipeline.extraction.base import Answer, Note, Question, Remote, Usage, nothing

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["title"],
    "additionalProperties": False,
}
GOOD, BAD = Answer('{"title": "T"}', "stop", 10, 5), Answer('{"year": "SECRET"}', "stop", 10, 5)
QUESTION = Question("About what?", SCHEMA, 100)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=32)), inner),
)  # fmt: skip


class FakeExtractor:
    """Answers from a list."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self._answers = list(answers)
        self.errors: list[str] = []

    def _next(self) -> Answer:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def uploaded(self, question: Question, note: Note = nothing) -> nullcontext[None]:
        return nullcontext()

    def ask(self, question: Question, remote: Remote | None) -> Answer:
        return self._next()

    def ask_again(self, question: Question, remote: Remote | None, *, answer: Answer, error: str) -> Answer:
        self.errors.append(error)
        return self._next()

    def delete_remote(self, name: str) -> None: ...

    def list_remote(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None: ...


@given(json_values)
def test_any_json_comes_back(value: Any) -> None:
    """What a schema allows is returned as it is, in a fence or not."""
    text = json.dumps(value, ensure_ascii=False)
    assert validated(Answer(text, "stop"), {}) == value
    assert validated(Answer(f"\n```json\n{text}\n```\n", "stop"), {}) == value


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_typed(text: str) -> None:
    """No text makes another error."""
    with suppress(AnswerInvalid, AnswerEmpty):
        validated(Answer(text, "stop"), SCHEMA)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer('{"title": "T"', "truncated", detail="MAX_TOKENS"), AnswerTruncated, "limit of tokens"),
        (Answer('{"title": "T"}', "truncated"), AnswerTruncated, "limit of tokens"),
        (Answer("", "blocked", detail="SAFETY"), AnswerBlocked, r"withholds the answer \(SAFETY\)"),
        (Answer("", "empty"), AnswerEmpty, "without a text"),
        (Answer(" \n", "stop"), AnswerEmpty, "without a text"),
    ],
)
def test_verdicts(answer: Answer, kind: type[ExtractError], message: str) -> None:
    """What the server says of its answer counts, whatever the text is."""
    with pytest.raises(kind, match=message) as caught:
        validated(answer, SCHEMA)
    assert caught.value.raw == answer.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "not JSON: Expecting value, line 1 column 1"),
        ('{"title": "SECRET"', "not JSON"),
        ('{"title": "SECRET"}, {}', "not JSON"),
        ('Here it is: {"title": "SECRET"}', "not JSON"),
        ('```json\n{"title": "SECRET"}', "not JSON"),
        ('{"title": NaN}', "not JSON: NaN"),
        ('{"title": -Infinity}', "not JSON: -Infinity"),
        ('{"year": 1}', "at $: 'title' is a required property"),
        ('{"title": "T", "year": "SECRET"}', 'at $.year: does not follow type: "integer"'),
        ('{"title": "T", "SECRET": 1}', "at $: does not follow additionalProperties: false"),
        ('["SECRET"]', 'at $: does not follow type: "object"'),
        ('{"title": "a\\u0000b"}', "a text with a NUL"),
        ('{"title": "\\ud800"}', "a text with a NUL or an unpaired surrogate"),
        ('{"title": "T", "year": 1e999}', "a number that is too large"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, ""),
        ('"' + "x" * (2 * 1024**2) + '"', "longer than 2,097,152 characters"),
    ],
    ids=range(17),
)
def test_invalid_answers(text: str, message: str) -> None:
    """The message says what is wrong without a word of the answer, which is kept beside it."""
    with pytest.raises(AnswerInvalid) as caught:
        validated(Answer(text, "stop"), SCHEMA)
    assert str(caught.value).startswith(message)
    assert "SECRET" not in str(caught.value)
    assert caught.value.raw == text[: 64 * 1024]


def test_the_raw_answer_can_be_stored() -> None:
    """It is cut at 64 KiB between characters, and holds nothing that Postgres refuses."""
    raw = AnswerInvalid("x", "é" * 40_000 + "\x00\ud800").raw
    assert len(raw.encode()) == 64 * 1024
    assert "\x00" not in AnswerInvalid("x", "a\x00\ud800").raw
    AnswerInvalid("x", "a\x00\ud800").raw.encode()


def test_nothing_is_fetched_for_a_schema() -> None:
    """A reference to a server is an error of the configuration; here it is never followed."""
    with pytest.raises(Exception, match="Unresolvable"):
        validated(GOOD, {"$ref": "http://127.0.0.1:9/schema.json"})


def test_a_second_attempt() -> None:
    """An invalid answer is answered once more, given the error; both are paid for."""
    extractor, usage = FakeExtractor(BAD, GOOD), Usage()
    assert answered(extractor, QUESTION, None, usage) == {"title": "T"}
    assert extractor.errors == ["at $: 'title' is a required property"]
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (2, 20, 10, 30)


def test_no_third_attempt() -> None:
    """The second invalid answer is the failure."""
    usage = Usage()
    with pytest.raises(AnswerInvalid) as caught:
        answered(FakeExtractor(BAD, Answer("no", "stop", 1, 1)), QUESTION, None, usage)
    assert caught.value.raw == "no"
    assert usage == Usage(2, 11, 6)


@pytest.mark.parametrize(
    "verdict", [Answer("{", "truncated", 9, 9), Answer("", "blocked", 9, 9), Answer("", "empty", 9, 9)]
)
def test_verdicts_are_not_asked_again(verdict: Answer) -> None:
    """The same question would end the same; its tokens are counted."""
    usage = Usage()
    with pytest.raises(ExtractError):
        answered(FakeExtractor(verdict), QUESTION, None, usage)
    assert usage == Usage(1, 9, 9)


@pytest.mark.parametrize("error", [CallFailed("HTTP 503"), InputRejected("too long")])
def test_a_second_attempt_that_cannot_be_made(error: Exception) -> None:
    """What is known of the section is its first answer."""
    usage = Usage()
    with pytest.raises(AnswerInvalid, match=r"asking again failed: (HTTP 503|too long)") as caught:
        answered(FakeExtractor(BAD, error), QUESTION, None, usage)
    assert caught.value.raw == BAD.text
    assert usage.calls == 1


@pytest.mark.parametrize("before", [[], [BAD]])
def test_a_server_that_fails_stops_the_run(before: list[Answer]) -> None:
    """Also in the second attempt, and what was used stays counted."""
    usage = Usage()
    with pytest.raises(ServiceUnavailable):
        answered(FakeExtractor(*before, ServiceUnavailable("down")), QUESTION, None, usage)
    assert usage.calls == len(before)


def entities(text: str, *names: str) -> tuple[list[tuple[int, int]], int]:
    """The places of names in a text, and how many have none."""
    located = entities_of({"entities": [{"label": "X", "name": name} for name in names]}, text)
    assert all(text[one.char_from : one.char_to] == one.name for one in located.entities)
    return [(one.char_from, one.char_to) for one in located.entities], located.dropped


def test_entities_have_their_places() -> None:
    """Every occurrence of a whole word; invented names are dropped and counted."""
    assert entities("Ada met Adam. Ada!", "Ada") == ([(0, 3), (14, 17)], 0)
    assert entities("Ada met Adam.", "Ada", "Grace", "ada", " ", "") == ([(0, 3)], 3)
    assert entities("in New\n  York.", "New York") == ([(3, 13)], 0)
    assert entities("(C++), C++17", "C++") == ([(1, 4), (7, 10)], 0)
    assert entities("我住在北京市", "北京") == ([(3, 5)], 0)
    assert entities("a.b", "a.b", "a?b") == ([(0, 3)], 1)


def test_entities_are_sorted_and_not_repeated() -> None:
    """By place, whatever the order of the answer; a pair that is named twice counts once."""
    listed = [
        {"label": "B", "name": "two"}, {"label": "A", "name": "one"}, {"label": "A", "name": "one"},
        {"label": "C", "name": "one"}, {"label": 5, "name": "one"}, {"name": "one"}, "one",
    ]  # fmt: skip
    located = entities_of({"entities": listed}, "one two")
    assert located.entities == (Entity("A", 0, 3, "one"), Entity("C", 0, 3, "one"), Entity("B", 4, 7, "two"))


@pytest.mark.parametrize("value", [[], {}, None, "x", {"entities": None}, {"entities": "x"}])
def test_answers_without_entities(value: Any) -> None:
    """An answer of another schema has none."""
    assert entities_of(value, "text").entities == ()


@given(st.text(), st.lists(st.text()))
def test_a_place_holds_the_name(text: str, names: list[str]) -> None:
    """Up to white space, what stands at the place is the name."""
    for one in entities_of({"entities": [{"label": "L", "name": name} for name in names]}, text).entities:
        assert text[one.char_from : one.char_to] == one.name
        assert one.name.split() in [name.split() for name in names]
