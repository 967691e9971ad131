"""Buckets, by s3fs: listed a thousand keys at a time; a key is used exactly as it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ingest_pipeline.errors import BadSetting, FileVanished, SourceUnavailable, UnreadableDocument
from ingest_pipeline.models import ListedFile
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import file_name
from ingest_pipeline.sources.download import (
    Body,
    Downloads,
    ServerUnavailable,
    TruncatedResponse,
    patiently,
    revision_of,
)
from ingest_pipeline.sources.wording import changed, name_taken, not_a_source, vanished

LIST_KEYS = 1000  # the most that S3 returns in one response
MISSING = ("NoSuchKey", "404", "NotFound")
FORBIDDEN = ("AccessDenied", "AllAccessDisabled", "InvalidObjectState", "403")
"""Errors of one key; errors of credentials or clocks concern all keys."""
SETTINGS_ERRORS = (
    "NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidAccessKeyId",
    "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed",
)  # fmt: skip
CLIENT_ERRORS = (
    "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError", "InvalidRegionError",
    "NoRegionError", "EndpointResolutionError", "InvalidEndpointConfigurationError", "UnknownRegionError",
)  # fmt: skip
Response = TypeVar("Response")


def canonical(text: str) -> str:
    """Return the canonical spelling of a bucket and its prefix: without leading and trailing slashes.

    Raises:
        BadSetting: it names no bucket.
    """
    place = text.removeprefix("s3://").strip("/")
    if not place:
        raise not_a_source(text)
    return f"s3://{place}"


def open_source(name: str, access: Access) -> Downloads:
    """Return the source of this name."""
    return Downloads(Bucket(name, access), access)


def open_uploads(name: str, access: Access) -> Bucket:
    """Return the bucket of this name, to add files to it."""
    return Bucket(name, access)


class Bucket:
    """One `s3://bucket/prefix`. Credentials are found as by AWS's own tools: `AWS_*`, profiles, roles."""

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self._access = access
        self._bucket, _, prefix = name.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._files = _filesystem(access)

    def files(self) -> Iterator[ListedFile]:
        """Yield every object below the prefix in key order, without hidden names and folder markers.

        Raises:
            SourceUnavailable: the bucket cannot be listed completely.
            BadSetting: there is no such bucket, or access is denied.
        """
        more: dict[str, Any] = {}
        while True:
            arguments: dict[str, Any] = {"Prefix": self._prefix, "MaxKeys": LIST_KEYS, **more}
            # The raw call: one page at a time, keys exactly as they are written (docs/findings.md, J1).
            page = patiently(lambda: self._call("list_objects_v2", **arguments), self.name, self._access)  # noqa: B023
            for entry in page.get("Contents", ()):
                path = entry["Key"].removeprefix(self._prefix)
                if _is_document(path):
                    yield _listed(path, entry, int(entry["Size"]))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def head(self, path: str) -> ListedFile:
        """Return size and revision of one object.

        Raises:
            FileVanished: it no longer exists.
        """
        response = patiently(lambda: self._call("head_object", path, Key=self._prefix + path), path, self._access)
        return _listed(path, response, int(response["ContentLength"]))

    @contextmanager
    def get(self, path: str, *, begin: int, etag: str) -> Iterator[Body]:
        """Open an object's bytes from `begin` on.

        Raises:
            FileVanished, FileChanged: it no longer exists, or is no longer this version.
            ServerUnavailable: to be tried again.
        """
        from fsspec.asyn import sync

        arguments = {"Range": f"bytes={begin}-"} if begin else {}
        arguments |= {"IfMatch": f'"{etag}"'} if etag else {}  # a resumed download must not mix two versions
        response = self._call("get_object", path, Key=self._prefix + path, **arguments)
        stream = response["Body"]

        def read(size: int) -> bytes:
            try:
                return bytes(sync(self._files.loop, stream.read, size, timeout=self._access.stall_seconds))
            except Exception as error:  # aiohttp, botocore and asyncio have no common type for a broken response
                raise TruncatedResponse(type(error).__name__) from None

        try:
            yield Body(read, _etag(response), begin, begin + int(response["ContentLength"]))
        finally:
            stream.close()

    def add(self, path: str, pieces: Iterable[bytes], *, replace: bool) -> None:
        """Write an object atomically: it appears when it is complete, or not at all."""
        if not replace and self._exists(path):
            raise name_taken(self.name, path)
        try:
            self._put(path, pieces)
        except ServerUnavailable as error:  # not tried again: the stream can be read only once
            raise SourceUnavailable(f"{path}: {self.name} does not take it now: {error}") from None

    def _put(self, path: str, pieces: Iterable[bytes]) -> None:
        stream: Any = self._request(lambda: self._files.open(f"{self._bucket}/{self._prefix}{path}", "wb"), path)
        try:
            for piece in pieces:
                self._request(lambda: stream.write(piece), path)  # noqa: B023
            self._request(stream.close, path)
        except BaseException:
            stream.discard()
            stream.closed = True  # otherwise the destructor uploads what was written so far
            raise

    def _exists(self, path: str) -> bool:
        try:
            self.head(path)
        except FileVanished:
            return False
        return True

    def _call(self, method: str, path: str = "", **arguments: Any) -> Any:
        arguments.setdefault("Bucket", self._bucket)
        return self._request(lambda: self._files.call_s3(method, **arguments), path)

    def _request(self, send: Callable[[], Response], path: str) -> Response:
        """Return the response to a request; errors of all libraries become ours."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return send()
        except ValueError:
            raise BadSetting("INGEST_S3_ENDPOINT", self._access.s3_endpoint, "a URL that can be requested") from None
        except (OSError, ClientError, BotoCoreError) as error:
            raise self._translated(error, path) from None

    def _translated(self, error: Exception, path: str) -> Exception:
        code, name = _code(error), file_name(self.name, path) if path else self.name
        if code in ("PreconditionFailed", "412"):
            return changed(name, "while it was read")
        if type(error).__name__ in CLIENT_ERRORS:
            expected = f"credentials and a region that may read {self.name} ({type(error).__name__})"
            return BadSetting("AWS_*", "", expected)
        if code in SETTINGS_ERRORS or (not path and code in (*MISSING, *FORBIDDEN)):
            return BadSetting("INGEST_SOURCES", self.name, f"a bucket that these credentials may read ({code})")
        if code in MISSING or (not code and isinstance(error, FileNotFoundError)):
            return vanished(name)
        if code in FORBIDDEN or (not code and isinstance(error, PermissionError)):
            return UnreadableDocument(f"{name}: the server denies access ({code or 'forbidden'})")
        return ServerUnavailable(code or type(error).__name__)


def _filesystem(access: Access) -> Any:
    import s3fs

    # Its own retries are off: ours resume where the download stopped, and have a limit in time.
    return s3fs.S3FileSystem(
        endpoint_url=access.s3_endpoint or None,
        config_kwargs={
            "connect_timeout": access.stall_seconds, "read_timeout": access.stall_seconds,
            "retries": {"max_attempts": 1, "mode": "standard"},
        },
    )  # fmt: skip


def _code(error: Exception) -> str:
    """Return the S3 error code, which s3fs keeps in the cause of its errors."""
    inner = error if hasattr(error, "response") else error.__cause__
    response = getattr(inner, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _is_document(path: str) -> bool:
    return bool(path) and not path.endswith("/") and not any(part.startswith(".") for part in path.split("/"))


def _listed(path: str, response: dict[str, Any], size_bytes: int) -> ListedFile:
    modified = int(response["LastModified"].timestamp())
    return ListedFile(path, size_bytes, revision_of(_etag(response), size_bytes, modified))


def _etag(response: dict[str, Any]) -> str:
    return str(response.get("ETag", "")).strip('"')
