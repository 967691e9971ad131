"""Loads the extractor of a spec; its module is imported when it is loaded, its client when it is first used."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.extraction.base import CallSeconds, Extractor
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.extraction.spec_fields import VARIABLE
from ingest_pipeline.remote.calls import Caller


class ExtractorModule(Protocol):
    """What a module of a provider offers."""

    SERVER_URL: str
    """Of the provider's own server."""

    def load(self, spec: ExtractSpec, caller: Caller, seconds: CallSeconds) -> Extractor:
        """Return the extractor.

        Raises:
            BadSetting: there is no key in the environment.
        """


@dataclass(frozen=True, slots=True)
class Provider:
    """What is known of a provider without loading it."""

    module: str
    package: str
    """The client library that the module imports."""
    extra: str
    """The optional dependency that installs it."""


PROVIDERS = {
    "gemini": Provider("ingest_pipeline.extraction.gemini", "google.genai", "gemini"),
    "openai": Provider("ingest_pipeline.extraction.openai_chat", "openai", "openai"),
}

if TYPE_CHECKING:  # the table holds names: here the types are compared
    from ingest_pipeline.extraction import gemini, openai_chat

    _MODULES: tuple[ExtractorModule, ...] = (gemini, openai_chat)


def load_extractor(spec: ExtractSpec, caller: Caller, seconds: CallSeconds | None = None) -> Extractor:
    """Return the extractor of a spec; no server is called.

    Args:
        spec: the provider, its server and the model.
        caller: makes the calls; one for each server, whoever calls it.
        seconds: how long the server may take.

    Raises:
        BadSetting: the client library is not installed, or there is no key in the environment.
    """
    provider = PROVIDERS[spec.provider]
    if not _is_installed(provider.package):
        raise BadSetting(VARIABLE, spec.provider, f"pip install 'ingest-pipeline[{provider.extra}]' first")
    module: ExtractorModule = importlib.import_module(provider.module)
    return module.load(spec, caller, seconds or CallSeconds())


def server_url(spec: ExtractSpec) -> str:
    """Return where the server of a spec is."""
    module: ExtractorModule = importlib.import_module(PROVIDERS[spec.provider].module)
    return spec.url or module.SERVER_URL


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the package that holds it is not there
        return False
