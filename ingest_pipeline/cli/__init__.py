"""The `ingest` command. This module imports nothing.

`main.py` parses the command line and handles errors. The commands are in `working.py` (run, add, ui), `looking.py`
(status, files, plan, memory), `answers.py` (search, embed, models, extract) and `database.py` (db); `command.py` adds
one to the parser. `run.py` composes `ingest run`, `progress.py` shows its progress; `tables.py` prints for people (with
`table.py` and `text.py`), `rows.py` for programs; `memory_plot.py` makes an SVG plot.
"""
