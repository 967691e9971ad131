"""Crash safety, proved: SQLite's method on our own code. docs/crash-safety.md says what is claimed.

| module             | what it does                                                                     |
|--------------------|----------------------------------------------------------------------------------|
| `kill_points.py`   | counts the places where a process may die, and kills it at one of them           |
| `job.py`           | a whole ingestion on `stages/`, as `ingest run` does it, without Dagster         |
| `forked_parser.py` | the parser's child, forked in milliseconds; a page may end it                    |
| `scenes.py`        | the twelve documents, and what is done to them between two ingestions            |
| `dump.py`          | what two ingestions must agree on, in order                                      |
| `trials.py`        | one job in a forked process, killed once or twice, recovered, compared           |
| `plans.py`         | which trials there are: points, pairs, rivals, storms                            |
| `lanes.py`         | trials on every core, each with a database of its own; passed ones are kept      |
| `file_trials.py`   | work on files, killed before and after each call that changes a folder           |
| `small_disk.py`    | a disk that is soon full                                                         |
| `results.py`       | the results of all parts of the proof, one JSON file each                        |
| `certificate.py`   | runs the proof and prints its certificate                                        |
"""
