"""Crash safety, proved: SQLite's method on our own code. docs/crash-safety.md says what is claimed.

| module             | what it does                                                                      |
|--------------------|-----------------------------------------------------------------------------------|
| `kill_points.py`   | counts the places where a process may die, and kills it at one of them            |
| `job.py`           | a whole ingestion on `stages/`, as `ingest run` does it, without Dagster          |
| `forked_parser.py` | the parser's child, forked in milliseconds; a page may end it                     |
| `scenes.py`        | the twelve documents, and what is done to them between two ingestions             |
| `dump.py`          | what two ingestions must agree on, in order                                       |
| `trials.py`        | one job in a forked process, killed once or twice, recovered, compared            |
| `plans.py`         | which trials there are: points, pairs, rivals, storms                             |
| `lanes.py`         | trials on every core, each with a database of its own; passed ones are kept       |
| `file_trials.py`   | work on files, killed before and after each call that changes a folder            |
| `small_disk.py`    | a disk that is soon full                                                          |
| `results.py`       | the results of all parts of the proof, one JSON file each                         |
| `figures.py`       | collects the figures of one part while it runs, with the seconds that it took     |
| `certificate.py`   | runs the proof and prints its certificate                                         |
| `invariants.py`    | what is true of the store at every moment, whatever runs, is killed, or is swept  |
| `killing.py`       | a connection whose client dies at its n-th exchange with the server               |
| `stages.py`        | a folder, and runs over the real stages that are stepped, killed and reconciled   |
| `machine.py`       | hypothesis' state machine over them                                               |
| `sessions.py`      | what two or three sessions do at once, statement by statement, by a seed          |
| `readers.py`       | readers that query in a loop while files are replaced                             |
| `lifecycle.py`     | the life of files, batches, runs and the sweep as a table of transitions          |
| `packing.py`       | its states as numbers, the same for states that differ in names alone             |
| `explorer.py`      | explores it breadth first                                                         |
| `edges.py`         | the edges that each statement of `files.sql` really has                           |
| `guards.py`        | lists the guards in the store's SQL, and takes one away at run time               |
| `cases.py`         | cases for one guard each, of files and batches                                    |
| `content_cases.py` | the same of chunks, vectors, entities and extracts                                |
| `mutants.py`       | runs the checks against a store without one guard                                 |
| `migrating.py`     | migrations that lose their connection at each statement                           |
"""
