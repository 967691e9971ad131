"""How old the catalog may become before Dagster says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import dagster as dg

from ingest_pipeline.instance.dagster_private import cron_string_iterator

LEAST = timedelta(days=1)
"""A catalog of the last day is fresh, also where the schedule lists the sources every hour but is switched off."""
TICKS = 10
"""The longest time between so many ticks is taken: on work days only, that is a weekend."""


def freshness_of(schedule: str) -> dg.FreshnessPolicy:
    """Return the policy of what a cron schedule materializes: a warning after two missed ticks, overdue after four."""
    ticks = cron_string_iterator(datetime.now(tz=UTC).timestamp(), schedule, "UTC")
    times = [next(ticks) for _ in range(TICKS)]
    longest = max(later - earlier for earlier, later in pairwise(times))
    return dg.FreshnessPolicy.time_window(warn_window=max(2 * longest, LEAST), fail_window=max(4 * longest, 2 * LEAST))
