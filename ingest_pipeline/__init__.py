"""The map of the house. Anyone can name the file of any line from this list.

| room             | what it does                                                            |
|------------------|-------------------------------------------------------------------------|
| `models.py`      | the nouns: frozen dataclasses that the rooms pass to each other         |
| `errors.py`      | the error tree, drawn in its docstring                                  |
| `settings.py`    | the `INGEST_*` environment, read once and checked                       |
| `sizes.py`       | bytes and the text that people write for them                           |
| `sources/`       | a source URL -> its files; a file -> a stream of bytes; uploads         |
| `planning.py`    | predicted costs + a budget -> batches; pure arithmetic                  |
| `predicting.py`  | what files did cost -> what a file will cost; pure arithmetic           |
| `memory/`        | limits and peaks of memory, a run's budget, the watch over its processes |
| `parsing/`       | bytes -> pages, one module per family of formats; the sandbox they run in |
| `chunking.py`    | pages -> chunks                                                         |
| `embedding/`     | texts -> vectors: the model, micro-batches, two engines                 |
| `store/`         | the only room that speaks SQL: server, schema, ledger, vectors, search  |
| `memory_plot.py` | predicted against measured, as a picture                                |
| `stages/`        | where the rooms meet: one plain function for each asset, without Dagster |
| `defs/`          | the only room that knows Dagster: assets, checks, automation, launcher  |
| `definitions.py` | composition: builds the `dg.Definitions`                                |
| `cli.py`         | the `ingest` command: thin                                               |
| `console.py`     | what the command shows: progress, tables                                |

Imports point one way: `cli -> console -> definitions -> defs -> stages -> the rooms -> settings -> models, errors`.
The rooms do not import each other; they meet in `stages/`. This module imports nothing.
"""
