"""The names of partitions, assets, jobs and tags in Dagster: a contract for users of its API."""

BATCHES = "batches"
"""The dynamic partitions: one for each batch."""
CATALOG, VECTOR_INDEX = "catalog", "vector_index"
"""The keys of the two assets without partitions."""
CATALOG_JOB, BATCH_JOB, INDEX_JOB = "ingest_catalog", "ingest_batch", "ingest_index"
LAUNCHED_BY_TAG, THREADS_TAG = "ingest/launched_by", "ingest/threads"
"""Who launched a run; how many threads it computes with (without the tag: its share of the cores)."""
