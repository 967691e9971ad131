"""Crash safety, proved: the machinery of the proofs `test_crash_*.py`. This module imports nothing.

| module         | what it does                                                                          |
|----------------|---------------------------------------------------------------------------------------|
| `invariants.py`| what is true of the store at every moment, whatever runs, is killed, or is swept       |
| `killing.py`   | a connection whose client dies at its n-th exchange with the server                    |
| `stages.py`    | a folder, and runs over the real stages that are stepped, killed and reconciled        |
| `machine.py`   | hypothesis' state machine over them                                                    |
| `sessions.py`  | what two or three sessions do at once, statement by statement, by a seed               |
| `readers.py`   | readers that query in a loop while files are replaced                                  |
| `explorer.py`  | the life of files, batches, runs and the sweep as a table, explored breadth first      |
| `edges.py`     | the edges that each statement of `files.sql` really has                                |
| `guards.py`    | lists the guards in the store's SQL, and takes one away at run time                    |
| `mutants.py`   | runs the checks against a store without one guard                                      |
| `migrating.py` | migrations that lose their connection at each statement                                |
| `results.py`   | writes the figures of each part down for the certificate                               |
"""
