"""A connection whose client dies at its n-th exchange with the server, as by SIGKILL."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg
from pgvector.psycopg import register_vector

from ingest_pipeline.store.connection import SEARCH_PATH


class Killed(BaseException):
    """The process of this run is gone: nothing that it would do afterwards happens."""


class MortalConnection(psycopg.Connection[Any]):
    """A connection that can be killed at once, or at a later exchange."""

    exchanges_left: int | None = None
    """None: it lives."""
    after_answer = False
    """The server has done what was asked, and the client does not know it any more."""

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Let one exchange with the server happen, or die."""
        if self.exchanges_left is None:
            return super().wait(gen, *arguments, **options)
        self.exchanges_left -= 1
        if self.exchanges_left < 0 and self.after_answer and not self.pgconn.status:
            super().wait(gen, *arguments, **options)
        if self.exchanges_left < 0:
            self.kill()
        return super().wait(gen, *arguments, **options)

    def kill(self) -> None:
        """Die now; the server finds the socket closed and rolls back.

        Raises:
            Killed: always.
        """
        self.exchanges_left = -1
        self.pgconn.finish()
        raise Killed


def mortal(url: str) -> MortalConnection:
    """Return such a connection, of the kind that the stages use."""
    connection = MortalConnection.connect(url, autocommit=True, options=f"-csearch_path={SEARCH_PATH}")
    register_vector(connection)
    return connection
