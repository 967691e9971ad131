"""What `ingest doctor` looks at: each module offers `checks(settings)`, which yields a `Finding` for each line.

A check starts nothing, changes nothing that lasts, needs no other check to succeed, and ends within its time.
`instance/doctor.py` has the checks of Dagster's home and port.
"""
