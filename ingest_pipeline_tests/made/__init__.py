"""Documents of every supported format, made by the tests themselves.

| module      | documents                                                                            |
|-------------|--------------------------------------------------------------------------------------|
| `words`     | short texts in many languages, and the legacy encodings that they are written in     |
| `pdf`       | PDF: outline, labels, form, locked, scanned, and damaged in the usual ways           |
| `epub`      | EPUB 2 and 3                                                                         |
| `office`    | Word, PowerPoint, OpenDocument, OLE: by their parts and by their usual writers       |
| `pages`     | HTML, Markdown, reStructuredText                                                     |
| `records`   | CSV, TSV, JSON, JSONL, Parquet, gzip                                                 |
| `mail`      | messages, mailboxes, a Maildir                                                       |
| `catalogue` | one or more of each, with what a reader finds in it                                  |
"""
