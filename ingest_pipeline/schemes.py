"""The table of schemes: which module reads a source, and whether it is on a server.

A new kind of source is a module in `sources/` and a row here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scheme:
    """What is known of the sources of one scheme without opening them."""

    module: str
    """Offers `canonical(text)` and `open_source(name, access)`; `open_uploads(name, access)` if it takes files."""
    form: str
    """How such a source is written, for error messages."""
    on_server: bool
    """Whether reading it takes the libraries that speak with servers, and their memory."""


FOLDER = Scheme("ingest_pipeline.sources.folder", "a folder", on_server=False)
BUCKET = Scheme("ingest_pipeline.sources.bucket", "s3://bucket/prefix", on_server=True)
URL_LIST = Scheme("ingest_pipeline.sources.url_list", "the http(s):// URL of a list", on_server=True)

SCHEMES = {"": FOLDER, "file": FOLDER, "s3": BUCKET, "http": URL_LIST, "https": URL_LIST}
"""By the scheme of the URL; a path has none."""


def scheme_of(source: str) -> Scheme | None:
    """Return the row for a source; None if there is no such kind."""
    scheme, separator, _ = source.partition("://")
    return SCHEMES.get(scheme if separator else "")


def known_forms() -> str:
    """Return how sources are written, for error messages."""
    *others, last = dict.fromkeys(scheme.form for scheme in SCHEMES.values())
    return f"{', '.join(others)}, or {last}"
