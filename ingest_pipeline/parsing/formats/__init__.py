"""The parsers: each yields events (pages, gaps, headings, warnings) for one file. They run in the sandbox's child
alone.

By family: `pdf.py` (with `pypdf_walker.py`, `pdf_annotations.py`); `epub.py`, `html.py`; `docx.py`, `pptx.py`, `odt.py`
(with `paragraphs.py`, `drawings.py`); `text.py`, `markdown.py`; `records.py`, `json_values.py`; `mail.py`; `ole.py`.
Shared: `archive.py` (zip), `streams.py` (gzip), `encoding.py`, `alphabets.py`, `page_builder.py`, `clean.py`. Which
parser reads which media type is the table in `registry.py`.
"""
