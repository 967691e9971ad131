"""Texts become unit-norm vectors. This module imports nothing.

`base.py` is what an embedder does, `torch.py` and `openvino.py` do it, `load.py` chooses; `model.py` says which model
and its shape, `batching.py` how many texts go through it together, `export.py` converts it for OpenVINO.
"""
