"""`POST /v1/embeddings`: OpenAI's own client gets the vectors of the store, and of new texts from the same model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from ingest_pipeline.embedding.model import PACKAGED
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.query_models import QueryModels
from ingest_pipeline.store import vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.embedding_server import EmbeddingServer
from ingest_pipeline_tests.running_service import running_service
from ingest_pipeline_tests.serving import BEARER, TOKEN
from ingest_pipeline_tests.test_server_embeddings import Stages

FAST = {"model": PACKAGED}


@pytest.fixture(scope="module")
def packaged(server: Any, template: str, models: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the packaged model, and a store that knows nothing."""
    from ingest_pipeline_tests.conftest import fresh_database, share_models

    folder = tmp_path_factory.mktemp("embeddings")
    with fresh_database(server, template) as url:
        home = share_models(folder / "home", models)
        settings = replace(Settings(), sources=(str(folder),), home=home, database_url=url)
        with running_service(settings) as service:
            yield service


def ask(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/embeddings", json=FAST | body, headers=BEARER, timeout=60)


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0)


def error_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


def test_stored_vectors(
    connection: Connection, settings: Settings, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored chunk's text has exactly the vector of the store, and the model is not asked; a new text has its own."""
    (source / "a.txt").write_text("Bread is baked from flour, water and salt.")
    ample = replace(settings, run_memory=8 * 2**30, machine_memory=16 * 2**30)
    Stages(connection, ample).ingest()
    [(text, digest, model)] = connection.execute("SELECT text, c.text_hash, model_id FROM chunks c, models").fetchall()
    stored = vectors.known_vector(connection, model, digest)
    asked: list[str] = []
    passages = QueryModels.passages
    monkeypatch.setattr(QueryModels, "passages", lambda self, texts: asked.extend(texts) or passages(self, texts))
    with running_service(ample) as url:
        client = client_of(url)
        answer = client.embeddings.create(model=PACKAGED, input=[text, "something else", text])
        plain = client.embeddings.create(model=PACKAGED, input=text, encoding_format="float")
    assert asked == ["something else"]
    assert plain.data[0].embedding == stored == answer.data[0].embedding == answer.data[2].embedding
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert np.linalg.norm(answer.data[1].embedding) == pytest.approx(1, abs=1e-3)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 10


def test_equal_to_the_pipeline(packaged: str) -> None:
    """Text by text or together, as numbers or base64: the vectors are the same, and of unit norm."""
    texts = [f"sentence number {number} about ovens" for number in range(20)]
    client = client_of(packaged)
    together = client.embeddings.create(model=PACKAGED, input=texts, dimensions=384)
    numbers = client.embeddings.create(model=PACKAGED, input=texts, encoding_format="float")
    one = client.embeddings.create(model=PACKAGED, input=texts[7])
    rows = np.array([row.embedding for row in together.data])
    assert rows.shape == (20, 384) and together.model == PACKAGED
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert np.array_equal(rows.astype(np.float32), np.array([row.embedding for row in numbers.data], dtype=np.float32))
    assert float(np.dot(rows[7], one.data[0].embedding)) > 0.999


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "input"),
        ({"input": ""}, "not empty"),
        ({"input": []}, "1 to 512"),
        ({"input": ["a"] * 513}, "1 to 512"),
        ({"input": [1, 2, 3]}, "tokens"),
        ({"input": [[1, 2], [3]]}, "tokens"),
        ({"input": [None]}, "not empty"),
        ({"input": {"a": 1}}, "input"),
        ({"input": "x" * 40_001}, "40,000"),
        ({"input": ["x" * 30_000] * 14}, "400,000"),
        ({"input": "a b " * 300}, "600 tokens"),
        ({"input": "a", "encoding_format": "hex"}, "float or base64"),
        ({"input": "a", "dimensions": 128}, "384"),
        ({"input": "a", "dimensions": True}, "dimensions"),
        ({"input": "a", "model": None}, "model"),
    ],
)
def test_bad_input(packaged: str, body: dict[str, Any], word: str) -> None:
    """What cannot be embedded is refused in OpenAI's form, with a word about what to send."""
    answer = ask(packaged, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert word in error_of(answer)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"input": "\\ud800"}', b"[" * 100_000, b'{"input": NaN}']
)
def test_bad_body(packaged: str, content: bytes) -> None:
    """A body that is no JSON object is refused, however it is wrong."""
    answer = httpx.post(f"{packaged}/v1/embeddings", content=content, headers=BEARER)
    assert answer.status_code == 400 and "body" in error_of(answer)


def test_large_body(packaged: str) -> None:
    """A body of over 1 MiB is refused, whether it says so before or not."""
    content = b'{"input": "' + b"x" * 2_000_000
    for body in (content, iter([content])):
        answer = httpx.post(f"{packaged}/v1/embeddings", content=body, headers=BEARER)
        assert answer.status_code == 413


def test_other_model(packaged: str) -> None:
    """Another model is not there, as OpenAI's client says it."""
    with pytest.raises(openai.NotFoundError, match="only all-MiniLM"):
        client_of(packaged).embeddings.create(model="text-embedding-3-small", input="a")


def test_hostile_texts(packaged: str) -> None:
    """Control characters, NUL, right-to-left marks and emoji are texts as others."""
    texts = ["a\x00b", "\u202eabc\u202c", "😀" * 50, "\n", "ﷺ" * 20]
    answer = ask(packaged, input=texts)
    assert answer.status_code == 200 and len(answer.json()["data"]) == 5


def test_weights_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries and passages use the same loaded weights, each with its own prefix."""
    from ingest_pipeline.stages import query_models

    class Weights:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def embed(self, texts: list[str]) -> np.ndarray:
            self.asked += texts
            return np.ones((len(texts), 384), dtype=np.float32)

    from ingest_pipeline.embedding import load

    loaded: list[Weights] = []
    monkeypatch.setattr(load, "_loaded", lambda *names: loaded.append(Weights()) or loaded[-1])
    prefixed = replace(settings, query_prefix="query:", passage_prefix="passage:")
    both = query_models.QueryModels(prefixed)
    both.vector("where")
    assert len(list(both.passages(["here"] * 9))) == 9
    both.vector("where")
    [weights] = loaded
    assert weights.asked == ["query: where", *["passage: here"] * 9, "query: where"]


def test_server_of_embeddings(connection: Connection, settings: Settings) -> None:
    """With a model on a server the same endpoint asks that server; a text that it refuses is the client's fault."""
    api = EmbeddingServer().start()
    remote = replace(settings, embedder="openai", embedder_url=api.url, model="hashed-words")
    try:
        with running_service(remote) as url:
            answer = ask(url, model="hashed-words", input=["some words", "BAD words"][:1])
            assert answer.status_code == 200 and len(answer.json()["data"][0]["embedding"]) == 32
            api.rejects = "BAD"
            refused = ask(url, model="hashed-words", input="BAD words")
            assert refused.status_code == 400
    finally:
        api.shutdown()
        api.server_close()
