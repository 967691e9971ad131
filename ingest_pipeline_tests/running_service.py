"""The web service for tests: uvicorn in a thread, on a free port, as `ingest serve` runs it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import uvicorn

from ingest_pipeline.service.app import create_app
from ingest_pipeline.service.state import opened_service
from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.serving import TOKEN

HOST = "127.0.0.1"


@contextmanager
def running_service(settings: Settings) -> Iterator[str]:
    """Run the service; yield its URL."""
    settings = replace(settings, service_token=TOKEN)
    with opened_service(settings) as service, socket.create_server((HOST, 0)) as listening:
        config = uvicorn.Config(create_app(service), log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://{HOST}:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def address_of(url: str) -> tuple[str, int]:
    """Return host and port of the service, for a socket."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)
