"""The port of a service, taken before anything else is started."""

from __future__ import annotations

import errno
import socket

from ingest_pipeline.errors import BadSetting, ConfigurationError

WAITING_CONNECTIONS = 128
"""Connections that the kernel keeps for a process that is busy."""


def bound_socket(host: str, port: int, *, service: str) -> socket.socket:
    """Return a socket that is bound to an address; nobody can take it any more.

    Args:
        host: an IPv4 address.
        port: 0 for one that is free.
        service: `UI` for `INGEST_UI_PORT` and `INGEST_UI_HOST`, in messages.

    Raises:
        ConfigurationError: the port is taken, or the address is not this machine's.
    """
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a port just released counts as taken
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(f"port {port} on {host} is taken: set INGEST_{service}_PORT") from None
        if error.errno == errno.EACCES:
            raise ConfigurationError(f"port {port} on {host}: {error.strerror}; set INGEST_{service}_PORT") from None
        wanted = f"an address of this machine ({error.strerror})"
        raise BadSetting(f"INGEST_{service}_HOST", host, wanted) from None
    return bound
