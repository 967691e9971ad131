"""Dagster's definitions: assets with checks and metadata, automation, the resource. This module imports nothing.

`assets.py` defines the assets; `resources.py` gives them the settings and opens connection, sandbox and model;
`metadata.py` makes what they report to the UI; `automation.py` starts runs; `repair.py` has the jobs that repair,
`maintenance.py` the one that backs up.
"""
