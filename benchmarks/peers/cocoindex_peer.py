"""The same work with CocoIndex: read a folder, split at 1,000 bytes (about 254 tokens), embed; no database.

Run as `python cocoindex_peer.py <model folder> <folder of texts>` in the environment that `speed.py` makes. CocoIndex
keeps its state in a file beside the vectors.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import cocoindex as coco
from cocoindex.connectors import localfs
from cocoindex.ops.sentence_transformers import SentenceTransformerEmbedder
from cocoindex.ops.text import RecursiveSplitter

MODEL_FOLDER, FOLDER = sys.argv[1:]
EMBEDDER, SPLITTER = SentenceTransformerEmbedder(MODEL_FOLDER, device="cpu"), RecursiveSplitter()


@coco.fn
async def process_file(file: localfs.File, output: Path) -> None:
    """Write the vectors of one file."""
    chunks = SPLITTER.split(await file.read_text(), 1000, chunk_overlap=0)
    vectors = await asyncio.gather(*(EMBEDDER.embed(chunk.text) for chunk in chunks))
    content = b"".join(vector.tobytes() for vector in vectors)
    localfs.declare_file(output / f"{file.file_path.path.name}.vectors", content, create_parent_dirs=True)


@coco.fn
async def process_folder(folder: Path, output: Path) -> None:
    """Process each file of a folder."""
    await coco.mount_each(process_file, localfs.walk_dir(folder).items(), output)


def main() -> None:
    """Embed the folder's texts and print how many vectors there are."""
    with tempfile.TemporaryDirectory() as state:
        output = Path(state) / "vectors"
        environment = coco.Environment(coco.Settings(db_path=Path(state) / "coco.db"))
        config = coco.AppConfig(name="speed", environment=environment)
        coco.App(config, process_folder, folder=Path(FOLDER), output=output).update_blocking()
        dimension_bytes = 384 * 4
        print(sum(path.stat().st_size for path in output.iterdir()) // dimension_bytes)


if __name__ == "__main__":
    main()
