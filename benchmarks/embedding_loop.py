"""Embeds the chunks in a file with our own embedder and nothing around it, on all cores: the bound of a pipeline.

Run as `python embedding_loop.py <chunks.json>` by `speed.py`, which measures it as a whole command.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ingest_pipeline.embedding.batching import micro_batches
from ingest_pipeline.embedding.choice import budget_of, card_of
from ingest_pipeline.embedding.load import load_embedder
from ingest_pipeline.models import StoredChunk
from ingest_pipeline.settings import Settings

WINDOW = 256


def main() -> None:
    """Embed the chunks and print how many vectors there are."""
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    settings = Settings(home=Path(__file__).resolve().parents[1] / ".bench" / "home")
    embedder = load_embedder(settings, card_of(settings))
    most, vectors = budget_of(settings).footprint.max_batch_tokens, 0
    texts = json.loads(Path(sys.argv[1]).read_text())  # each with its number of tokens, as the store knows it
    for start in range(0, len(texts), WINDOW):
        window = texts[start : start + WINDOW]
        chunks = [StoredChunk(1, number, text, b"", tokens) for number, (text, tokens) in enumerate(window)]
        for group in micro_batches(chunks, max_batch_tokens=most):
            vectors += len(embedder.embed([chunk.text for chunk in group]))
    print(vectors)


if __name__ == "__main__":
    main()
