"""What dagster.yaml names, and who runs without Dagster's services. This module imports nothing: the daemon imports
some.

`launcher.py` starts a process for each run, `supervisor.py` stands beside it and records how it ended, `coordinator.py`
limits how many run, `storage.py` and `logs.py` are where Dagster keeps its records; `reconcile.py` finds out how runs
ended and updates the ledger; `headless.py` is `ingest run`, `services.py` is `ingest ui`, `reconnect.py` outlives a
lost
database, `home.py` opens the instance. `dagster_private.py` is the only module that imports Dagster's private ones,
`names.py` are the names that Dagster knows things by.
"""
