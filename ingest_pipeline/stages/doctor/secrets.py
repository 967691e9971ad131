"""Takes passwords, keys and values of secret settings out of what is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from urllib.parse import parse_qs, unquote, urlsplit

from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings, info_of

HIDDEN = "…"
KEY_NAMES = re.compile("KEY|SECRET|TOKEN|PASSWORD")
LEAST_KEY_CHARACTERS = 6
"""Shorter values of such variables are no keys, and would be found in any text."""


def without_secrets(finding: Finding, settings: Settings) -> Finding:
    """Return a finding that shows no secret of the settings or of the environment."""
    seen, advice = finding.seen, finding.advice
    for secret in sorted(set(_secrets(settings)), key=len, reverse=True):  # a URL before the password in it
        seen, advice = seen.replace(secret, HIDDEN), advice.replace(secret, HIDDEN)
    return replace(finding, seen=seen, advice=advice)


def _secrets(settings: Settings) -> Iterator[str]:
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if info_of(setting).secret and value and value != setting.default:
            yield from value if isinstance(value, tuple) else (value,)
    yield from _passwords_of(settings.database_url)
    for name, value in os.environ.items():
        if KEY_NAMES.search(name) and not name.startswith("INGEST_") and len(value) >= LEAST_KEY_CHARACTERS:
            yield value


def _passwords_of(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        written = [parts.password or "", *parse_qs(parts.query).get("password", [])]
    except ValueError:  # no URL: it is hidden as a whole
        return
    for password in written:
        yield from (text for text in (password, unquote(password)) if text)
