"""Where packages meet: one plain function for each asset, without Dagster. This module imports nothing.

`run.py` is what a run holds; `scan.py` compares sources with the ledger, `sealing.py` seals batches; `chunks.py` checks
and parses a batch's files; `embeddings.py` gives their chunks vectors and publishes them; `entities.py`
finds their named entities; `index.py` keeps the vector
index in order; `search.py` answers a query; `preview.py` plans without writing; `uploads.py` adds files to a source;
`costs.py` fits predictions; `account.py` sums up a run; `failures.py` and `remedies.py` say what failed and what to do,
`reset.py` tries again, `cleanup.py` repairs, `forget.py` erases; `fingerprint.py`, `gaps.py` and `access.py` are what
these share. `backup.py` and `restore.py` copy the store into a file and back, `documents.py` the documents.
"""
