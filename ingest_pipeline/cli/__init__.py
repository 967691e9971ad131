"""The `ingest` command. This module imports nothing.

`main.py` parses the command line and dispatches; `run.py` is `ingest run` and `progress.py` its progress; `tables.py`
prints for people (with `text.py`), `rows.py` for programs; `memory_plot.py` makes an SVG plot.
"""
