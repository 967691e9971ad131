"""The parsers: each yields the events of one file (pages, gaps, headings, warnings). Only the parser's child runs them.

By format: `pdf.py` (with `pypdf_walker.py`, `pdf_annotations.py`); `epub.py`, `html.py`; `docx.py`, `pptx.py`, `odt.py`
(with `paragraphs.py`, `drawings.py`); `text.py`, `markdown.py`; `records.py`, `json_values.py`; `mail.py`; `ole.py`.
Shared: `archive.py` (zip), `streams.py` (gzip), `encoding.py`, `alphabets.py`, `page_builder.py`, `clean.py`. The table
in `registry.py` maps media types to parsers.
"""
