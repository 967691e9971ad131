"""Asks Gemini through google-genai. A document is uploaded under our name, asked about, and deleted in every case."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ingest_pipeline.errors import BadSetting, CallError, CallFailed, InputRejected, ServiceUnavailable
from ingest_pipeline.extraction.ask import REPAIR
from ingest_pipeline.extraction.base import Answer, CallSeconds, Note, Question, Remote, nothing
from ingest_pipeline.extraction.gemini_answers import answer_of
from ingest_pipeline.extraction.gemini_failures import NameTaken, NotThere, named_failures, raise_for_upload
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.remote.calls import Caller
from ingest_pipeline.remote.transport import CONNECT_SECONDS, bounded_client

if TYPE_CHECKING:
    import httpx2
    from google import genai

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
SERVER_URL = "https://generativelanguage.googleapis.com"
FIRST_POLL_SECONDS, MAX_POLL_SECONDS = 0.2, 5.0
"""A PDF is readable at once or within seconds; other media take minutes."""
FILES_SECONDS = 60.0
"""For the state of a file, its deletion and the list."""
LIST_SIZE = 100
"""Files in one page of the list: the most that the server gives."""


@dataclass(frozen=True, slots=True)
class GeminiAccess:
    """Where the server is, and how long it may take. The key is not here: it is read from the environment when used."""

    url: str = SERVER_URL
    api_version: str = "v1"
    seconds: CallSeconds = field(default_factory=CallSeconds)


def load(spec: ExtractSpec, caller: Caller, seconds: CallSeconds) -> Gemini:
    """Return the extractor.

    Raises:
        BadSetting: there is no key in the environment.
    """
    _key()
    return Gemini(spec.model, caller, GeminiAccess(spec.url or SERVER_URL, spec.api_version, seconds))


class Gemini:
    """Asks one model; see `Extractor`."""

    def __init__(self, model: str, caller: Caller, access: GeminiAccess) -> None:
        self._model, self._caller, self._access = model, caller, access
        self._lock = threading.Lock()
        self._opened: tuple[genai.Client, httpx2.Client] | None = None

    @contextmanager
    def uploaded(self, question: Question, note: Note = nothing) -> Iterator[Remote | None]:
        """Keep the question's document on the server for the length of a `with`, and delete it in every case.

        Raises:
            InputRejected: the server cannot read the document.
            CallFailed: the upload failed, or the document was not readable in time.
        """
        if question.document is None:
            yield None
            return
        assert question.remote_name  # else the server chooses one, and nobody can delete what a kill leaves
        arrived = False
        try:
            file = self._upload(question)
            arrived = True
            remote = self._readable(file)
            note("uploaded")
            yield remote
        finally:  # also after a KeyboardInterrupt in the middle of the upload
            deleted = self._discard(question.remote_name)
            # An upload that was broken off may still arrive: then only a sweep can know that it is gone.
            note("deleted" if deleted and arrived else "left")

    def ask(self, question: Question, remote: Remote | None) -> Answer:
        """Return the server's answer, or its verdict."""
        return self._generate(question, [_said("user", question.prompt, remote)])

    def ask_again(self, question: Question, remote: Remote | None, *, answer: Answer, error: str) -> Answer:
        """Return the answer to the same question, given an invalid answer and what is wrong with it."""
        contents = [
            _said("user", question.prompt, remote),
            _said("model", answer.text),
            _said("user", REPAIR.format(error=error)),
        ]
        return self._generate(question, contents)

    def delete_remote(self, name: str) -> None:
        """Delete a remote file; one that is not there is no error."""
        try:
            self._call(lambda client: client.files.delete(name=f"files/{name}", config=_of_files()))
        except NotThere:
            logger.debug("remote file %s: was not there", name)

    def list_remote(self) -> Iterator[str]:
        """Yield the name of each remote file of the account, whoever uploaded it."""
        pager = self._call(lambda client: client.files.list(config=_of_files(page_size=LIST_SIZE)))
        while True:
            yield from [str(file.name).removeprefix("files/") for file in pager.page]
            if not pager.config.get("page_token"):
                return
            self._call(lambda _: pager.next_page())

    def close(self) -> None:
        """Close the connections; the extractor can be used again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened:
            opened[0].close()
            opened[1].close()

    def _upload(self, question: Question) -> Any:
        try:
            return self._call(lambda client: _send(client, question))
        except NameTaken:  # by an upload that a run, or a lost connection, did not finish
            logger.info("remote file %s: is there already, deleting it", question.remote_name)
            self.delete_remote(question.remote_name)
            return self._call(lambda client: _send(client, question))

    def _readable(self, file: Any) -> Remote:
        """Return the file once the server can read it."""
        deadline = time.monotonic() + self._access.seconds.readable
        wait = FIRST_POLL_SECONDS
        while (state := getattr(file.state, "value", "ACTIVE")) != "ACTIVE":
            if state == "FAILED":
                raise InputRejected("the server cannot read the document: its state is FAILED")
            if time.monotonic() + wait > deadline:
                raise CallFailed(f"the document is not readable after {self._access.seconds.readable:.0f} s")
            time.sleep(wait)
            wait = min(2 * wait, MAX_POLL_SECONDS)
            file = self._file(str(file.name))
        return Remote(str(file.name).removeprefix("files/"), str(file.uri), str(file.mime_type))

    def _file(self, name: str) -> Any:
        return self._call(lambda client: client.files.get(name=name, config=_of_files()))

    def _discard(self, name: str) -> bool:
        """Delete the file, and return whether that was possible; an error would hide what was answered, or why not."""
        try:
            self.delete_remote(name)
        except (CallError, ServiceUnavailable) as error:
            logger.warning("remote file %s: not deleted (%s)", name, error)
            return False
        return True

    def _generate(self, question: Question, contents: list[Any]) -> Answer:
        config: Any = {
            "response_mime_type": "application/json",
            "response_json_schema": question.schema,
            "max_output_tokens": question.max_output_tokens,
            "temperature": question.temperature,
            "automatic_function_calling": {"disable": True},
        }

        def generate(client: genai.Client) -> Answer:
            return answer_of(client.models.generate_content(model=self._model, contents=contents, config=config))

        return self._call(generate, tokens=question.tokens)

    def _call(self, work: Callable[[genai.Client], Result], *, tokens: int = 0) -> Result:
        def named() -> Result:
            with named_failures():
                return work(self._client())

        return self._caller.call(named, tokens=tokens)

    def _client(self) -> genai.Client:
        with self._lock:
            if self._opened is None:
                self._opened = _open_client(self._access)
            return self._opened[0]


def _key() -> str:
    for variable in KEY_VARIABLES:
        if key := os.environ.get(variable, "").strip():
            return key
    raise BadSetting(KEY_VARIABLES[0], "", f"the key of your account, in the environment (or {KEY_VARIABLES[1]})")


def _open_client(access: GeminiAccess) -> tuple[genai.Client, httpx2.Client]:
    from google import genai
    from google.genai.types import HttpOptions

    http = bounded_client(call_seconds=access.seconds.call)
    http.event_hooks = {"request": [_connect_soon], "response": [raise_for_upload]}
    options = HttpOptions(
        base_url=access.url,
        api_version=access.api_version,
        timeout=int(access.seconds.call * 1000),  # without it the client passes None, and nothing times out
        httpx_client=http,
    )
    # vertexai: else the environment may say that another service is called, with other credentials.
    return genai.Client(vertexai=False, api_key=_key(), http_options=options), http


def _connect_soon(request: httpx2.Request) -> None:
    """Bound the time to connect: google-genai has one timeout for all, and an answer may take minutes."""
    timeout = request.extensions.get("timeout")
    if isinstance(timeout, dict):
        timeout["connect"] = CONNECT_SECONDS


def _of_files(**more: Any) -> Any:
    """Return the options of a call that moves no document and makes no answer."""
    return {"http_options": {"timeout": int(FILES_SECONDS * 1000)}, **more}


def _send(client: genai.Client, question: Question) -> Any:
    assert question.document is not None
    config: Any = {
        "name": question.remote_name,
        "display_name": question.display_name or question.remote_name,
        "mime_type": question.media_type,
    }
    with question.document.open("rb") as file:  # of a path, the client would send the name to the server
        return client.files.upload(file=file, config=config)


def _said(role: str, text: str, remote: Remote | None = None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": text}]
    if remote:
        parts.insert(0, {"file_data": {"file_uri": remote.uri, "mime_type": remote.media_type}})
    return {"role": role, "parts": parts}
