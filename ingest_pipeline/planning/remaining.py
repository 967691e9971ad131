"""Estimates how much of the work on some batches is done. Pure.

The work on a file is the tokens of its text: each is parsed and embedded. What is not parsed yet has its predicted
seconds instead, at the tokens per predicted second of what is parsed. Files and bytes say little: a large file is one
file until its end, and a megabyte of pictures has no text.
"""

from __future__ import annotations

from dataclasses import dataclass

PARSING_SHARE = 0.1
"""Of the time for a token, before any was measured: parsing, splitting and storing it."""
TOKENS_PER_SECOND = 4000.0
"""Tokens for each predicted second, before any file is parsed: the shipped rate of plain text."""


@dataclass(frozen=True, slots=True)
class WorkState:
    """What the ledger knows of the work on some batches."""

    parsed_tokens: int = 0
    """Of files whose text is stored."""
    embedded_tokens: int = 0
    """Of these, with vectors."""
    parsed_predicted_seconds: float = 0.0
    """Of files whose text is stored."""
    waiting_predicted_seconds: float = 0.0
    """Of files whose text is not stored yet."""
    parse_seconds: float = 0.0
    """Measured, for all parsed tokens."""
    embed_seconds: float = 0.0
    """Measured, for the tokens of finished files."""
    finished_tokens: int = 0

    def __add__(self, other: WorkState) -> WorkState:
        return WorkState(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def parsing_share(self) -> float:
        """Share of parsing in the time for a token."""
        if not self.finished_tokens or not self.embed_seconds:
            return PARSING_SHARE
        parse = self.parse_seconds / max(1, self.parsed_tokens)
        return parse / (parse + self.embed_seconds / self.finished_tokens)

    @property
    def done(self) -> float:
        """Work that is done, in tokens."""
        share = self.parsing_share
        return share * self.parsed_tokens + (1 - share) * self.embedded_tokens

    @property
    def total(self) -> float:
        """All work, in tokens."""
        return self.parsed_tokens + self._tokens_per_second * self.waiting_predicted_seconds

    @property
    def _tokens_per_second(self) -> float:
        if not self.parsed_tokens or not self.parsed_predicted_seconds:
            return TOKENS_PER_SECOND
        return self.parsed_tokens / self.parsed_predicted_seconds


def remaining_seconds(now: WorkState, *, done_before: float, elapsed_seconds: float) -> float | None:
    """Return how long the rest of the work will take at the pace so far; None before there is a pace.

    Args:
        now: the work on all batches.
        done_before: tokens of work that were done when this run began.
        elapsed_seconds: since then.
    """
    done = now.done - done_before
    return elapsed_seconds * max(0.0, now.total - now.done) / done if done > 0 else None
