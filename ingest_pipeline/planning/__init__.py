"""Pure functions. This module imports nothing.

`predict.py` predicts the cost of a file, `plan.py` packs files into batches, `remaining.py` estimates how long the rest
of the work takes.
"""
