"""Pure arithmetic: `predict.py` says what a file will cost, `plan.py` packs files into batches. Imports nothing."""
