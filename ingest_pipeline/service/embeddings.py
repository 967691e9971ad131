"""Vectors on request, in OpenAI's protocol: of a chunk's text as the store has it, of other texts computed now."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest_pipeline.engines import LOCAL
from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import ModelCard
from ingest_pipeline.service.body import json_of
from ingest_pipeline.service.refused import BAD_REQUEST, BROKEN, CLIENT_GONE, Refused, refusal_headers, refusal_of
from ingest_pipeline.service.slots import Slots
from ingest_pipeline.service.state import Service, service_of
from ingest_pipeline.stages.on_demand import known_vectors

if TYPE_CHECKING:
    import numpy as np

BODY_BYTES = 1024**2
MOST_TEXTS = 512
MOST_CHARACTERS = 40_000
"""Of one text: 8,191 tokens of English, the most that a model takes."""
MOST_CHARACTERS_TOGETHER = 400_000
NO_MODEL = 404
AT_ONCE, QUEUE, PATIENCE_SECONDS = 2, 16, 20.0
"""One computes while the other reads the store; clients ask for several at once and expect to wait a little."""


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [Route("/v1/embeddings", Embeddings().embed, methods=["POST"])]


@dataclass(frozen=True, slots=True)
class Texts:
    """What is to be embedded, and how the vectors are written."""

    texts: list[str]
    as_base64: bool
    model: str
    dimensions: int | None


class Embeddings:
    """The endpoint, and how many requests compute at once."""

    def __init__(self) -> None:
        self._slots = Slots(AT_ONCE, "requests for vectors", queue=QUEUE, patience_seconds=PATIENCE_SECONDS)
        self._threads = CapacityLimiter(AT_ONCE)

    async def embed(self, request: Request) -> Response:
        """Answer with a vector for each text, in their order; errors have OpenAI's form."""
        try:
            wanted = texts_of(await json_of(request, most_bytes=BODY_BYTES))
            async with self._slots.slot():
                compute = partial(answer_of, service_of(request), wanted)
                content = await to_thread.run_sync(compute, limiter=self._threads)
                return Response(content, media_type="application/json")
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except IngestError as error:
            refused = refusal_of(error)
            return JSONResponse(error_row(refused), refused.status, refusal_headers(refused))


def texts_of(body: dict[str, Any]) -> Texts:
    """Return what a request asks for.

    Raises:
        Refused: it cannot be used.
    """
    texts, form, dimensions = body.get("input"), body.get("encoding_format", "float"), body.get("dimensions")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or len(texts) > MOST_TEXTS:
        raise _bad(f"input: a text, or a list of 1 to {MOST_TEXTS} texts")
    if any(isinstance(text, int | list) for text in texts):
        raise _bad("input: texts; tokens cannot be read, they are another model's (check_embedding_ctx_length=False)")
    if not all(isinstance(text, str) and text for text in texts):
        raise _bad("input: texts that are not empty")
    if max(map(len, texts)) > MOST_CHARACTERS or sum(map(len, texts)) > MOST_CHARACTERS_TOGETHER:
        most = f"{MOST_CHARACTERS:,} characters a text, {MOST_CHARACTERS_TOGETHER:,} together"
        raise _bad(f"input: at most {most}; send the texts in several requests")
    if form not in ("float", "base64"):
        raise _bad("encoding_format: float or base64")
    if not isinstance(body.get("model"), str):
        raise _bad("model: the name of the model, as `ingest models` shows it")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
        raise _bad("dimensions: a whole number")
    return Texts(texts, form == "base64", body["model"], dimensions)


def answer_of(service: Service, wanted: Texts) -> bytes:
    """Return the answer as JSON; each vector is written by itself, for as lists of numbers they take ten times as much.

    Raises:
        Refused: the model is another one, or a text is too long for it.
        IngestError: the model or the store cannot be used.
    """
    card = service.models.card
    _refuse_other_model(wanted, card, service.settings.model)
    tokens = _tokens(service, wanted.texts, card)
    with service.pool.connection() as connection:  # given back before the model computes
        vectors: dict[str, Sequence[float] | np.ndarray] = dict(known_vectors(connection, wanted.texts, card))
    unknown = list(dict.fromkeys(text for text in wanted.texts if text not in vectors))
    vectors |= zip(unknown, service.models.passages(unknown), strict=True)
    rows = (_row(index, vectors[text], wanted.as_base64) for index, text in enumerate(wanted.texts))
    more = {"object": "list", "model": card.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return b"".join((json.dumps(more)[:-1].encode(), b', "data": [', b", ".join(rows), b"]}"))


def error_row(refused: Refused) -> dict[str, Any]:
    """Return a refusal as OpenAI's clients expect it."""
    kind = "server_error" if refused.status >= BROKEN else "invalid_request_error"
    return {"error": {"message": str(refused), "type": kind, "param": None, "code": refused.error}}


def _refuse_other_model(wanted: Texts, card: ModelCard, name: str) -> None:
    if wanted.model not in (card.name, name):
        raise Refused(NO_MODEL, f"model: only {card.name} is here", error="model_not_found")
    if wanted.dimensions not in (None, card.dimension):
        raise _bad(f"dimensions: the vectors of {card.name} have {card.dimension}")


def _tokens(service: Service, texts: Sequence[str], card: ModelCard) -> int:
    """Return the tokens of all texts; estimated where a server has the model."""
    counts = [service.models.count_tokens(text) for text in texts]
    if service.settings.embedder == LOCAL and max(counts) > card.max_tokens:
        index = counts.index(max(counts))
        why = f"input: text {index} has {counts[index]:,} tokens, {card.name} takes {card.max_tokens}"
        raise Refused(BAD_REQUEST, f"{why}; send it in parts", error="context_length_exceeded")
    return sum(counts)


def _row(index: int, vector: Sequence[float] | np.ndarray, as_base64: bool) -> bytes:
    import numpy as np

    numbers = np.asarray(vector, dtype="<f4")
    written = base64.b64encode(numbers.tobytes()).decode() if as_base64 else numbers.astype(float).tolist()
    return json.dumps({"object": "embedding", "index": index, "embedding": written}).encode()


def _bad(message: str) -> Refused:
    return Refused(BAD_REQUEST, message, error="invalid_value")
