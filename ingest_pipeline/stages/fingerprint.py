"""The fingerprint: everything but a file's bytes that decides what its chunks and vectors are."""

from __future__ import annotations

import hashlib

from ingest_pipeline import chunking
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

PARSER_VERSION = 3
"""Raise it when a parser would give other text for the same bytes: every file is then parsed anew."""


def fingerprint_of(card: ModelCard, settings: Settings) -> str:
    """Return a short name for parser, chunker, model and the settings that change texts; others are outdated."""
    facts = (
        PARSER_VERSION, chunking.VERSION, card.identity, card.max_tokens, settings.record_text, settings.record_id,
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def generation_fingerprint(fingerprint: str, media_type: str) -> str:
    """Return the fingerprint of one generation: the same bytes read as Markdown and as text give other pages."""
    return f"{fingerprint}:{media_type}"


def locked_fingerprint(fingerprint: str, settings: Settings) -> str:
    """Return under what a file that no password opens is refused: under other passwords it is outdated.

    The ledger keeps this, so it tells as little of the passwords as scrypt can.
    """
    if not settings.pdf_passwords:
        return f"{fingerprint}+none"
    secret = "\n".join(sorted(settings.pdf_passwords)).encode()
    return f"{fingerprint}+{hashlib.scrypt(secret, salt=fingerprint.encode(), n=2**14, r=8, p=1, dklen=8).hex()}"
