"""Somebody's own question about a document: another prompt, or other sections, asked of the LLM of `INGEST_EXTRACT`."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.extract_plan import spec_of

MAX_PROMPT_CHARACTERS = 32_000
MAX_TITLES = 200
MAX_TITLE_CHARACTERS = 500
TITLES = f"sections: a list of at most {MAX_TITLES} titles, or an object such as " + '{"level": 1}'
TEXT = "{text}"


@dataclass(frozen=True, slots=True)
class OwnQuestion:
    """What is asked in place of what `INGEST_EXTRACT` says; None: as it says."""

    prompt: str | None = None
    sections: list[str] | dict[str, Any] | None = None
    """Titles of the outline, or one of the choices of the YAML file; a title is a text, not a regular expression."""


@contextmanager
def asking_this(settings: Settings, question: OwnQuestion) -> Iterator[Settings]:
    """Yield settings under which the question is asked; what is written for it is deleted at the end.

    Provider, model, server and schema stay: the key of the settings goes to no other server.

    Raises:
        BadSetting: `INGEST_EXTRACT` is not set, or the question cannot be used.
    """
    own = spec_of(settings)
    if own is None:
        raise BadSetting("INGEST_EXTRACT", "", "a YAML file that names the provider and the model, and has a schema")
    if question == OwnQuestion():
        yield settings
        return
    import yaml

    with tempfile.TemporaryDirectory(prefix="ingest-question-") as folder:
        path = Path(folder) / "question.yaml"
        path.write_text(yaml.safe_dump(_changed(Path(settings.extract).expanduser(), own, question)))
        changed = replace(settings, extract=str(path))
        spec_of(changed)
        yield changed


def _changed(path: Path, own: ExtractSpec, question: OwnQuestion) -> dict[str, Any]:
    """Return the fields of the YAML file with those of the question."""
    import yaml

    fields = dict(yaml.safe_load(path.read_bytes()))
    fields.pop("files", None)  # the document is named
    fields |= {"schema": own.schema, "name": _name(own, question)}
    if question.prompt is not None:
        fields["prompt"] = _prompt(own, question.prompt)
    if question.sections is not None:
        fields["sections"] = _sections(question.sections)
    return fields


def _name(own: ExtractSpec, question: OwnQuestion) -> str:
    """Return a name that the same question has again: its answers are kept, apart from those of the batches."""
    asked = json.dumps([question.prompt, question.sections], sort_keys=True)
    return f"{own.name} {hashlib.sha256(asked.encode()).hexdigest()[:12]}"


def _prompt(own: ExtractSpec, prompt: str) -> str:
    if not prompt.strip() or len(prompt) > MAX_PROMPT_CHARACTERS:
        raise _bad(f"prompt: a text of at most {MAX_PROMPT_CHARACTERS:,} characters")
    return prompt if own.input == "pdf" or TEXT in prompt else f"{prompt}\n\n{TEXT}"


def _sections(sections: list[str] | dict[str, Any]) -> dict[str, Any]:
    if isinstance(sections, dict):
        return {**sections, "title": _pattern([sections["title"]])} if "title" in sections else sections
    return {"title": f"^{_pattern(sections)}$"}


def _pattern(titles: list[Any]) -> str:
    # Not a regular expression of the client's: one that takes years would hold the whole process.
    usable = [title for title in titles if isinstance(title, str) and 0 < len(title) <= MAX_TITLE_CHARACTERS]
    if not titles or len(usable) < len(titles) or len(titles) > MAX_TITLES:
        raise _bad(TITLES)
    return f"(?:{'|'.join(map(re.escape, usable))})"


def _bad(expected: str) -> BadSetting:
    return BadSetting("INGEST_EXTRACT", "", expected)
