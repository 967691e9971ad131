"""What is asked about sections is read exactly, and each mistake is one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.extraction.answers import validated
from ingest_pipeline.extraction.base import Answer
from ingest_pipeline.extraction.sections import SectionChoice
from ingest_pipeline.extraction.spec import ExtractSpec, read_spec

Write = Callable[..., Path]
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
PLAIN = {
    "name": "lessons",
    "provider": "gemini",
    "model": "gemini-2.5-flash",
    "prompt": 'Summarize {title} ({pages}) as {"summary": "…"}:\n{text}',
    "schema": SCHEMA,
    "sections": {"level": 1},
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a spec with some fields changed; `None` removes one."""

    def write(**changes: Any) -> Path:
        values = {name: value for name, value in {**PLAIN, **changes}.items() if value is not ...}
        path = tmp_path / "extract.yaml"
        path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False))
        return path

    return write


def spec_with(**changes: Any) -> ExtractSpec:
    """A spec that was never in a file."""
    values = {**PLAIN, "sections": SectionChoice("whole"), **changes}
    return ExtractSpec(**values)  # type: ignore[arg-type]


def test_a_spec_and_its_defaults(write: Write) -> None:
    """A short spec is complete."""
    spec = read_spec(write())
    assert (spec.name, spec.provider, spec.model, spec.model_key) == (
        "lessons", "gemini", "gemini-2.5-flash", "gemini:gemini-2.5-flash",
    )  # fmt: skip
    assert (spec.url, spec.api_version, spec.files, spec.input) == ("", "v1", (), "text")
    assert (spec.temperature, spec.max_output_tokens, spec.entities) == (0.0, 8192, False)
    assert spec.schema == SCHEMA
    assert spec.sections == SectionChoice("outline", level=1)


@pytest.mark.parametrize(
    ("written", "choice"),
    [
        ({"level": 2}, SectionChoice("outline", level=2)),
        ({"title": "^Lesson"}, SectionChoice("outline", title="^Lesson")),
        ({"level": 1, "title": "x", "without_outline": "skip"},
         SectionChoice("outline", level=1, title="x", without_outline="skip")),
        ({"pages": 10}, SectionChoice("pages", pages=10)),
        ({"file": ".sections.yaml"}, SectionChoice("file", suffix=".sections.yaml")),
        ({"file": ".csv"}, SectionChoice("file", suffix=".csv")),
        ({"each": "chunk"}, SectionChoice("chunk")),
        ({"whole": True}, SectionChoice("whole")),
    ],
)  # fmt: skip
def test_choices_of_sections(write: Write, written: dict[str, Any], choice: SectionChoice) -> None:
    """Each form of `sections` is one choice."""
    assert read_spec(write(sections=written)).sections == choice


MISTAKES = [
    ({"name": ...}, "name: it is missing"),
    ({"name": "  "}, "name: a text"),
    ({"name": 3}, "name: a text"),
    ({"provider": "azure"}, "provider: gemini or openai"),
    ({"provider": ["gemini"]}, "provider: gemini or openai"),
    ({"model": ...}, "model: it is missing"),
    ({"prompt": ""}, "prompt: a text"),
    ({"prompt": "no place for a text"}, "prompt: a text with {text}"),
    ({"input": "pdf"}, "prompt: a text without {text}"),
    ({"input": "html"}, "input: text or pdf"),
    ({"input": "pdf", "prompt": "x", "sections": {"each": "chunk"}}, "sections: not {each: chunk}"),
    ({"input": "pdf", "prompt": "x", "entities": True}, "input: text, because entities"),
    ({"url": "ftp://x"}, "url: http(s)://"),
    ({"url": "https://user:secret@host/v1"}, "url: http(s)://"),
    ({"url": "https://host/v1?key=secret"}, "url: http(s)://"),
    ({"url": 5}, "url: http(s)://"),
    ({"api_version": 1}, "api_version: a text"),
    ({"files": 3}, "files: a list"),
    ({"files": [""]}, "files: a list"),
    ({"max_output_tokens": 0}, "max_output_tokens: a whole number"),
    ({"max_output_tokens": True}, "max_output_tokens: a whole number"),
    ({"temperature": 3}, "temperature: a number from 0 to 2"),
    ({"temperature": float("nan")}, "temperature: a number from 0 to 2"),
    ({"temperature": "warm"}, "temperature: a number from 0 to 2"),
    ({"entities": "yes please"}, "entities: true or false"),
    ({"schema": ...}, "schema: it is missing"),
    ({"schema": 5}, "schema: a JSON Schema"),
    ({"schema": "absent.json"}, "schema: a JSON file"),
    ({"schema": {"type": "strin"}}, "schema: a JSON Schema, Draft 2020-12; at $.type"),
    ({"schema": {"$ref": "http://127.0.0.1/x"}}, "schema: a JSON Schema whose $ref"),
    ({"schema": {"items": [{"$ref": "file:///etc/passwd"}]}}, "schema: a JSON Schema"),
    ({"sections": ...}, "sections: it is missing"),
    ({"sections": {}}, "sections: one of"),
    ({"sections": "level 1"}, "sections: one of"),
    ({"sections": {"level": 0}}, "sections: level: a whole number"),
    ({"sections": {"title": "("}}, "sections: title: a regular expression"),
    ({"sections": {"title": 5}}, "sections: title: a regular expression"),
    ({"sections": {"level": 1, "without_outline": "die"}}, "sections: without_outline: whole or skip"),
    ({"sections": {"without_outline": "skip"}}, "sections: one of"),
    ({"sections": {"pages": -1}}, "sections: one of"),
    ({"sections": {"pages": 10, "level": 1}}, "sections: one of"),
    ({"sections": {"file": "../x.yaml"}}, "sections: one of"),
    ({"sections": {"file": "sections.yaml"}}, "sections: one of"),
    ({"sections": {"each": "page"}}, "sections: one of"),
    ({"sections": {"whole": False}}, "sections: one of"),
    ({"sections": {"by": "chance"}}, "sections: one of"),
    ({"api_key": "sk-secret"}, "no field 'api_key'; the fields are api_version, entities"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), MISTAKES, ids=[str(changes)[:60] for changes, _ in MISTAKES])
