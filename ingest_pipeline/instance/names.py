"""The names by which Dagster knows partitions, jobs and tags: a contract with whoever uses its API."""

BATCHES = "batches"
"""The dynamic partitions: one key for each batch."""
CATALOG, VECTOR_INDEX = "catalog", "vector_index"
"""Keys of the two assets without partitions."""
CATALOG_JOB, BATCH_JOB, INDEX_JOB = "ingest_catalog", "ingest_batch", "ingest_index"
LAUNCHED_BY_TAG, THREADS_TAG = "ingest/launched_by", "ingest/threads"
"""Who asked for a run; how many threads it computes with (without the tag: its share of the cores)."""
