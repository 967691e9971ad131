"""The map of the package: anyone can name the file of any line from it. docs/architecture.md has the whole story.

| package          | what it does                                                                  |
|------------------|-------------------------------------------------------------------------------|
| `models.py`      | the nouns: frozen dataclasses that packages pass to each other                |
| `errors.py`      | the error tree, by whose fault it is                                          |
| `settings.py`    | one table of settings: the `INGEST_*` environment, read once and checked      |
| `engines.py`     | the table of engines: who computes vectors, and what each needs               |
| `schemes.py`     | the table of schemes: which module reads a source                             |
| `sizes.py`       | bytes and the text that people write for them                                 |
| `sources/`       | a folder, bucket or list of URLs -> its files -> streams of bytes; uploads    |
| `planning/`      | what files will cost, and how they are packed into batches; pure arithmetic   |
| `memory/`        | machine, cgroups, processes; a run's budget, the watch over it, degradation   |
| `parsing/`       | bytes -> pages: formats, and the sandbox in which they run                    |
| `chunking.py`    | pages -> chunks                                                               |
| `embedding/`     | texts -> vectors: the model, micro-batches, one module for each engine        |
| `store/`         | the only package that speaks SQL: server, schema, ledger, vectors, search     |
| `stages/`        | where packages meet: one plain function for each asset, without Dagster       |
| `instance/`      | what dagster.yaml names: launcher, supervisor, queue, storage; `ingest run`   |
| `defs/`          | what Dagster shows: assets, checks, metadata, automation, the resource        |
| `definitions.py` | composition: builds the `dg.Definitions`                                      |
| `cli/`           | the `ingest` command                                                          |

Imports point one way: `cli -> definitions -> defs -> instance -> stages -> the packages in the middle -> memory ->
settings -> engines, schemes, sizes -> models, errors`. The packages in the middle (sources, planning, parsing,
chunking, embedding, store) do not import each other; they meet in `stages/`. Import contracts in pyproject.toml check
it. Nothing is imported here.
"""
