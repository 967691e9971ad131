"""Embedding: texts become unit-norm vectors. This module imports nothing.

`base.py` is the interface of an embedder, `torch.py` and `openvino.py` implement it, `choice.py` selects one, `load.py`
loads it; `model.py` finds the model and its shape, `batching.py` makes micro-batches, `precision.py` knows what the
processor can compute, `export.py` converts a model for OpenVINO.
"""
