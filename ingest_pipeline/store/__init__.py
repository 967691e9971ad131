"""The only package that speaks SQL. This module imports nothing.

`server.py` runs the embedded Postgres; `connection.py` opens connections and names their failures; `migrate.py` brings
the schema up to date; `locks.py` has the transactions' locks. `ledger.py` reads what is known of every file and keeps
attempts; `files.py` (with `files.sql`, found by `queries.py`) makes every change of a file; `batches.py` seals batches
and reconciles them; `incidents.py` counts errors that are no file's; `generations.py` holds chunks and publishes them;
`vectors.py` holds embeddings, `recall.py` measures their index; `search.py` answers queries; `costs.py` keeps what
files did cost; `reports.py` counts, `failures.py` groups what went wrong. `damage.py` (with `damage.sql` and
`repairs.sql`) finds and repairs, `reset.py` selects what is tried again, `erasure.py` deletes documents, `ignored.py`
keeps them out. `backup.py` counts and restores, `dump.py` runs pg_dump and pg_restore, `backup_file.py` is the file.
"""
