"""The recipe: everything but a file's bytes that decides what its chunks and vectors are."""

from __future__ import annotations

import hashlib

from ingest_pipeline import chunking
from ingest_pipeline.models import ModelCard

PARSER_VERSION = 1
"""Raise it when a parser would give other text for the same bytes: every file is then parsed anew."""


def recipe_of(card: ModelCard) -> str:
    """Return a short name for parser, chunker and model together; files indexed under another are outdated."""
    facts = (PARSER_VERSION, chunking.VERSION, card.identity, card.max_tokens)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def generation_recipe(recipe: str, media_type: str) -> str:
    """Return the recipe of one generation: the same bytes read as Markdown and as text give other pages."""
    return f"{recipe}:{media_type}"
