"""Embedding: texts become unit-norm vectors. This module imports nothing.

`base.py` is the interface of an embedder, `torch.py` and `openvino.py` implement it, `load.py` selects one; `model.py`
finds the model and its shape, `batching.py` makes micro-batches, `export.py` converts a model for OpenVINO.
"""
