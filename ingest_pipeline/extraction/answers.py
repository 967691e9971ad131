"""Checks an answer, and finds the entities that it names in the text that was asked about."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from ingest_pipeline.errors import AnswerBlocked, AnswerEmpty, AnswerInvalid, AnswerTruncated, ExtractError
from ingest_pipeline.extraction.base import Answer
from ingest_pipeline.models import Entity

MAX_ANSWER_CHARACTERS = 2 * 1024**2
"""Four times what the largest models write in one answer (64 Ki tokens of 8 characters)."""
MAX_ERRORS = 20
"""Errors among which the most telling one is chosen; a long answer may have thousands."""
MAX_ERROR_CHARACTERS = 300
FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n(.*)\n[ \t]*```", re.DOTALL)
VERDICTS: dict[str, tuple[type[ExtractError], str]] = {
    "truncated": (AnswerTruncated, "the answer ends at the limit of tokens: raise max_output_tokens, or ask for less"),
    "blocked": (AnswerBlocked, "the server withholds the answer"),
    "empty": (AnswerEmpty, "the server answers without a text"),
}


def validated(answer: Answer, schema: dict[str, Any]) -> Any:
    """Return the value of an answer that is JSON and follows its schema.

    A fence of three backticks around the whole answer is removed; nothing is repaired: a repaired list may lack what
    the model wrote. The messages of errors quote the schema and not the answer.

    Raises:
        AnswerTruncated, AnswerBlocked, AnswerEmpty: the server's verdict, whatever the text is.
        AnswerInvalid: no JSON, or not of the schema; the message says what is wrong, for a second attempt, too.
    """
    if answer.finish in VERDICTS:
        kind, message = VERDICTS[answer.finish]
        raise kind(f"{message} ({answer.detail})" if answer.detail else message, answer.text)
    if not answer.text.strip():
        raise AnswerEmpty(VERDICTS["empty"][1], answer.text)
    try:
        value = _parsed(answer.text)
        _check(value, schema)
    except (ValueError, RecursionError) as error:
        message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise AnswerInvalid(message[:MAX_ERROR_CHARACTERS], answer.text) from None
    return value


def _parsed(text: str) -> Any:
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise ValueError(f"longer than {MAX_ANSWER_CHARACTERS:,} characters")
    fenced = FENCED.fullmatch(text.strip())
    try:
        # Python reads NaN and Infinity; JSON and Postgres have neither.
        value = json.loads(fenced[1] if fenced else text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    _check_storable(value)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name}")


def _check_storable(value: Any) -> None:
    """Refuse what JSON can say and Postgres cannot store: NUL, halves of surrogate pairs, infinite numbers."""
    if isinstance(value, dict):
        for one in itertools.chain(value.keys(), value.values()):
            _check_storable(one)
    elif isinstance(value, list):
        for one in value:
            _check_storable(one)
    elif isinstance(value, str) and ("\x00" in value or re.search("[\ud800-\udfff]", value)):
        raise ValueError("a text with a NUL or an unpaired surrogate")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is too large")


def _check(value: Any, schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry

    # Without a registry of its own, jsonschema would fetch a `$ref` from wherever it points.
    errors = Draft202012Validator(schema, registry=Registry()).iter_errors(value)
    error = best_match(itertools.islice(errors, MAX_ERRORS))
    if error is None:
        return
    if error.validator == "required":  # its message quotes the schema alone
        raise ValueError(f"at {error.json_path}: {error.message}")
    rule = json.dumps(error.validator_value, ensure_ascii=False)
    raise ValueError(f"at {error.json_path}: does not follow {error.validator}: {rule}")


@dataclass(frozen=True, slots=True)
class LocatedEntities:
    """The entities of an answer that are in the text."""

    entities: tuple[Entity, ...]
    """By place; a name has an entry for each occurrence."""
    dropped: int
    """Names that do not occur: the model invented or changed them."""


def entities_of(value: Any, text: str) -> LocatedEntities:
    """Return where the entities of a valid answer are in the text, whole words only.

    A name may break over lines; letters must be the same. An answer without `entities` has none.

    Args:
        value: what `validated` returned, with a list of `{"label": …, "name": …}` under `entities`.
        text: what was asked about.
    """
    listed = value.get("entities") if isinstance(value, dict) else None
    pairs = dict.fromkeys(_pairs(listed if isinstance(listed, list) else ()))
    found: list[Entity] = []
    dropped = 0
    for label, name in pairs:
        places = list(_places(name, text))
        dropped += not places
        found += [Entity(label, begin, end, text[begin:end]) for begin, end in places]
    return LocatedEntities(tuple(sorted(found, key=lambda one: (one.char_from, one.char_to, one.label))), dropped)


def _pairs(listed: Any) -> list[tuple[str, str]]:
    pairs = [(one.get("label"), one.get("name")) for one in listed if isinstance(one, dict)]
    return [
        (label, " ".join(name.split())) for label, name in pairs if isinstance(label, str) and isinstance(name, str)
    ]


def _places(name: str, text: str) -> list[tuple[int, int]]:
    if not name.strip():
        return []
    pattern = r"\s+".join(re.escape(word) for word in name.split())
    return [match.span() for match in re.finditer(pattern, text) if _is_whole(match.span(), text)]


def _is_whole(span: tuple[int, int], text: str) -> bool:
    begin, end = span
    before = begin > 0 and _joins(text[begin - 1], text[begin])
    after = end < len(text) and _joins(text[end - 1], text[end])
    return not before and not after


def _joins(left: str, right: str) -> bool:
    """Whether two characters are within one word; scripts without upper case may have no spaces between words."""
    part_of_word: Callable[[str], bool] = lambda one: one.isdigit() or one.lower() != one.upper()  # noqa: E731
    return part_of_word(left) and part_of_word(right)
