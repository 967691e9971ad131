"""Errors that are no file's fault, counted until something works again."""

from __future__ import annotations

import re
from typing import Any

from ingest_pipeline.errors import error_named
from ingest_pipeline.store.connection import Connection

INSERT = "INSERT INTO incidents (batch, run_id, cause, message) VALUES (%s, %s, %s, %s)"
RESET = "UPDATE incidents SET reset = true WHERE NOT reset"
# Of the latest cause, since another cause came between or a batch was finished.
IN_A_ROW = """
WITH open AS (
    SELECT incident_id, cause, message, first_value(cause) OVER newest AS latest,
           first_value(message) OVER newest AS latest_message
    FROM incidents
    WHERE NOT reset
      -- An error after a batch's last file was published has the time of its end.
      AND happened_at >= coalesce((SELECT max(ended_at) FROM batches WHERE status = 'done'), '-infinity')
    WINDOW newest AS (ORDER BY incident_id DESC)
)
SELECT count(*), max(latest), max(latest_message) FROM open
WHERE incident_id > coalesce((SELECT max(incident_id) FROM open WHERE cause <> latest), 0)
"""
FAILED_SHARE = """
SELECT count(*) FILTER (WHERE status = 'failed'), count(*) FROM files
WHERE status IN ('failed', 'indexed') AND updated_at >= %s
"""
MIN_DOCUMENTS = 20
"""Fewer documents than this have no share of failures that says anything."""


def record_incident(connection: Connection, *, batch: str, run_id: str, message: str) -> None:
    """Note that a run ended for a reason that is no file's."""
    connection.execute(INSERT, (batch, run_id, cause_of(message), message[:2000]))


def reset_incidents(connection: Connection) -> None:
    """Begin to count anew: the catalog was asked for, which is another try."""
    connection.execute(RESET)


def spent_budget(connection: Connection, *, max_errors: int, max_failed_share: float, since: Any) -> str | None:
    """Return the verdict that ends everything, None while there is none.

    Args:
        connection: to the store.
        max_errors: errors of one cause in a row.
        max_failed_share: of the documents that came to their end since then; 1 is never.
        since: where the count of documents begins, by the database's clock.
    """
    count, cause, message = connection.execute(IN_A_ROW).fetchone() or (0, None, None)
    if cause and _is_verdict(cause):
        return f"{cause}: {str(message).removeprefix(f'{cause}: ')}"
    if count >= max_errors:
        return f"{count} runs in a row ended with {cause} (INGEST_MAX_ERRORS={max_errors}): {message}"
    if max_failed_share >= 1:
        return None
    failed, ended = connection.execute(FAILED_SHARE, (since,)).fetchone() or (0, 0)
    if ended >= MIN_DOCUMENTS and failed / ended > max_failed_share:
        return f"{failed} of {ended} documents failed (INGEST_MAX_FAILED_SHARE={max_failed_share}): `ingest files`"
    return None


def _is_verdict(cause: str) -> bool:
    try:
        return error_named(cause).is_verdict
    except KeyError:
        return False


def cause_of(message: str) -> str:
    """Return the type that a message begins with, without its module: what makes two errors the same."""
    match = re.match(r"\s*(?:[A-Za-z_]\w*\.)*([A-Z]\w*)\b", message)
    return match[1] if match else message.strip()[:60]
