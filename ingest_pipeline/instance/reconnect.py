"""`ingest run` outlives its database: it waits, starts it again where it is ours, and goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ingest_pipeline.errors import ErrorBudgetSpent, StoreUnavailable
from ingest_pipeline.store.connection import first_line

logger = logging.getLogger(__name__)
T = TypeVar("T")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0  # ten waits: three minutes, the time of a restart with recovery
CALM_SECONDS = 60.0
"""Work that went well for so long begins the count anew."""


def with_reconnect(
    work: Callable[[], T], *, max_errors: int, say: Callable[[str], None], wait: Callable[[float], None] = time.sleep
) -> T:
    """Return what the work gives, beginning it again whenever the database goes away under it.

    The work must be one that may be begun again at any time. Whoever calls has reached the database once: one that was
    never there is not waited for, most likely its address is wrong.

    Raises:
        ErrorBudgetSpent: it went away so many times in a row.
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
    """Return whether an error of ours or of Dagster's storage means that Postgres cannot be reached."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import InterfaceError, OperationalError

    return isinstance(error, StoreUnavailable | DagsterPostgresException | InterfaceError | OperationalError)
