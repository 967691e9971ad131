"""Bytes become pages, in a child process with a kernel limit. This module imports nothing.

`detect.py` names a file's media type; `sandbox.py` runs `child.py` and speaks `protocol.py` with it;
`pdf.py`, `pypdf_walker.py`, `epub.py`, `docx.py`, `pptx.py`, `odt.py`, `html.py`, `text.py`, `records.py`,
`json_values.py`, `mail.py`, `ole.py` read one family of formats each, by the means of `archive.py`, `streams.py`,
`encoding.py`, `pager.py`, `prose.py`; `outline.py` makes headings into sections; `confine.py` takes away what a parser
does not need;
`clean.py` makes text that Postgres takes and a search finds.
"""
