"""`python -m ingest_pipeline.cli` is the `ingest` command."""

from ingest_pipeline.cli.main import main

main()
