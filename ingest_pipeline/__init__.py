"""The packages and modules of the pipeline. docs/architecture.md explains how they work together.

| package          | what it does                                                                  |
|------------------|-------------------------------------------------------------------------------|
| `models.py`      | frozen dataclasses that packages pass to each other                           |
| `search_models.py` | what is looked for, and what an answer says                                |
| `errors.py`      | the error types, by cause: configuration, file, run                           |
| `settings.py`    | the table of settings: the `INGEST_*` environment, read once and checked      |
| `engines.py`     | the table of engines: who computes vectors, and what each needs               |
| `schemes.py`     | the table of schemes: which module reads a source                             |
| `sizes.py`       | parses and formats sizes such as `512MiB`                                     |
| `markdown.py`    | names in the Markdown that the UI shows                                       |
| `sources/`       | a folder, bucket or list of URLs -> its files -> streams of bytes; uploads    |
| `planning/`      | predicts what files cost and packs them into batches; pure functions          |
| `memory/`        | machine, cgroups, processes; a run's budget, its measurement, degradation     |
| `remote/`        | calls of servers that embed or answer: limits, errors, one layer of retries   |
| `parsing/`       | bytes -> pages: formats, and the sandbox in which they run                    |
| `chunking.py`    | pages -> chunks                                                               |
| `embedding/`     | texts -> vectors: the model, micro-batches, one module for each engine        |
| `extraction/`    | an LLM's answer about one section; one module for each protocol               |
| `entities/`      | texts -> named entities: a spaCy model in child processes, if one is set      |
| `store/`         | the only package that uses SQL: server, schema, ledger, vectors, search       |
| `stages/`        | combines the packages: one plain function for each asset, without Dagster     |
| `instance/`      | the classes in dagster.yaml: launcher, queue, storage; `ingest run`, `ui`     |
| `defs/`          | Dagster's definitions: assets, checks, metadata, automation, the resource     |
| `definitions.py` | builds the `dg.Definitions`                                                   |
| `service/`       | the web service: a page for people, an API for programs, tools for agents      |
| `cli/`           | the `ingest` command                                                          |

Imports go in one direction: `cli -> service, definitions -> defs -> instance -> stages -> the packages in the middle ->
memory -> settings -> search_models -> engines, schemes, sizes, markdown -> models, errors`. The packages in the middle
(sources, planning, parsing, chunking, embedding, extraction, entities, store) do not import each other; only `stages/`
combines them. Import contracts in pyproject.toml check this. This module imports nothing before `search` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest_pipeline.search_models import SearchAnswer
    from ingest_pipeline.settings import Settings


def search(
    query: str,
    *,
    top: int = 10,
    context: int = 0,
    model: str | None = None,
    settings: Settings | None = None,
    **scope: Any,
) -> SearchAnswer:
    """Return the passages that answer a query, and what was searched.

    The model is loaded once in a process.

    Args:
        query: words or a sentence.
        top: hits at most.
        context: how many chunks before and after each hit come with it.
        model: the name of another model of the store.
        settings: by default those of the `INGEST_*` environment.
        scope: where is looked, by the fields of `SearchScope`: `source`, `path`, `media_type`, `page_from`, `page_to`,
            `section`, `since`, `until`, `batch`, `entity`.

    Raises:
        IngestError: the settings, the model or the database cannot be used.
    """
    from ingest_pipeline.stages.python_api import ask_for

    return ask_for(query, top=top, context=context, model=model, settings=settings, **scope)
