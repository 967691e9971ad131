"""What is asked about the sections of documents: one YAML file, named by `INGEST_EXTRACT`."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.extraction.sections import SectionChoice
from ingest_pipeline.extraction.spec_fields import MAX_SPEC_BYTES, VARIABLE, Fields

Provider = Literal["gemini", "openai"]
Input = Literal["pdf", "text"]
MAX_OUTPUT_TOKENS = 8192
"""The default: what the smaller models of both providers can write in one answer."""
FIELDS = re.compile(r"\{(title|pages|text)\}")
ENTITIES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "entities": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"label": {"type": "string"}, "name": {"type": "string"}},
                "required": ["label", "name"],
            },
        }
    },
    "required": ["entities"],
}


@dataclass(frozen=True, slots=True)
class ExtractSpec:
    """One set of questions. It holds no key: keys are in the environment only."""

    name: str
    provider: Provider
    model: str
    prompt: str
    schema: dict[str, Any]
    """A JSON Schema, Draft 2020-12."""
    sections: SectionChoice
    url: str = ""
    """'': the provider's own server."""
    api_version: str = "v1"
    """gemini only. Aliases such as gemini-flash-latest exist in v1beta alone."""
    files: tuple[str, ...] = ()
    """Patterns for the path of a file; (): every file."""
    input: Input = "text"
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    temperature: float | None = 0.0
    """None: not sent, for models that refuse it."""
    entities: bool = False

    @property
    def prompt_version(self) -> str:
        """16 hex digits that change with everything in this file that decides an answer, except the model."""
        # The order of the schema's properties decides the order of the answer: keys are not sorted.
        decides = (self.prompt, self.schema, self.input, self.max_output_tokens, self.temperature)
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]

    @property
    def model_key(self) -> str:
        """The provider and the model in one string."""
        return f"{self.provider}:{self.model}"

    def takes(self, path: str) -> bool:
        """Return whether the file with this path is asked about; `*` also matches `/`."""
        return not self.files or any(fnmatch.fnmatchcase(path, pattern) for pattern in self.files)

    def prompt_for(self, *, title: str, pages: str, text: str = "") -> str:
        """Return the prompt with `{title}`, `{pages}` and `{text}` filled in; all other braces stay."""
        values = {"title": title, "pages": pages, "text": text}
        return FIELDS.sub(lambda match: values[match[1]], self.prompt)  # one pass: a text may contain `{title}`


def read_spec(path: Path) -> ExtractSpec:
    """Return the spec in a YAML file.

    Raises:
        BadSetting: the first mistake in it, in one line.
    """
    fields = Fields(path, _mapping(path))
    entities = fields.flag("entities", default=False)
    spec = ExtractSpec(
        name=fields.text("name"),
        provider=fields.one_of("provider", ("gemini", "openai")),  # type: ignore[arg-type]
        model=fields.text("model"),
        prompt=fields.text("prompt"),
        schema=fields.schema(ENTITIES_SCHEMA if entities else None),
        sections=fields.sections(),
        url=fields.url(),
        api_version=fields.text("api_version", default="v1"),
        files=fields.texts("files"),
        input=fields.one_of("input", ("text", "pdf"), default="text"),  # type: ignore[arg-type]
        max_output_tokens=fields.count("max_output_tokens", default=MAX_OUTPUT_TOKENS),
        temperature=fields.number("temperature", default=0.0),
        entities=entities,
    )
    fields.nothing_else()
    _check_together(path, spec)
    return spec


def _mapping(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise BadSetting(VARIABLE, str(path), f"a YAML file that can be read ({error.strerror})") from None
    if len(content) > MAX_SPEC_BYTES:
        raise BadSetting(VARIABLE, str(path), "a YAML file of at most 1 MiB")
    try:
        loaded = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadSetting(VARIABLE, str(path), f"a YAML file ({_place(error)})") from None
    if not isinstance(loaded, dict):
        raise BadSetting(VARIABLE, str(path), "a YAML file with `name: value` lines")
    return loaded


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


def _check_together(path: Path, spec: ExtractSpec) -> None:
    """Refuse what makes sense alone and not together."""

    def refuse(expected: str) -> None:
        raise BadSetting(VARIABLE, str(path), expected)

    has_text = "{text}" in spec.prompt
    if spec.input == "text" and not has_text:
        refuse("prompt: a text with {text}, because input is text")
    if spec.input == "pdf" and has_text:
        refuse("prompt: a text without {text}, because input is pdf: the pages themselves are sent")
    if spec.input == "pdf" and spec.sections.by == "chunk":
        refuse("sections: not {each: chunk}, because input is pdf: chunks have no pages of their own")
    if spec.entities and spec.input == "pdf":
        refuse("input: text, because entities is true: their names are looked for in the text")
