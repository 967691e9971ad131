"""Asks about one section: once, and once more if the answer is not of the schema."""

from __future__ import annotations

import logging
from typing import Any

from ingest_pipeline.errors import AnswerInvalid, CallError
from ingest_pipeline.extraction.answers import validated
from ingest_pipeline.extraction.base import Extractor, Question, Remote, Usage

logger = logging.getLogger(__name__)
REPAIR = (
    "This answer cannot be used: {error}. Answer the same question again: only JSON that follows the schema, "
    "with nothing before or after it."
)
"""The second question, after the first one and its answer."""


def answered(extractor: Extractor, question: Question, remote: Remote | None, usage: Usage) -> Any:
    """Return the value of the answer to a question.

    An answer that is not of the schema is answered once more, given the error. Verdicts (truncated, blocked, empty) are
    not: the same question would end the same.

    Args:
        extractor: asks the server.
        question: what is asked.
        remote: the document, as `Extractor.uploaded` yields it.
        usage: counts every answer, also when this function raises.

    Raises:
        ExtractError: there is no answer that can be used; `raw` is the last one.
        InputRejected, CallFailed: the server refuses this question, or failed with it.
        ServiceUnavailable: the server fails with every question.
    """
    answer = extractor.ask(question, remote)
    usage.add(answer)
    try:
        return validated(answer, question.schema)
    except AnswerInvalid as error:
        first = error
    logger.info("answer %s: not of the schema, asking once more", question.remote_name or question.display_name)
    try:
        again = extractor.ask_again(question, remote, answer=answer, error=str(first))
    except CallError as error:
        # The first answer is what is known of this section: often the second question is too long for the model.
        raise AnswerInvalid(f"{first}; asking again failed: {error}", answer.text) from None
    usage.add(again)
    return validated(again, question.schema)
