"""What Dagster shows: assets, their checks and metadata, automation, the resource. This module imports nothing.

`assets.py` are the sentences; `resources.py` hands them the settings and what is opened from them; `metadata.py` is
what they tell the UI; `automation.py` starts them.
"""
