"""Which files and passages are meant, as the functions of the database take it (migrations/0010_search.sql)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ingest_pipeline.store.entities import entity_name

if TYPE_CHECKING:
    from ingest_pipeline.search_models import SearchScope
    from ingest_pipeline.store.facets import FileFilter


def scope_json(scope: SearchScope | FileFilter, *, shown_under: int | None = None) -> str:
    """Return a scope as JSON; a field that is None asks for nothing.

    Args:
        scope: of a search, or of a list of files.
        shown_under: the number of a model under which readers see the files.
    """
    values: dict[str, Any] = asdict(scope) | {"shown_under": shown_under}
    if values.get("entity") is not None:
        values["entity"] = entity_name(values["entity"])
    return json.dumps({name: value for name, value in values.items() if value is not None}, default=str)
