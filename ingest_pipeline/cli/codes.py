"""Exit codes of the `ingest` command; `ingest --help` explains them."""

OK, FAILED, BAD_USAGE, STOPPED, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 4, 130
