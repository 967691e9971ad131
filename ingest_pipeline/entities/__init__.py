"""Named entities of stored chunks, found by a spaCy model in child processes. This module imports nothing.

`model.py` finds the model without importing spaCy; `pool.py` gives batches of texts to workers, and goes on when one
ends; `parent.py` is the parent's side of a worker, `worker.py` its process; `language.py` tells whether a text is in
the model's language.
"""
