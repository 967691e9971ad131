"""Reads the fields of a spec, with one line for each mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.extraction.sections import SectionChoice

VARIABLE = "INGEST_EXTRACT"
MAX_SPEC_BYTES = 1024**2
"""A prompt and a schema; whatever is larger is another file."""
SECTIONS = (
    "sections: one of {level: 1}, {title: regex}, {level: 1, title: regex}, {pages: 10}, {file: .sections.yaml}, "
    "{each: chunk}, {whole: true}"
)
REQUIRED = object()
"""The default of a field that must be there."""


class Fields:
    """The fields of one spec; each method takes one out."""

    def __init__(self, path: Path, values: Mapping[Any, Any]) -> None:
        self._path, self._values, self._taken = path, values, set[str]()

    def text(self, name: str, default: Any = REQUIRED) -> str:
        """Return a text that is not empty."""
        value = self._take(name, default)
        if not isinstance(value, str) or not value.strip():
            self._refuse(f"{name}: a text that is not empty")
        return value if name == "prompt" else value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """Return one text, or a list of them, as a tuple; () where the field is not there."""
        value = self._take(name, ())
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or not all(isinstance(one, str) and one for one in listed):
            self._refuse(f"{name}: a list of patterns such as lessons/*.pdf")
        return tuple(listed)

    def one_of(self, name: str, allowed: tuple[str, ...], default: Any = REQUIRED) -> str:
        """Return one of some words."""
        value = self._take(name, default)
        if value not in allowed:
            self._refuse(f"{name}: {' or '.join(allowed)}")
        return str(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            self._refuse(f"{name}: true or false")
        return value

    def count(self, name: str, *, default: int) -> int:
        """Return a whole number above 0."""
        value = self._take(name, default)
        if not _is_count(value):
            self._refuse(f"{name}: a whole number above 0")
        return int(value)

    def number(self, name: str, *, default: float) -> float | None:
        """Return a temperature; None where the field is null."""
        value = self._take(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
            self._refuse(f"{name}: a number from 0 to 2, or null")
        return float(value)

    def url(self) -> str:
        """Return the URL of a server, or '' where the field is not there."""
        value = self._take("url", "")
        # A key in the URL would be stored and logged.
        if not isinstance(value, str) or not re.fullmatch(r"(https?://[^\s@?#]+)?", value):
            self._refuse("url: http(s)://host:port/path, without a password or a key")
        return value.rstrip("/")

    def schema(self, default: dict[str, Any] | None) -> dict[str, Any]:
        """Return the JSON Schema that stands here or in a file beside the spec."""
        value = self._take("schema", REQUIRED if default is None else default)
        if isinstance(value, str):
            value = self._schema_file(value)
        if not isinstance(value, dict):
            self._refuse("schema: a JSON Schema, or the name of a JSON file beside this one")
        self._check_schema(value)
        return value

    def sections(self) -> SectionChoice:
        """Return the choice of sections."""
        value = self._take("sections", REQUIRED)
        if not isinstance(value, dict) or not value:
            self._refuse(SECTIONS)
        keys = set(value)
        if keys <= {"level", "title", "without_outline"} and keys & {"level", "title"}:
            return self._outline(value)
        choices = {
            "pages": ("pages", _is_count), "file": ("suffix", _is_suffix),
            "each": ("", "chunk".__eq__), "whole": ("", True.__eq__),
        }  # fmt: skip
        key, wanted = next(iter(value)), next(iter(value.values()))
        if len(value) != 1 or key not in choices or choices[key][1](wanted) is not True:
            self._refuse(SECTIONS)
        more = {field: wanted for field in choices[key][:1] if field}
        return SectionChoice(by="chunk" if key == "each" else key, **more)

    def nothing_else(self) -> None:
        """Refuse a field that nobody took.

        Raises:
            BadSetting: there is one; probably a typing error.
        """
        for name in self._values:
            if name not in self._taken:
                self._refuse(f"no field {str(name)[:60]!r}; the fields are {', '.join(sorted(self._taken))}")

    def _outline(self, value: dict[str, Any]) -> SectionChoice:
        level, title = value.get("level"), value.get("title", "")
        without = value.get("without_outline", "whole")
        if level is not None and not _is_count(level):
            self._refuse("sections: level: a whole number above 0")
        try:
            re.compile(title)
        except (re.error, TypeError):
            self._refuse("sections: title: a regular expression")
        if without not in ("whole", "skip"):
            self._refuse("sections: without_outline: whole or skip")
        return SectionChoice(by="outline", level=level, title=title, without_outline=without)

    def _schema_file(self, name: str) -> Any:
        path = self._path.parent / name
        try:
            with path.open("rb") as file:
                content = file.read(MAX_SPEC_BYTES + 1)
            return json.loads(content) if len(content) <= MAX_SPEC_BYTES else None
        except (OSError, ValueError, RecursionError):
            self._refuse(f"schema: a JSON file that can be read; {name!r} is none")

    def _check_schema(self, schema: dict[str, Any]) -> None:
        import jsonschema

        try:
            json.dumps(schema)  # YAML has dates, JSON has not
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            self._refuse(f"schema: a JSON Schema, Draft 2020-12; at {error.json_path}: {error.message[:200]}")
        except (TypeError, ValueError, RecursionError):
            self._refuse("schema: a JSON Schema of JSON's own types")
        if any(not reference.startswith("#") for reference in _references(schema)):
            self._refuse("schema: a JSON Schema whose $ref point into itself (#/$defs/...)")

    def _take(self, name: str, default: Any) -> Any:
        self._taken.add(name)
        value = self._values.get(name, default)
        if value is REQUIRED:
            self._refuse(f"{name}: it is missing")
        return value

    def _refuse(self, expected: str) -> NoReturn:
        raise BadSetting(VARIABLE, str(self._path), " ".join(expected.split()))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_suffix(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\.[^/\\]*\.(yaml|yml|csv)|\.(yaml|yml|csv)", value) is not None


def _references(schema: Any) -> list[str]:
    """Return what the schema refers to: `$ref` to a server would be fetched while an answer is checked."""
    if isinstance(schema, dict):
        own = [str(value) for key, value in schema.items() if key in ("$ref", "$dynamicRef")]
        return own + [one for value in schema.values() for one in _references(value)]
    if isinstance(schema, list):
        return [one for value in schema for one in _references(value)]
    return []
