"""Pure functions: `predict.py` predicts the cost of a file, `plan.py` packs files into batches. Imports nothing."""
