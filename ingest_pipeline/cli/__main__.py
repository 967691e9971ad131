"""`python -m ingest_pipeline.cli.main` is the `ingest` command."""

from ingest_pipeline.cli.main import main

main()
