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
    """Measured since the run began, of attempts that have ended."""
    embed_seconds: float = 0.0
    """The same."""
    finished_tokens: int = 0
    """Of files that are indexed."""

    def __add__(self, other: WorkState) -> WorkState:
        return WorkState(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def done(self, share: float) -> float:
        """Return the work that is done, in tokens, if parsing has this share in the time for a token."""
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


def parsing_share(now: WorkState, before: WorkState) -> float:
    """Return the share of parsing in the time for a token, as it was measured between two states."""
    parsed = now.parsed_tokens - before.parsed_tokens
    finished = now.finished_tokens - before.finished_tokens
    if parsed <= 0 or finished <= 0 or not now.embed_seconds:
        return PARSING_SHARE
    parse, embed = now.parse_seconds / parsed, now.embed_seconds / finished
    return parse / (parse + embed)


def remaining_seconds(now: WorkState, *, before: WorkState, elapsed_seconds: float) -> float | None:
    """Return how long the rest of the work will take at the pace so far; None before there is a pace.

    Args:
        now: the work on all batches.
        before: the same when this run began: what an earlier run has done sets no pace.
        elapsed_seconds: since then.
    """
    share = parsing_share(now, before)
    done = now.done(share) - before.done(share)
    return elapsed_seconds * max(0.0, now.total - now.done(share)) / done if done > 0 else None
