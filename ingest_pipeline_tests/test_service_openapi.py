"""The description of the API is of the API that is there: each route, and each answer to requests made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from starlette.routing import BaseRoute, Mount, Route

from ingest_pipeline.service import documents
from ingest_pipeline.service.app import ROUTE_MODULES
from ingest_pipeline.service.openapi import described
from ingest_pipeline.service.openapi_operations import PATHS
from ingest_pipeline.service.openapi_schemas import SCHEMAS
from ingest_pipeline_tests.gemini_server import GeminiServer
from ingest_pipeline_tests.running_service import running_service
from ingest_pipeline_tests.serving import BEARER
from ingest_pipeline_tests.test_stages_extracts import (  # noqa: F401
    Asking,
    asking,
    gemini,
    running,
    write_pdf,
    write_spec,
)

FOR_PEOPLE = ("/", "/files", "/files/{file_id}", "/files/{file_id}/memory.svg", "/static", "/sign-in")
FOR_AGENTS = ("/mcp",)
"""Their protocol describes itself."""
CHECKS = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance, checks.response_headers_conformance,
]  # fmt: skip
EXAMPLES = 80
"""Of each operation and kind: about a minute in all."""


def app_routes() -> list[BaseRoute]:
    return [route for module in ROUTE_MODULES for route in module.routes()]


def asked() -> set[tuple[str, str]]:
    """Path and method of each route for programs."""
    pairs = set()
    for route in app_routes():
        assert isinstance(route, Route | Mount)
        if route.path not in FOR_PEOPLE + FOR_AGENTS:
            assert isinstance(route, Route)
            pairs |= {(route.path, method.lower()) for method in (route.methods or ()) if method != "HEAD"}
    return pairs


def test_each_route_is_described() -> None:
    """Each route for programs is described, and nothing else is."""
    paths = described(app_routes())["paths"]
    assert {(path, method) for path, operations in paths.items() for method in operations} == asked()


def test_each_operation_is_there() -> None:
    """Nothing that the table describes has lost its route."""
    assert {(path, method) for path, operations in PATHS.items() for method in operations} <= asked()


def test_description_is_whole() -> None:
    """Each reference leads to a schema, each schema is one, names of operations are unique, each has its errors."""
    document = described(app_routes())
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in SCHEMAS
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    operations = [one for path in PATHS.values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert {"default", "401"} < set(one["responses"]) and one["summary"].endswith(".")
    writing = [one for path in PATHS.values() for method, one in path.items() if method != "get"]
    assert all(one["security"] == [{"bearer": []}] for one in writing)


@pytest.fixture
def described_service(
    asking: Asking,  # noqa: F811
    gemini: GeminiServer,  # noqa: F811
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A service with a searchable PDF, an LLM and a quick embedder; nobody waits long."""
    write_pdf(source / "a.pdf", "Bread and flour", "Ovens")
    (source / "broken.pdf").write_bytes(b"%PDF-1.7 no more")
    spec = asking.settings.extract
    asking.settings = replace(asking.settings, extract="")
    asking.ingest()
    asking.settings = replace(asking.settings, extract=spec)
    write_spec(asking.settings, gemini.url)
    monkeypatch.setattr(documents, "MOST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(documents, "DEFAULT_WAIT_SECONDS", 0.1)
    with running_service(asking.settings) as url:
        yield url


def name_what_is_there(document: dict[str, Any]) -> None:
    """Let requests name documents, files and the model that the service has: what is made up is refused early."""
    bodies = [
        operations["post"]["requestBody"]["content"]
        for operations in document["paths"].values()
        if "post" in operations
    ]
    for properties in (
        body["schema"]["properties"] for content in bodies for body in content.values() if body["schema"]
    ):
        if "input" in properties:
            properties["model"] = {"enum": ["one"]}
        if "prompt" in properties and "contentMediaType" not in properties["document"]:
            properties["document"] = {"enum": ["a.pdf", "none.pdf"]}
    for operations in document["paths"].values():
        for parameter in operations.get("get", {}).get("parameters", ()):
            if parameter["name"] in ("file", "file_id"):
                parameter["schema"] = {"enum": [0, 1, 2]}


@pytest.mark.proof
def test_answers_conform(described_service: str) -> None:
    """Requests made from the description, sensible and senseless ones, get answers as described; none fails."""
    document: dict[str, Any] = httpx.get(f"{described_service}/openapi.json").json()
    name_what_is_there(document)
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=described_service)
    tried: dict[str, list[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
                continue

            @hypothesis_settings(
                max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def asks(case: Any) -> None:
                answer = case.call(headers=BEARER, timeout=30)
                busy = answer.status_code == 503 and answer.json()["error"] == "Busy"
                # One document is asked about at a time: the one before may still be at its end.
                case.validate_response(answer, checks=CHECKS[1:] if busy else CHECKS)
                tried.setdefault(case.operation.label, []).append(answer.status_code)

            asks()
    for label, statuses in sorted(tried.items()):
        print(label, {status: statuses.count(status) for status in sorted(set(statuses))})
    assert len(tried) == len(asked())
