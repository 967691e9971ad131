"""What calls of servers cost, by run, file, stage and model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from psycopg.rows import class_row, dict_row

from ingest_pipeline.models import Usage
from ingest_pipeline.store.connection import Connection, repeatable, scalar

ADD = """
INSERT INTO api_usage AS u (run_id, file_id, stage, model, calls, failed_calls, prompt_tokens, completion_tokens)
VALUES (%(run_id)s, %(file_id)s, %(stage)s, %(model)s, %(calls)s, %(failed_calls)s, %(prompt_tokens)s,
        %(completion_tokens)s)
ON CONFLICT (run_id, file_id, stage, model) DO UPDATE SET
    calls = u.calls + excluded.calls, failed_calls = u.failed_calls + excluded.failed_calls,
    prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = u.completion_tokens + excluded.completion_tokens, updated_at = now()
"""
SUMS = """
coalesce(sum(calls), 0)::int AS calls, coalesce(sum(failed_calls), 0)::int AS failed_calls,
coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens
"""
OF_RUN = f"SELECT {SUMS} FROM api_usage WHERE run_id = %s AND (%s::text IS NULL OR stage = %s)"  # noqa: S608
TOKENS_OF_RUN = "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM api_usage WHERE run_id = %s"
BY_MODEL_SINCE = f"""
SELECT stage, model, {SUMS} FROM api_usage WHERE updated_at >= %s GROUP BY stage, model ORDER BY stage, model
"""  # noqa: S608


def add_usage(connection: Connection, usage: Usage, *, run_id: str, file_id: int, stage: str, model: str) -> None:
    """Count calls and tokens of the work on a file."""
    if usage == Usage():
        return
    with repeatable(connection):
        connection.execute(ADD, {"run_id": run_id, "file_id": file_id, "stage": stage, "model": model} | asdict(usage))


def usage_of_run(connection: Connection, run_id: str, *, stage: str | None = None) -> Usage:
    """Return what a run has used, in one stage or in all."""
    with connection.cursor(row_factory=class_row(Usage)) as cursor:
        return cursor.execute(OF_RUN.encode(), (run_id, stage, stage)).fetchone() or Usage()


def tokens_of_run(connection: Connection, run_id: str) -> int:
    """Return the tokens that a run has used."""
    return int(scalar(connection, TOKENS_OF_RUN, (run_id,)))


def usage_since(connection: Connection, since: Any) -> list[dict[str, Any]]:
    """Return what was used since a moment, by stage and model."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(BY_MODEL_SINCE.encode(), (since,)).fetchall()