def test_each_mistake_is_one_line(write: Write, changes: dict[str, Any], expected: str) -> None:
    """The line names the variable, the file and the field, and quotes no value: it may be a key."""
    path = write(**changes)
    with pytest.raises(BadSetting) as caught:
        read_spec(path)
    message = str(caught.value)
    assert message.startswith(f"INGEST_EXTRACT={str(path)!r}: expected {expected}")
    assert "\n" not in message
    assert "secret" not in message


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"a: [", b"\xff\xfe\x00", b"[" * 5000, b"a: b: c", b"x" * 2**21])
def test_what_is_no_spec(tmp_path: Path, content: bytes) -> None:
    """A file that is not YAML, or no mapping, or far too large, is named in one line."""
    path = tmp_path / "extract.yaml"
    path.write_bytes(content)
    with pytest.raises(BadSetting, match=r"expected a YAML file") as caught:
        read_spec(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["absent.yaml", "."])
def test_a_spec_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    """A missing file, and a folder."""
    with pytest.raises(BadSetting, match="a YAML file that can be read"):
        read_spec(tmp_path / path)


def test_a_schema_in_a_file_beside_it(write: Write) -> None:
    """A schema may be in a JSON file beside the spec; its version is that of the same schema written in place."""
    path = write(schema="answer.json")
    (path.parent / "answer.json").write_text(json.dumps(SCHEMA, indent=2))
    assert read_spec(path).schema == SCHEMA
    assert read_spec(path).prompt_version == read_spec(write()).prompt_version


def test_dates_in_a_schema(tmp_path: Path) -> None:
    """YAML has types that JSON has not."""
    path = tmp_path / "extract.yaml"
    values = {name: value for name, value in PLAIN.items() if name != "schema"}
    path.write_text(yaml.safe_dump(values) + "schema: {default: 2024-01-01}\n")
    with pytest.raises(BadSetting, match="schema: a JSON Schema of JSON's own types"):
        read_spec(path)


def test_entities_have_a_schema_of_their_own(write: Write) -> None:
    """`entities: true` needs no schema; one that is given stays."""
    spec = read_spec(write(entities=True, schema=..., sections={"each": "chunk"}))
    answer = Answer('{"entities": [{"label": "PERSON", "name": "Ada"}]}', "stop")
    assert validated(answer, spec.schema) == {"entities": [{"label": "PERSON", "name": "Ada"}]}
    assert read_spec(write(entities=True)).schema == SCHEMA


@pytest.mark.parametrize(
    ("patterns", "path", "taken"),
    [
        ((), "anything", True),
        (("*.pdf",), "a/b/c.pdf", True),
        (("lessons/*.pdf",), "lessons/1/x.pdf", True),
        (("lessons/*.pdf",), "other/x.pdf", False),
        (("*.pdf",), "x.PDF", False),
        (("a.pdf", "b.pdf"), "b.pdf", True),
    ],
)
def test_files(patterns: tuple[str, ...], path: str, taken: bool) -> None:
    """Patterns are of the whole path."""
    assert spec_with(files=patterns).takes(path) is taken


def test_only_three_names_are_filled_in() -> None:
    """Other braces stay, and what is filled in is not looked at again."""
    spec = spec_with(prompt='{title}|{pages}|{text}|{other}|{"a": {"title": "{title}"}}|{{title}}|{}')
    filled = spec.prompt_for(title="{text}", pages="3-4", text="{title} \\1 {pages}")
    assert filled == '{text}|3-4|{title} \\1 {pages}|{other}|{"a": {"title": "{text}"}}|{{text}}|{}'


@given(st.text(), st.text(), st.text())
def test_a_prompt_contains_its_texts(title: str, pages: str, text: str) -> None:
    """Whatever is filled in is there as it was."""
    assert spec_with(prompt="<{title}|{pages}|{text}>").prompt_for(title=title, pages=pages, text=text) == (
        f"<{title}|{pages}|{text}>"
    )


def test_the_version_changes_with_what_decides_an_answer() -> None:
    """Where sections begin and which files are asked about decide no answer; the model has a key of its own."""
    same = [
        spec_with(), spec_with(sections=SectionChoice("pages", pages=3)), spec_with(name="x", files=("*.pdf",)),
        spec_with(model="other", url="http://x"),
    ]  # fmt: skip
    other = [
        spec_with(prompt="{text}"), spec_with(schema={"type": "object"}), spec_with(input="pdf"),
        spec_with(max_output_tokens=5), spec_with(temperature=None), spec_with(temperature=0.5),
    ]  # fmt: skip
    assert len({spec.prompt_version for spec in same}) == 1
    assert len({spec.prompt_version for spec in [same[0], *other]}) == 1 + len(other)
    assert all(len(spec.prompt_version) == 16 for spec in other)
