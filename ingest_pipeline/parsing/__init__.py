"""Bytes become pages, in a child process with a kernel limit. This module imports nothing.

`detect.py` names a file's media type; `sandbox.py` runs `child.py` and speaks `protocol.py` with it;
`pdf.py`, `pypdf_walker.py`, `epub.py`, `html.py`, `text.py` read one family of formats each;
`clean.py` makes text that Postgres takes and a search finds.
"""
