"""Compares the model's arithmetic with what one core can do in large matrix products, in one precision.

Run as `OMP_NUM_THREADS=1 python peak_share.py <f32|bf16>` by `speed.py`. all-MiniLM-L6-v2 takes 21.2 MFLOP a token in
linear layers and 1.8 in attention at 200 tokens.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.embedding.load import load_embedder
from ingest_pipeline.settings import Settings

FLOP_PER_TOKEN = 23.0e6
SECONDS, SIZE, ROWS, WORDS = 3.0, 1024, 4, 254


def product_gflops(precision: str) -> float:
    """Return the best rate of products of square matrices."""
    import torch

    torch.set_num_threads(1)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.rand(SIZE, SIZE).to(kind), torch.rand(SIZE, SIZE).to(kind)
    best, began = 0.0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        start = time.perf_counter()
        left @ right
        best = max(best, 2 * SIZE**3 / (time.perf_counter() - start) / 1e9)
    return best


def model_gflops(precision: str) -> float:
    """Return the rate of the model on full micro-batches, tokenizing and pooling included."""
    settings = Settings(home=Path(__file__).resolve().parents[1] / ".bench" / "home", precision=precision)
    embedder = load_embedder(settings, card_of(settings))
    texts, done, began = ["word " * WORDS] * ROWS, 0, time.monotonic()
    embedder.embed(texts)
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        embedder.embed(texts)
        done += ROWS * (WORDS + 2)
    return done * FLOP_PER_TOKEN / (time.monotonic() - began) / 1e9


def main() -> None:
    """Print both rates and their ratio as JSON."""
    product, model = product_gflops(sys.argv[1]), model_gflops(sys.argv[1])
    print(
        json.dumps({"product_gflops": round(product), "model_gflops": round(model), "share": round(model / product, 2)})
    )


if __name__ == "__main__":
    main()
