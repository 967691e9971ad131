"""The error tree is the one that the docstring draws, and reasons find their types again."""

from __future__ import annotations

import re

import pytest

from ingest_pipeline import errors
from ingest_pipeline.errors import (
    BadSetting,
    IngestError,
    ModelMismatch,
    PermanentError,
    RunError,
    TransientFileError,
    error_named,
)

ENTRY = re.compile(r"^([│ ├└─]*)([A-Z]\w+)")


def drawn_tree() -> dict[str, str | None]:
    """Return each error type's name with the name of its parent, as `errors.py` draws them."""
    tree: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = ENTRY.match(line)
        if not match or (match[2] != "IngestError" and not match[1]):
            continue
        depth = len(match[1]) // 4
        path = [*path[:depth], match[2]]
        tree[match[2]] = path[-2] if depth else None
    return tree


def real_tree() -> dict[str, str | None]:
    """Return each error type's name with the name of its parent, as Python knows them."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, IngestError)]
    return {kind.__name__: None if kind is IngestError else next(iter(kind.__bases__)).__name__ for kind in kinds}


ALL = sorted(real_tree())


def test_the_drawn_tree_is_the_real_tree() -> None:
    """Every drawn type exists below the parent that is drawn, and every type is drawn."""
    assert drawn_tree() == real_tree()
    assert len(drawn_tree()) >= 20


@pytest.mark.parametrize("name", ALL)
def test_a_reason_leads_back_to_its_type(name: str) -> None:
    """The ledger keeps an error's name as the reason; the type is found again from it."""
    kind = error_named(name)
    assert kind is getattr(errors, name)
    assert kind.__new__(kind).reason == name


@pytest.mark.parametrize("name", ALL)
def test_retryable_is_outside_the_file(name: str) -> None:
    """A permanent error is never retried; one of a run, or a transient one of a file, may be."""
    kind = error_named(name)
    assert kind.retryable is issubclass(kind, RunError | TransientFileError)


def test_permanent_is_never_transient() -> None:
    """A file is failed for good, or it is not: no type is both."""
    both = [name for name in ALL if issubclass(error_named(name), PermanentError) and error_named(name).retryable]
    assert both == []


@pytest.mark.parametrize("name", ["", "ValueError", "NoSuchError", "ingesterror", "Exception"])
def test_unknown_names_are_key_errors(name: str) -> None:
    """A child cannot name a type that is not in the tree."""
    with pytest.raises(KeyError):
        error_named(name)


def test_every_type_says_what_it_means() -> None:
    """Each type has a docstring of one line: what a reader of the reason finds."""
    for name in ALL:
        first = (error_named(name).__doc__ or "").splitlines()
        assert first, name
        assert first[0].endswith("."), name


def test_a_bad_setting_has_attributes() -> None:
    """The message of a bad setting is for people, its attributes for code."""
    error = BadSetting("INGEST_MAX_PAGES", "many", "a whole number above 0")
    assert (error.variable, error.value, error.expected) == (
        "INGEST_MAX_PAGES",
        "many",
        "a whole number above 0",
    )
    assert str(error) == "INGEST_MAX_PAGES='many': expected a whole number above 0"


def test_a_mismatch_names_both_sums() -> None:
    """A model mismatch names the model and both sums: enough to see which copy is wrong, short enough for a line."""
    error = ModelMismatch("some-model", "a" * 64, "b" * 64)
    assert (error.model, error.found, error.expected) == ("some-model", "a" * 64, "b" * 64)
    assert "some-model" in str(error)
    assert "aaaaaaaaaaaa…" in str(error)
    assert "bbbbbbbbbbbb…" in str(error)
    assert "\n" not in str(error)
