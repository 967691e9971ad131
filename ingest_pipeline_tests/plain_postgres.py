"""A plain PostgreSQL with pgvector, as a user has one: a TCP port, a password, a role that is no superuser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ingest_pipeline.store.server import _unprivileged, postgres_program
from ingest_pipeline_tests.servers import free_port

PASSWORD = "a-secret:never/to@be-shown"
QUOTED = "a-secret%3Anever%2Fto%40be-shown"


class PlainPostgres:
    """A server on a TCP port. Its superuser has made a role `app` that owns the databases, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.admin = f"postgresql://postgres:{QUOTED}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Make it and start it."""
        self.folder.mkdir(parents=True)
        (self.folder / "password").write_text(PASSWORD)
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", "--no-sync",
                  f"--pwfile={self.folder / 'password'}")  # fmt: skip
        options = f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "start", "-D", data, "-l", str(self.folder / "log"), "-w", "-o", options)
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")

    def database(self, name: str, *, extension_in: str | None = "extensions") -> str:
        """Make a database that `app` owns, with pgvector in a schema; return its URL."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" OWNER app')  # type: ignore[arg-type]
        if extension_in:
            with psycopg.connect(self.admin, dbname=name, autocommit=True) as connection:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {extension_in}")  # type: ignore[arg-type]
                connection.execute(f"GRANT USAGE ON SCHEMA {extension_in} TO PUBLIC")  # type: ignore[arg-type]
                connection.execute(f"CREATE EXTENSION vector SCHEMA {extension_in}")  # type: ignore[arg-type]
        return f"postgresql://app:{QUOTED}@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """Stop it."""
        self._run("pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_unprivileged(self.folder), str(postgres_program(program)), *arguments]
        with (self.folder / "output").open("ab") as output:  # a file: the server inherits it, and a pipe would wait
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")


@contextmanager
def plain_server(folder: Path) -> Iterator[PlainPostgres]:
    """A running server."""
    server = PlainPostgres(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
