"""Buckets, by s3fs: listed a thousand keys at a time, a key taken exactly as it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ingest_pipeline.errors import BadSetting, FileVanished, UnreadableDocument
from ingest_pipeline.models import ListedFile
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.refusals import changed, vanished
from ingest_pipeline.sources.remote import AnswerCut, Body, ServerAway, patiently

LIST_KEYS = 1000
GONE = ("NoSuchKey", "404", "NotFound")
FORBIDDEN = ("AccessDenied", "AllAccessDisabled", "InvalidObjectState", "403")
"""Of one key; what is wrong with credentials or clocks is wrong with all of them."""
SETTINGS_AT_FAULT = (
    "NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidAccessKeyId",
    "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed",
)  # fmt: skip
CLIENT_AT_FAULT = (
    "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError", "InvalidRegionError",
    "NoRegionError", "EndpointResolutionError", "InvalidEndpointConfigurationError", "UnknownRegionError",
)  # fmt: skip
Answer = TypeVar("Answer")


class Bucket:
    """One `s3://bucket/prefix`. Credentials come from where AWS's own tools read them: `AWS_*`, profiles, roles."""

    def __init__(self, source: str, access: Access) -> None:
        self._source, self._access = source, access
        self._bucket, _, prefix = source.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._files = _filesystem(access)

    def files(self) -> Iterator[ListedFile]:
        """Yield every object below the prefix, in the order of its key; hidden names and folder marks are left out.

        Raises:
            SourceUnavailable: the bucket cannot be listed to its end.
            BadSetting: there is no such bucket, or it may not be listed.
        """
        more: dict[str, Any] = {}
        while True:
            asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": LIST_KEYS, **more}
            page = patiently(lambda: self._call("list_objects_v2", **asked), self._source, self._access)  # noqa: B023
            yield from (_listed(found, self._prefix) for found in page.get("Contents", ()) if self._is_document(found))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _is_document(self, found: dict[str, Any]) -> bool:
        path = found["Key"].removeprefix(self._prefix)
        return bool(path) and not path.endswith("/") and not any(part.startswith(".") for part in path.split("/"))

    def look(self, path: str) -> ListedFile:
        """Return size, time and ETag of one object.

        Raises:
            FileVanished: it is gone.
        """
        facts = patiently(lambda: self._call("head_object", path, Key=self._prefix + path), path, self._access)
        return ListedFile(path, int(facts["ContentLength"]), _nanoseconds(facts["LastModified"]), etag=_etag(facts))

    @contextmanager
    def get(self, path: str, *, begin: int, etag: str) -> Iterator[Body]:
        """Open an object's bytes from `begin` on.

        Raises:
            FileVanished, FileChanged: it is gone, or no longer this version.
            ServerAway: worth another try.
        """
        from fsspec.asyn import sync

        wanted = {"Range": f"bytes={begin}-"} if begin else {}
        wanted |= {"IfMatch": f'"{etag}"'} if etag else {}
        answer = self._call("get_object", path, Key=self._prefix + path, **wanted)
        stream = answer["Body"]

        def read(size: int) -> bytes:
            try:
                return bytes(sync(self._files.loop, stream.read, size, timeout=self._access.stall_seconds))
            except Exception as error:  # aiohttp, botocore and asyncio each have their own for a broken answer
                raise AnswerCut(type(error).__name__) from None

        try:
            yield Body(read, _etag(answer), begin, begin + int(answer["ContentLength"]))
        finally:
            stream.close()

    def put(self, path: str, pieces: Iterator[bytes]) -> None:
        """Write an object; it appears when it is complete, or not at all.

        Raises:
            ServerAway, BadSetting: the bucket does not take it.
        """
        stream: Any = self._asked(lambda: self._files.open(f"{self._bucket}/{self._prefix}{path}", "wb"), path)
        try:
            for piece in pieces:
                self._asked(lambda: stream.write(piece), path)  # noqa: B023
            self._asked(stream.close, path)
        except BaseException:
            stream.discard()
            stream.closed = True  # or its destructor would upload what there is
            raise

    def exists(self, path: str) -> bool:
        """Return whether there is such an object."""
        try:
            self.look(path)
        except FileVanished:
            return False
        return True

    def _call(self, method: str, path: str = "", **arguments: Any) -> Any:
        arguments.setdefault("Bucket", self._bucket)
        return self._asked(lambda: self._files.call_s3(method, **arguments), path)

    def _asked(self, ask: Callable[[], Answer], path: str) -> Answer:
        """Return what the server answers; its many kinds of errors become ours."""
        from botocore.exceptions import BotoCoreError, ClientError

        name = f"{self._source}/{path}" if path else self._source
        try:
            return ask()
        except ValueError:
            raise BadSetting("INGEST_S3_ENDPOINT", self._access.s3_endpoint, "a URL that can be asked") from None
        except (OSError, ClientError, BotoCoreError) as error:
            raise self._named(error, name, path) from None

    def _named(self, error: Exception, name: str, path: str) -> Exception:
        code = _code(error)
        if code in ("PreconditionFailed", "412"):
            return changed(name, "while it was read")
        if type(error).__name__ in CLIENT_AT_FAULT:
            expected = f"credentials and a region that may read {self._source} ({type(error).__name__})"
            return BadSetting("AWS_*", "", expected)
        if code in SETTINGS_AT_FAULT or (not path and code in (*GONE, *FORBIDDEN)):
            return BadSetting("INGEST_SOURCES", self._source, f"a bucket that these credentials may read ({code})")
        if code in GONE or (not code and isinstance(error, FileNotFoundError)):
            return vanished(name)
        if code in FORBIDDEN or (not code and isinstance(error, PermissionError)):
            return UnreadableDocument(f"{name}: the server does not let us read it ({code or 'forbidden'})")
        return ServerAway(code or type(error).__name__)


def _filesystem(access: Access) -> Any:
    import s3fs

    # Its own retries are off: ours know how far a file has come, and how long they may go on.
    return s3fs.S3FileSystem(
        endpoint_url=access.s3_endpoint or None,
        config_kwargs={
            "connect_timeout": access.stall_seconds, "read_timeout": access.stall_seconds,
            "retries": {"max_attempts": 1, "mode": "standard"},
        },
    )  # fmt: skip


def _code(error: Exception) -> str:
    """Return S3's own word for an error: s3fs hides it one deeper."""
    inner = error if hasattr(error, "response") else error.__cause__
    response = getattr(inner, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _listed(found: dict[str, Any], prefix: str) -> ListedFile:
    path, modified_ns = found["Key"].removeprefix(prefix), _nanoseconds(found["LastModified"])
    return ListedFile(path, int(found["Size"]), modified_ns, etag=_etag(found))


def _nanoseconds(when: Any) -> int:
    return int(when.timestamp()) * 10**9


def _etag(facts: dict[str, Any]) -> str:
    return str(facts.get("ETag", "")).strip('"')
