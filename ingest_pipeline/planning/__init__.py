"""Pure functions: `predict.py` predicts the cost of a file, `plan.py` packs files into batches,
`remaining.py` estimates how long the rest takes. Imports nothing."""
