"""What monitors are told while something is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest
from starlette.testclient import TestClient

from ingest_pipeline.service import monitoring
from ingest_pipeline.service.app import create_app
from ingest_pipeline.service.state import READERS, opened_service
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.query_models import LOADED, LOADING, UNAVAILABLE, QueryModels

NOWHERE = "postgresql://127.0.0.1:1/none"


@contextmanager
def watched(settings: Settings, **changes: Any) -> Iterator[TestClient]:
    """A client of a service some parts of which are replaced."""
    with opened_service(settings) as service:
        service = replace(service, **changes)
        with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
            yield client


def test_a_missing_database_is_503(settings: Settings) -> None:
    """The check fails, in JSON as well, and the process goes on."""
    with watched(settings, url=NOWHERE) as client:
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()["database"]) == (503, False)
        assert answer.json()["status"] == "database away"
        assert client.head("/healthz").status_code == 503


def test_a_slow_database_is_503(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer in time is away for those who wait."""
    monkeypatch.setattr(monitoring, "DATABASE_SECONDS", 0.2)
    monkeypatch.setattr(monitoring, "answers", lambda url: time.sleep(1.5))
    with watched(settings) as client:
        began = time.monotonic()
        assert client.get("/healthz").status_code == 503
        assert time.monotonic() - began < 1


def test_a_busy_service_is_healthy(settings: Settings) -> None:
    """While all connections are at work the check answers 200."""
    with opened_service(settings) as service, ExitStack() as busy:
        for _ in range(READERS):
            busy.enter_context(service.pool.connection())
        with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
            assert client.get("/healthz").status_code == 200


def test_health_while_the_model_loads(settings: Settings) -> None:
    """The port answers before the model is there; a model that cannot be loaded is said, and no end."""
    models = QueryModels(replace(settings, model="no-such-model"))
    with watched(settings, models=models) as client:
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()["model"]) == (200, LOADING)
        models.prepare()
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()["model"]) == (200, UNAVAILABLE)


def test_models_load_before_questions(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """A question that comes while the model is loaded waits for that one; nothing is loaded twice."""
    models = QueryModels(settings)
    with caplog.at_level(logging.WARNING):
        loading = Thread(target=models.prepare)
        loading.start()
        vector = models.vector("steam")
        loading.join(60)
    assert (models.state, vector.vector.shape, len(models._loaded)) == (LOADED, (384,), 1)
    assert caplog.records == []
