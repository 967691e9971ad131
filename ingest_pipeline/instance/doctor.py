"""What `ingest doctor` looks at of Dagster: its home, its configuration, the port of its webserver.

Dagster is imported within the checks, so that one that cannot be imported is a line among others.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ingest_pipeline.errors import BadSetting, ConfigurationError
from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.doctor.bounded import Seen, fail, looked, ok, warn

HTTP_SECONDS = 5.0
LOCATIONS = "{locationStatusesOrError{... on WorkspaceLocationStatusEntries{entries{name}}}}"
OUR_LOCATION = "ingest_pipeline"


def checks(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about Dagster."""
    home = settings.home / "dagster"
    yield looked(
        "dagster home", lambda: _home(home), advice="run inside the project's folder, or one with its dagster.yaml"
    )
    yield looked("port", lambda: _port(settings), advice="set INGEST_UI_PORT")


def _home(home: Path) -> Seen:
    from ingest_pipeline.instance.home import CONFIG, find_config

    config = find_config()
    there = next(path for path in (home, *home.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return fail(f"{there} cannot be written", "let this user write there, or set INGEST_HOME")
    named = os.environ.get("DAGSTER_HOME", "")
    if named and Path(named) != home and not _is_copy(Path(named) / CONFIG, config):
        return fail(
            f"DAGSTER_HOME={named} has another {CONFIG} than {config}, or none",
            f"copy {config} there, or unset DAGSTER_HOME: Dagster's own commands would use another storage",
        )
    if not (home / CONFIG).exists():
        return ok(f"{home}: not made yet")
    if not _is_copy(home / CONFIG, config):
        return warn(
            f"{home / CONFIG} is not that of {config}",
            "the next `ingest run` or `ingest ui` copies it; restart services",
        )
    return ok(f"{home}, with {config}")


def _is_copy(path: Path, config: Path) -> bool:
    return path.is_file() and path.read_text() == config.read_text()


def _port(settings: Settings) -> Seen:
    from ingest_pipeline.instance.services import require_free_port

    try:
        require_free_port(settings)
    except BadSetting as error:
        return fail(str(error), "set INGEST_UI_HOST")
    except ConfigurationError:
        return _taken(settings)
    return ok(f"{settings.ui_port} on {settings.ui_host} is free")


def _taken(settings: Settings) -> Seen:
    names = _locations(settings)
    if any(name.startswith(OUR_LOCATION) for name in names):
        return ok(f"{settings.ui_port}: our own webserver answers")
    holder = f"a Dagster of others ({', '.join(names)})" if names else "another program"
    return fail(f"{settings.ui_port} on {settings.ui_host} is held by {holder}", "set INGEST_UI_PORT to a free port")


def _locations(settings: Settings) -> list[str]:
    """Return the code locations of the Dagster webserver at the port; [] if there is none."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.ui_port}/graphql",
        data=json.dumps({"query": LOCATIONS}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=HTTP_SECONDS) as response:
            answer = json.loads(response.read())
        return [str(entry["name"]) for entry in answer["data"]["locationStatusesOrError"]["entries"]]
    except (OSError, ValueError, KeyError, TypeError):  # urllib's errors are OSErrors
        return []
