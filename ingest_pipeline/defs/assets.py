"""The assets. Each is a sentence: open, call one plain function, report what it did."""

import warnings
from functools import partial

import dagster as dg

from ingest_pipeline.defs import metadata
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.instance.names import BATCHES
from ingest_pipeline.stages.catalog import scan_sources, seal_waiting
from ingest_pipeline.stages.chunks import check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.index import IndexWork, refresh_index
from ingest_pipeline.store.incidents import reset_incidents

# Beta since 1.5 and needed: see one_batch_per_run. The warning would greet every user of every command.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)

batches_partitions = dg.DynamicPartitionsDefinition(name=BATCHES)
# Any other policy puts several batches into one run, and a run's budget is for one (docs/dagster.md, P).
one_batch_per_run = dg.BackfillPolicy.multi_run(max_partitions_per_run=1)

embedding_checks = [
    dg.AssetCheckSpec("every_file_accounted_for", asset="embeddings", description="indexed, or failed with a reason"),
    dg.AssetCheckSpec("every_chunk_has_its_vector", asset="embeddings"),
    dg.AssetCheckSpec("vectors_are_unit_norm", asset="embeddings"),
]
index_checks = [dg.AssetCheckSpec("ledger_and_tables_agree", asset="vector_index")]


@dg.asset(group_name="ingest", kinds={"postgres"}, pool="catalog")
def catalog(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """Every file of every source, compared with the ledger; what is new or changed waits in sealed batches."""
    settings, fingerprint = ingest.settings(), ingest.fingerprint()
    with ingest.store() as connection:
        reset_incidents(connection)  # whoever lists the sources asks for another try
        counts = scan_sources(connection, settings.sources, settings=settings, fingerprint=fingerprint)
        sealed = seal_waiting(connection, settings=settings, fingerprint=fingerprint)
    context.instance.add_dynamic_partitions(BATCHES, list(sealed.batches))
    context.log.info("%d files listed, %d batches sealed", counts.listed, len(sealed.batches))
    return dg.MaterializeResult(metadata=metadata.of_catalog(counts, sealed))


@dg.asset(
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[catalog], group_name="ingest",
    kinds={"file"},
)  # fmt: skip
def raw_files(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """The batch's files, read once in 256 KiB pieces: still the bytes that were catalogued, within the limits."""
    with ingest.batch(context) as run:
        outcomes = list(check_files(run))
        return dg.MaterializeResult(metadata=metadata.of_raw_files(run, outcomes))


@dg.asset(
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[raw_files], group_name="ingest",
    kinds={"python"},
)  # fmt: skip
def chunks(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """The files' text in chunks of at most the model's tokens, parsed page by page in a sandbox."""
    with ingest.batch(context) as run, ingest.sandbox(run) as sandbox, run.watched() as watch:
        encode = ingest.encoder()
        outcomes = list(chunk_files(run, encode=encode, sandbox=sandbox, degradation=watch.degradation))
        return dg.MaterializeResult(metadata=metadata.of_chunks(run, outcomes, watch))


@dg.asset(
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[chunks], group_name="ingest",
    kinds={"torch", "postgres"}, check_specs=embedding_checks,
)  # fmt: skip
def embeddings(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """A vector for each chunk, in micro-batches committed one by one; each file becomes searchable at its last."""
    with ingest.batch(context) as run, run.watched() as watch:
        outcomes = list(embed_files(run, load_embedder=partial(ingest.embedder, run), watch=watch))
        unfinished = run.finish()
        return dg.MaterializeResult(
            metadata=metadata.of_embeddings(run, outcomes, watch),
            check_results=metadata.embedding_checks(run, unfinished),
        )


@dg.asset(deps=[embeddings], group_name="ingest", kinds={"postgres"}, check_specs=index_checks, pool="vector_index")
def vector_index(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """The HNSW index of the model, in order: made if missing, what nobody uses deleted, dead rows taken out."""
    with ingest.store() as connection:
        work: IndexWork = refresh_index(connection, ingest.settings())
    return dg.MaterializeResult(metadata=metadata.of_index(work), check_results=metadata.index_checks(work))
