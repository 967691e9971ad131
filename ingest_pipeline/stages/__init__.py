"""Where the rooms meet: one plain function for each asset, without Dagster. This module imports nothing.

`catalog.py` compares sources with the ledger and seals batches; `chunks.py` checks and parses a batch's
files; `embeddings.py` gives their chunks vectors and shows them to readers; `search.py` answers a question.
"""
