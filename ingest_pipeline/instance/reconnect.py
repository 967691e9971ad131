"""Lets `ingest run` survive the loss of its database: it waits and begins its work again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ingest_pipeline.errors import ErrorBudgetSpent, StoreUnavailable
from ingest_pipeline.store.connection import first_line

logger = logging.getLogger(__name__)
T = TypeVar("T")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0  # ten waits take three minutes: a restart with crash recovery
CALM_SECONDS = 60.0
"""After so long without an error the count of errors is reset."""


def with_reconnect(
    work: Callable[[], T], *, max_errors: int, say: Callable[[str], None], wait: Callable[[float], None] = time.sleep
) -> T:
    """Return the result of the work, which is begun again whenever the database is lost.

    The work must be repeatable at any time. The caller must have reached the database once before: one that was never
    reachable is not waited for, because most likely its address is wrong.

    Raises:
        ErrorBudgetSpent: the database was lost `max_errors` times in a row.
    """
    errors, seconds = 0, FIRST_WAIT_SECONDS
    while True:
        began = time.monotonic()
        try:
            return work()
        except Exception as error:
            if not is_loss_of_database(error):
                raise
            calm = time.monotonic() - began > CALM_SECONDS
            errors, seconds = (1, FIRST_WAIT_SECONDS) if calm else (errors + 1, seconds)
            if errors >= max_errors:
                raise ErrorBudgetSpent(
                    f"the database went away {errors} times in a row (INGEST_MAX_ERRORS={max_errors}): "
                    f"{first_line(error)[:300]}; what is committed stays"
                ) from None
        logger.warning("lost the database, error %d of %d", errors, max_errors)
        say(f"the database is gone; trying again in {seconds:.0f} s ({errors} of {max_errors})")
        wait(seconds)
        seconds = min(2 * seconds, LONGEST_WAIT_SECONDS)


def is_loss_of_database(error: BaseException) -> bool:
    """Return whether an error, ours or of Dagster's storage, means that Postgres cannot be reached."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import InterfaceError, OperationalError

    return isinstance(error, StoreUnavailable | DagsterPostgresException | InterfaceError | OperationalError)
