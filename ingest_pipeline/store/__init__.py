"""The only room that speaks SQL. This module imports nothing.

`server.py` runs the embedded Postgres; `connection.py` opens connections and names their failures;
`migrate.py` brings the schema up to date; `ledger.py` knows what is true of every file; `batches.py` seals
and settles batches; `generations.py` holds chunks and flips versions; `vectors.py` holds embeddings;
`search.py` answers queries; `reports.py` counts.
"""
