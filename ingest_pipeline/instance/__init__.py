"""The Dagster instance: the classes that dagster.yaml names, and runs without Dagster's services.

`launcher.py` starts a process for each run, `run_process.py` is its program, `supervisor.py` waits for its end and
records the cause; `in_process.py` executes a run in this process; `origins.py` says where a run's code is.
`coordinator.py` limits how many runs are in progress, `storage.py` and `logs.py` store Dagster's records;
`reconcile.py` finds out how runs ended and updates the ledger; `run_record.py` is what a run's processes write on their
machine, which `host.py` names, and `run_ends.py` copies it into the store; `headless.py` and `progress.py` are
`ingest run`, `services.py` is `ingest ui`, `reconnect.py` waits for a lost database, `home.py` opens the instance.
`dagster_private.py` is the only module that imports private modules of Dagster; `names.py` has the names of jobs,
partitions and tags. This module imports nothing, because the daemon imports some of these modules.
"""
