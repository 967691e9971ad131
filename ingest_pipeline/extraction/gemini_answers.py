"""What Gemini's answer says: a text, or a verdict."""

from __future__ import annotations

from typing import Any

from ingest_pipeline.extraction.base import Answer

FINISHED = ("STOP", "FINISH_REASON_UNSPECIFIED", "")
TRUNCATED = "MAX_TOKENS"


def answer_of(response: Any) -> Answer:
    """Return the answer in a response of google-genai; verdicts raise nothing there.

    What the model thought is paid for and counted, and is no part of the text.
    """
    usage = response.usage_metadata
    tokens = (
        _count(usage, "prompt_token_count"),
        _count(usage, "candidates_token_count") + _count(usage, "thoughts_token_count"),
    )
    if not response.candidates:
        reason = _word(getattr(response.prompt_feedback, "block_reason", None))
        return Answer("", "blocked" if reason else "empty", *tokens, detail=reason)
    candidate = response.candidates[0]
    text, finish = _text(candidate), _word(candidate.finish_reason)
    if finish == TRUNCATED:
        return Answer(text, "truncated", *tokens, detail=finish)
    if finish not in FINISHED:  # SAFETY, RECITATION, PROHIBITED_CONTENT and reasons to come
        return Answer(text, "blocked", *tokens, detail=finish)
    return Answer(text, "stop" if text.strip() else "empty", *tokens, detail=finish)


def _text(candidate: Any) -> str:
    parts = (candidate.content.parts or []) if candidate.content else []
    return "".join(part.text for part in parts if part.text and not part.thought)


def _count(usage: Any, name: str) -> int:
    return int(getattr(usage, name, None) or 0)


def _word(reason: Any) -> str:
    return str(getattr(reason, "value", reason) or "")
