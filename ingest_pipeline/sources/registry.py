"""Maps the scheme of a source's URL to the module that reads it. Modules are imported when a source needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.schemes import FOLDER, known_forms, scheme_of
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import Source, Uploads
from ingest_pipeline.sources.wording import not_a_source


class Adapter(Protocol):
    """The functions of such a module; one whose sources accept uploads has `open_uploads(name, access)`, too."""

    def canonical(self, text: str) -> str:
        """Return the canonical spelling of a source; raise BadSetting if it cannot be a source."""

    def open_source(self, name: str, access: Access) -> Source:
        """Return the source of this canonical name; its libraries are imported here."""


if TYPE_CHECKING:  # the table holds module names only: this lets mypy check the modules against the protocols
    from ingest_pipeline.sources import bucket, folder, url_list

    _ADAPTERS: tuple[Adapter, ...] = (folder, bucket, url_list)
    _UPLOADS: tuple[Callable[[str, Access], Uploads], ...] = (folder.open_uploads, bucket.open_uploads)


def canonical_source(text: str) -> str:
    """Return the canonical spelling of a source, so that `./docs` and `docs/` are the same rows in the ledger.

    Raises:
        BadSetting: an unsupported kind of URL, a folder that does not exist, or a URL with a password in it.
    """
    scheme, separator, rest = text.partition("://")
    # Refused before any adapter sees it: names of sources are stored in the ledger and shown in the UI.
    if separator and scheme != "file" and "@" in rest.partition("/")[0]:
        raise BadSetting(
            "INGEST_SOURCES", f"{scheme}://…", f"{known_forms()}, without a password: those belong in .netrc or AWS_*"
        )
    return _adapter_of(text).canonical(text)


def canonical_sources(names: Iterable[str]) -> list[str]:
    """Return each source once, in the order given.

    Raises:
        BadSetting: as for `canonical_source`.
    """
    return list(dict.fromkeys(canonical_source(name) for name in names))


def source_of(name: str, access: Access) -> Source:
    """Return the source of a canonical name.

    Raises:
        BadSetting: not a name of any kind of source.
    """
    return _adapter_of(name).open_source(name, access)


def uploads_of(name: str, access: Access) -> Uploads:
    """Return the object that adds files to the source of a canonical name.

    Raises:
        BadSetting: this source accepts no uploads.
    """
    open_uploads: Callable[[str, Access], Uploads] | None = getattr(_adapter_of(name), "open_uploads", None)
    if open_uploads is None:
        raise BadSetting("--to", name, "a folder or a bucket: this source takes no files")
    return open_uploads(name, access)


def spelled_source(text: str) -> str:
    """Return the canonical spelling of a source that need not exist on this machine yet.

    Raises:
        BadSetting: as for `canonical_source`, where it is no folder.
    """
    if scheme_of(text) is FOLDER:
        return str(_adapter_of(text).spelled(text))  # type: ignore[attr-defined]
    return canonical_source(text)


def make_source(name: str) -> None:
    """Make the folder of a source if it is one, so that files can be added to it.

    Raises:
        UploadRefused: it cannot be made.
    """
    if scheme_of(name) is FOLDER:
        _adapter_of(name).make(name)  # type: ignore[attr-defined]


def takes_files(name: str) -> bool:
    """Return whether files can be added to the source of a canonical name."""
    return hasattr(_adapter_of(name), "open_uploads")


def _adapter_of(name: str) -> Adapter:
    scheme = scheme_of(name)
    if scheme is None:
        raise not_a_source(name)
    return cast(Adapter, import_module(scheme.module))
