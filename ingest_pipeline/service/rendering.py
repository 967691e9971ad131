"""Templates become pages: everything in them is escaped, and none of them holds a script or a style."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from ingest_pipeline.parsing.detect import short_name
from ingest_pipeline.service import links, text
from ingest_pipeline.sizes import counted, format_size

HERE = Path(__file__).parent
STATIC = HERE / "static"
STATES = {"indexed": "good", "done": "good", "failed": "bad", "killed": "bad", "rejected": "bad", "deleted": "gone"}
"""What kind of state a word names; all others are states of waiting."""


def html_page(request: Request, template: str, content: dict[str, Any], *, status: int = 200) -> HTMLResponse:
    """Return a page.

    Args:
        request: that is answered.
        template: the name of a file in templates/.
        content: what the template shows.
        status: of HTTP.
    """
    parameters = {name: value for name, value in request.query_params.items() if value}
    html = environment().get_template(template).render(request=request, parameters=parameters, **content)
    return HTMLResponse(html.encode("utf-8", "replace"), status_code=status)


@cache
def environment() -> Environment:
    """Return what renders templates."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "visible": text.visible, "passage": text.passage, "size": _size, "time": _time, "type_name": _type_name,
        "counted": counted, "seconds": _seconds, "state": _state, "file_name": _file_name, "json": _json,
        "sentence": _sentence, "folder": _folder,
    }  # fmt: skip
    made.globals |= {"style": f"/static/style.css?{_version()}", "address": links.address, "marked": text.marked}
    return made


def _version() -> str:
    """Return what changes with the style: browsers keep what they have."""
    return hashlib.sha256((STATIC / "style.css").read_bytes()).hexdigest()[:8]


def _size(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else format_size(size_bytes)


def _time(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:,.1f} s"


def _state(word: str | None) -> str:
    return STATES.get(word or "", "waiting")


def _file_name(path: str) -> str:
    return text.visible(path.rpartition("/")[2])


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].removesuffix('.')}."


def _folder(path: str) -> str:
    return text.visible(path.rpartition("/")[0])


def _type_name(media_type: str) -> str:
    return short_name(media_type).rpartition("/")[2]


def _json(value: Any) -> str:
    return text.passage(json.dumps(value, ensure_ascii=False, indent=2))
