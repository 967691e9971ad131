"""The only room that knows Dagster. This module imports nothing: the daemon imports launcher and coordinator.

`resources.py` hands the settings to assets; `assets.py` are the sentences; `metadata.py` is what they tell the
UI; `automation.py` starts them; `settle.py` finds out how runs ended; `storage.py`, `launcher.py`,
`run_supervisor.py`, `coordinator.py` are the instance's; `headless.py` does without a daemon.
"""
