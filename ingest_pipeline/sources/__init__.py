"""Lists the files of a source and opens them as streams. The only package that uses local paths and servers.

`base.py` defines what a source is; `registry.py` finds the module for a source's URL: `folder.py`, `bucket.py` or
`url_list.py`. The last two use `download.py`, which downloads in pieces and resumes after an interruption; `spool.py`
stores a download for the parser; `links.py` reads lists and index pages, `ahead.py` asks a server several questions at
once; `upload.py` adds files to a source; `wording.py` has the common error messages.

A new kind of source is one module and one line of `schemes.SCHEMES`.
"""

from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import Source
from ingest_pipeline.sources.registry import canonical_source, canonical_sources, source_of, spelled_source, takes_files

__all__ = ["Access", "Source", "canonical_source", "canonical_sources", "source_of", "spelled_source", "takes_files"]
