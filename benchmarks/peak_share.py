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
SECONDS, SIZE, ROWS, WORDS = 3.0, 2048, 4, 254


def product_gflops(precision: str) -> float:
    """Return the best rate of products of square matrices, by the same library: MKL is slow on AMD."""
    import numpy as np
    import openvino
    from openvino import opset13

    left, right = (opset13.parameter([SIZE, SIZE], np.float32) for _ in range(2))
    model = openvino.Model([opset13.matmul(left, right, False, False)], [left, right])
    hints = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
    matrices = {index: np.random.default_rng(index).random((SIZE, SIZE), dtype=np.float32) for index in range(2)}
    best, began = 0.0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        start = time.perf_counter()
        request.infer(matrices)
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
