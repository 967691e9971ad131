"""What a script around sentence-transformers does: encode all chunks at once, 32 to a batch; no splitting, no database.

Run as `python bare.py <model folder> <chunks.json>` in the environment that `speed.py` makes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Embed the chunks and print how many vectors there are."""
    from sentence_transformers import SentenceTransformer

    model_folder, chunks = sys.argv[1:]
    texts = json.loads(Path(chunks).read_text())
    model = SentenceTransformer(model_folder, device="cpu", local_files_only=True)
    print(len(model.encode(texts, batch_size=32, normalize_embeddings=True)))


if __name__ == "__main__":
    main()
