"""The same work with LlamaIndex: read a folder, split at 254 tokens of the model, embed; no database.

Run as `python llama_index_peer.py <model folder> <folder of texts>` in the environment that `speed.py` makes.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Embed the folder's texts and print how many vectors there are."""
    from llama_index.core import SimpleDirectoryReader
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from tokenizers import Tokenizer

    model_folder, folder = sys.argv[1:]
    tokenizer = Tokenizer.from_file(f"{model_folder}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    splitter = SentenceSplitter(
        chunk_size=254,
        chunk_overlap=0,
        include_metadata=False,
        tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
    )
    embedder = HuggingFaceEmbedding(model_folder, device="cpu", embed_batch_size=32)
    documents = SimpleDirectoryReader(folder).load_data()
    for document in documents:  # paths and dates would be embedded with the text
        document.metadata = {}
    print(len(IngestionPipeline(transformations=[splitter, embedder]).run(documents=documents)))


if __name__ == "__main__":
    main()
