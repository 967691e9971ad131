"""The assets. Each opens what it needs, calls one plain function, and reports what it did."""

import warnings
from functools import partial

import dagster as dg

from ingest_pipeline.defs import metadata
from ingest_pipeline.defs.freshness import freshness_of
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.entities.model import entity_model
from ingest_pipeline.instance.names import BATCHES
from ingest_pipeline.settings import read_settings
from ingest_pipeline.stages.chunks import check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.index import IndexWork, refresh_index
from ingest_pipeline.stages.scan import scan_sources
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store.embedding_models import model_id
from ingest_pipeline.store.incidents import reset_incidents

# Beta, but needed: see one_batch_per_run. Without the filter every command prints the warning.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)

batches_partitions = dg.DynamicPartitionsDefinition(name=BATCHES)
# Any other policy puts several batches into one run, but a run has the budget of one batch (docs/dagster.md, P3).
one_batch_per_run = dg.BackfillPolicy.multi_run(max_partitions_per_run=1)

# Extracts and entities need chunks alone, so neither waits for the success of embeddings. A run, which is one process,
# takes the embeddings first: files are searchable sooner, and the embedder has left the memory when the workers start:
# of 300 MiB with OpenVINO 193 are left then, of 660 with torch 530 (2026-11), and the smallest budgets hold a worker
# beside that.
AFTER_EMBEDDINGS = {"dagster/priority": "-1"}

embedding_checks = [
    dg.AssetCheckSpec(name, asset="embeddings", description=description)
    for name, description in (
        ("every_file_accounted_for", "Each file of the batch is indexed, or failed with a reason."),
        ("every_chunk_has_its_vector", "Each chunk of an indexed file of the batch has a vector."),
        ("vectors_are_unit_norm", "Each vector of the batch has length 1."),
    )
]
index_checks = [
    dg.AssetCheckSpec(
        "ledger_and_tables_agree",
        asset="vector_index",
        description="Files, generations, chunks and vectors do not contradict each other; each vector has length 1.",
    )
]


@dg.asset(
    group_name="ingest", kinds={"postgres"}, pool="catalog", freshness_policy=freshness_of(read_settings().schedule)
)
def catalog(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """All files of all sources, compared with the ledger; new and changed ones wait in sealed batches."""
    settings, fingerprint = ingest.settings(), ingest.fingerprint()
    with ingest.store() as connection:
        reset_incidents(connection)  # materializing the catalog is the user's request to try again
        model = model_id(connection, ingest.card())
        counts = scan_sources(connection, settings=settings, fingerprint=fingerprint, model=model)
        sealed = seal_waiting(connection, settings=settings, fingerprint=fingerprint)
    context.instance.add_dynamic_partitions(BATCHES, list(sealed.batches))
    context.log.info("%d files listed, %d batches sealed", counts.listed, len(sealed.batches))
    return dg.MaterializeResult(metadata=metadata.of_catalog(counts, sealed))


@dg.asset(
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[catalog], group_name="ingest",
    kinds={"file"},
)  # fmt: skip
def raw_files(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """The batch's files, checked to have the catalogued bytes and to be within the limits."""
    with ingest.batch(context) as run:
        outcomes = list(check_files(run))
        return dg.MaterializeResult(metadata=metadata.of_raw_files(run, outcomes))


@dg.asset(
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[raw_files], group_name="ingest",
    kinds={"python"},
)  # fmt: skip
def chunks(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """The files' text, parsed page by page in a sandbox, in chunks of at most the model's tokens."""
    with ingest.batch(context) as run, ingest.sandbox(run) as sandbox, run.watched("chunks") as watch:
        encode = ingest.encoder()
        outcomes = list(chunk_files(run, encode=encode, sandbox=sandbox, degradation=watch.degradation))
        return dg.MaterializeResult(metadata=metadata.of_chunks(run, outcomes, watch))


@dg.asset(
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[chunks], group_name="ingest",
    kinds={"openvino", "postgres"}, check_specs=embedding_checks,
)  # fmt: skip
def embeddings(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """One vector for each chunk, committed by micro-batch; a file is published when its last vector is stored."""
    with ingest.batch(context) as run, run.watched("embeddings") as watch:
        # The model is loaded only if a chunk needs a vector: a batch of renamed files loads nothing.
        outcomes = list(embed_files(run, load_embedder=partial(ingest.embedder, run), watch=watch))
        unfinished = run.finish()
        return dg.MaterializeResult(
            metadata=metadata.of_embeddings(run, outcomes, watch),
            check_results=metadata.embedding_checks(run, unfinished),
        )


@dg.asset(
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[chunks], group_name="ingest",
    kinds={"llm", "postgres"}, op_tags=AFTER_EMBEDDINGS,
)  # fmt: skip
def extracts(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """What an LLM answers about each section, stored at once; off unless INGEST_EXTRACT says what to ask."""
    if not ingest.settings().extract:
        return dg.MaterializeResult(metadata={"enabled": False})
    from ingest_pipeline.stages.extracts import extract_run

    with ingest.batch(context) as run, ingest.sandbox(run) as sandbox, run.watched("extracts") as watch:
        asking = extract_run(run, sandbox=sandbox, watch=watch)
        outcomes = list(asking.files())
        run.finish()
        return dg.MaterializeResult(metadata=metadata.of_extracts(run, asking.spec, outcomes, watch))


@dg.asset(
    # Behind extracts: if these stop, by a limit or a server that is down, the batch must not be finished here.
    partitions_def=batches_partitions, backfill_policy=one_batch_per_run, deps=[chunks, extracts], group_name="ingest",
    kinds={"spacy", "postgres"},
)  # fmt: skip
def entities(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """The named entities of each text, committed by batch; off unless INGEST_ENTITY_MODEL is set."""
    model = entity_model(ingest.settings())
    if model is None:
        return dg.MaterializeResult(metadata={"enabled": False})
    from ingest_pipeline.stages.entities import extract_entities

    with ingest.batch(context) as run, run.watched("entities") as watch:
        work = extract_entities(run, model, watch=watch)
        run.finish()
        return dg.MaterializeResult(metadata=metadata.of_entities(run, work, watch))


@dg.asset(deps=[embeddings], group_name="ingest", kinds={"postgres"}, check_specs=index_checks, pool="vector_index")
def vector_index(context: dg.AssetExecutionContext, ingest: IngestResource) -> dg.MaterializeResult:
    """The HNSW index of the model: created if missing, unused vectors deleted, dead rows vacuumed."""
    with ingest.store() as connection:
        work: IndexWork = refresh_index(connection, ingest.settings())
    return dg.MaterializeResult(metadata=metadata.of_index(work), check_results=metadata.index_checks(work))
