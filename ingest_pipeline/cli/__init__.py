"""The `ingest` command: `main.py` parses and dispatches, `run.py` is `ingest run`, `tables.py` prints for people,
`rows.py` for programs, `memory_plot.py` draws. This module imports nothing.
"""
