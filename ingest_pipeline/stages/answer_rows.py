"""Answers for programs: the same JSON from the command, the service and the tools of agents. Names, order and types
are a contract; new keys go to the end.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ingest_pipeline.search_models import Coverage, SearchAnswer, SearchHit


def hit_row(hit: SearchHit) -> dict[str, Any]:
    """Return one hit."""
    begin, end = hit.snippet
    row: dict[str, Any] = {"score": round(hit.score, 6), "source": hit.source, "path": hit.path}
    row |= {"pages": [hit.page_from, hit.page_to], "text": hit.text}
    row |= {"page_label": hit.page_label, "section": hit.section, "heading": hit.heading}
    return row | {
        "file_id": hit.file_id,
        "ordinal": hit.ordinal,
        "characters": [hit.char_from, hit.char_to],
        "media_type": hit.media_type,
        "title": hit.title,
        "vector_score": _rounded(hit.vector_score),
        "lexical_score": _rounded(hit.lexical_score),
        "marks": [list(mark) for mark in hit.marks],
        "snippet": hit.text[begin:end],
        "places": hit.places,
        "also_at": [
            {"source": place.source, "path": place.path, "pages": [place.page_from, place.page_to]}
            for place in hit.also_at
        ],
        "before": list(hit.before),
        "after": list(hit.after),
    }


def coverage_row(coverage: Coverage) -> dict[str, Any]:
    """Return what an answer covers."""
    row = asdict(coverage)
    seconds = row.pop("seconds")
    return row | {
        "failed_names": list(coverage.failed_names),
        "sentence": coverage.sentence,
        "seconds": round(seconds, 4),
    }


def coverage_keys(answer: SearchAnswer) -> dict[str, Any]:
    """Return what was searched, and what could not be."""
    return {"coverage": coverage_row(answer.coverage), "models": list(answer.models), "notes": list(answer.notes)}


def answer_row(answer: SearchAnswer) -> dict[str, Any]:
    """Return a whole answer."""
    return {"hits": [hit_row(hit) for hit in answer.hits]} | coverage_keys(answer)


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)
