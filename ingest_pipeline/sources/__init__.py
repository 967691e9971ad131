"""A source becomes its files; a file becomes a stream of bytes. The only package that touches paths and servers.

`base.py` says what a source is; `registry.py` finds the module for a source's URL: `folder.py`, `bucket.py` or
`url_list.py`. The last two read servers by `download.py`, which downloads piece by piece and resumes after a cut;
`spool.py` holds a download for the parser; `upload.py` adds files to a source; `wording.py` words the errors.

A new kind of source is one module and one line of `registry.ADAPTERS`.
"""

from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import Source
from ingest_pipeline.sources.registry import canonical_source, canonical_sources, source_of

__all__ = ["Access", "Source", "canonical_source", "canonical_sources", "source_of"]
