"""A server that speaks Gemini's Files and generate calls as google-genai sends them, and fails as it is told.

`python -m ingest_pipeline_tests.gemini_server PORT` runs it as a process: GET `/_state` says what was called and which
files are left; POST `/_script` takes `{"faults": [{"call": "generate", "do": "status", "code": 503}, …]}` and fields
of `Script`. Each fault spoils one call of its kind, in the order in which they were added.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

PIECE_BYTES = 64 * 1024
KEY = "gemini-key-never-to-be-logged"
HTML = b"<html><body>Sign in to the network</body></html>"
NAME = re.compile(r"files/[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
NO_FILE = "You do not have permission to access the File {} or it may not exist."
CALLS = ("start", "upload", "get", "generate", "delete", "list")


@dataclass
class Script:
    """How the server behaves when no fault is due."""

    polls: int = 0
    """Times that a file is PROCESSING before it is ACTIVE."""
    state: str = "ACTIVE"
    """What a file becomes: ACTIVE or FAILED."""
    answer: str = ""
    """The text of every answer; '': the smallest value of the schema that was sent."""
    seconds: float = 0.0
    """For how long an answer takes."""
    key: str = ""
    """The only key that is accepted; '': each is."""
    fail_prefix: str = ""
    """Prompts that start so are answered with 503, whatever the faults are: one section that always fails."""


@dataclass
class RemoteFile:
    """A file on the server; its bytes are counted, not kept."""

    name: str
    media_type: str
    display_name: str
    size: int = 0
    sha256: str = ""
    polls: int = 0
    state: str = "PROCESSING"


@dataclass
class State:
    """What the server knows."""

    calls: Counter[str] = field(default_factory=Counter)
    files: dict[str, RemoteFile] = field(default_factory=dict)
    uploads: dict[str, RemoteFile] = field(default_factory=dict)
    prompts: Counter[str] = field(default_factory=Counter)
    """SHA-256 of the first text of a question -> how often it was asked."""
    documents: Counter[str] = field(default_factory=Counter)
    """SHA-256 of a document -> how often it was uploaded."""
    most_files: int = 0
    """Files at once."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the questions."""

    def as_json(self) -> dict[str, Any]:
        """What `/_state` answers."""
        return {
            "calls": dict(self.calls), "files": sorted(self.files), "prompts": dict(self.prompts),
            "documents": dict(self.documents), "most_files": self.most_files,
        }  # fmt: skip


class GeminiServer(http.server.ThreadingHTTPServer):
    """The server; in tests of one process its state is looked at directly."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.reset()

    @property
    def url(self) -> str:
        """What to set as `url` of a spec."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def reset(self) -> None:
        """Forget everything."""
        self.state, self.script = State(), Script()
        self.faults: dict[str, list[dict[str, Any]]] = {call: [] for call in CALLS}
        self.on_call: Callable[[str], None] = lambda _: None
        """Is told of each call before it is answered."""

    def fail(self, call: str, do: str, **more: Any) -> None:
        """Spoil the next call of a kind that no other fault spoils; see `Handler.spoil` for what can be done."""
        assert call in CALLS, call
        self.faults[call].append({"do": do, **more})

    def next_fault(self, call: str) -> dict[str, Any] | None:
        """Count a call, and take the fault that is due."""
        with self.lock:
            self.state.calls[call] += 1
            fault = self.faults[call].pop(0) if self.faults[call] else None
        self.on_call(call)
        return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients that are killed break off."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: GeminiServer
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        if self.path == "/_script":
            self.take_script()
        elif re.fullmatch(r"/upload/v1(beta)?/files", self.path):
            self.called("start", self.start_upload)
        elif self.path.startswith("/upload/"):
            self.called("upload", self.upload)
        elif re.fullmatch(r"/v1(beta)?/models/[^/:]+:generateContent", self.path):
            self.called("generate", self.generate)
        else:
            self.fail(404, "NOT_FOUND", f"{self.path} is not found for API version v1")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/_state":
            self.send(self.server.state.as_json())
        elif re.fullmatch(r"/v1(beta)?/files", path):
            self.called("list", self.list_files)
        else:
            self.called("get", self.get_file)

    def do_DELETE(self) -> None:
        self.called("delete", self.delete_file)

    def take_script(self) -> None:
        sent = json.loads(self.body())
        for fault in sent.pop("faults", []):
            self.server.fail(fault.pop("call"), fault.pop("do"), **fault)
        for name, value in sent.items():
            assert name in Script.__dataclass_fields__, name
            setattr(self.server.script, name, value)
        self.send({})

    def called(self, call: str, answer: Callable[[], None]) -> None:
        fault = self.server.next_fault(call)
        if fault and call == "generate" and fault["do"] in ("text", "blocked", "finish", "slow"):
            self.generate(fault)
            return
        elif fault and fault["do"] == "slow":
            time.sleep(fault["seconds"])
        elif fault and fault["do"] not in ("reset_after", "late"):
            self.skip_body()
            self.spoil(**fault)
            return
        script = self.server.script
        if script.key and self.headers.get("x-goog-api-key") != script.key and call != "upload":
            self.skip_body()
            self.bad_key()
            return
        if fault and fault["do"] == "reset_after":
            self.send = self.reset_after  # type: ignore[method-assign]
        elif fault and fault["do"] == "late":
            self.send = partial(self.late, fault["seconds"])  # type: ignore[method-assign]
        answer()

    def spoil(self, do: str, **how: Any) -> None:
        """Answer otherwise than the protocol says."""
        if do == "status":
            self.fail(how.get("code", 500), how.get("status", "INTERNAL"), how.get("message", "it failed"))
        elif do == "rate_limit":
            self.rate_limit(**how)
        elif do == "reset":
            self.reset()
        elif do == "cut":
            self.send_bytes(b'{"candidates": [{"content": {"parts": [{"text": "{', promise=4096)
        elif do == "empty":
            self.send_bytes(b"")
        elif do == "half_json":
            self.send_bytes(b'{"candidates": [{"content"')
        elif do == "html":
            self.send_bytes(HTML, media_type="text/html")
        else:
            raise AssertionError(do)

    def rate_limit(self, retry_delay: str = "", quota: str = "", retry_after: str = "") -> None:
        details: list[dict[str, Any]] = []
        if quota:
            details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]})
        if retry_delay:
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry_delay})
        headers = {"Retry-After": retry_after} if retry_after else {}
        self.fail(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", details, headers)

    def bad_key(self) -> None:
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        self.fail(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [reason])

    def start_upload(self) -> None:
        sent = json.loads(self.body())["file"]
        assert self.headers["X-Goog-Upload-Command"] == "start"
        assert self.headers["X-Goog-Upload-Protocol"] == "resumable"
        assert self.headers["X-Goog-Upload-Header-Content-Length"] == str(sent["size_bytes"])
        name = sent.get("name") or f"files/{hashlib.sha256(str(time.time_ns()).encode()).hexdigest()[:12]}"
        if not NAME.fullmatch(name):
            self.fail(400, "INVALID_ARGUMENT", "file.name: at most 40 lower-case letters, digits and dashes")
            return
        file = RemoteFile(name.removeprefix("files/"), sent["mime_type"], sent.get("display_name", ""))
        with self.server.lock:
            taken = file.name in self.server.state.files
            upload = f"U{len(self.server.state.uploads)}"
            if not taken:
                self.server.state.uploads[upload] = file
        if taken:
            self.fail(409, "ALREADY_EXISTS", "Requested entity already exists")
            return
        url = f"{self.server.url}/upload/v1beta/files?upload_id={upload}&upload_protocol=resumable"
        self.send({}, {"X-Goog-Upload-URL": url, "X-Goog-Upload-Status": "active"})

    def upload(self) -> None:
        file = self.server.state.uploads[self.path.partition("upload_id=")[2].partition("&")[0]]
        assert int(self.headers["X-Goog-Upload-Offset"]) == file.size
        digest = hashlib.sha256(file.sha256.encode())
        for piece in self.pieces():
            file.size += len(piece)
            digest.update(piece)
        file.sha256 = digest.hexdigest()
        if "finalize" not in self.headers["X-Goog-Upload-Command"]:
            self.send({}, {"X-Goog-Upload-Status": "active"})
            return
        state = self.server.state
        with self.server.lock:
            file.polls = self.server.script.polls
            file.state = "PROCESSING" if file.polls else self.server.script.state
            state.files[file.name] = file
            state.documents[file.sha256] += 1
            state.most_files = max(state.most_files, len(state.files))
        self.send({"file": self.described(file)}, {"X-Goog-Upload-Status": "final"})

    def get_file(self) -> None:
        file = self.named()
        if file is None:
            return
        file.polls -= 1
        if file.polls <= 0:
            file.state = self.server.script.state
        self.send(self.described(file))

    def list_files(self) -> None:
        begin = int(re.sub(r"\D", "", self.path.partition("pageToken=")[2]) or 0)
        size = int(re.search(r"pageSize=(\d+)", self.path)[1]) if "pageSize=" in self.path else 10  # type: ignore[index]
        files = list(self.server.state.files.values())
        answer: dict[str, Any] = {"files": [self.described(file) for file in files[begin : begin + size]]}
        if begin + size < len(files):
            answer["nextPageToken"] = f"T{begin + size}"
        self.send(answer if files else {})

    def delete_file(self) -> None:
        file = self.named()
        if file is not None:
            self.server.state.files.pop(file.name, None)
            self.send({})

    def named(self) -> RemoteFile | None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        file = self.server.state.files.get(name)
        if file is None:
            self.fail(403, "PERMISSION_DENIED", NO_FILE.format(name))
        return file

    def described(self, file: RemoteFile) -> dict[str, Any]:
        described = {
            "name": f"files/{file.name}", "displayName": file.display_name, "mimeType": file.media_type,
            "sizeBytes": str(file.size), "state": file.state,
            "uri": f"{self.server.url}/v1beta/files/{file.name}",
        }  # fmt: skip
        return described | ({"error": {"message": "cannot be processed"}} if file.state == "FAILED" else {})

    def generate(self, fault: dict[str, Any] | None = None) -> None:
        sent = json.loads(self.body())
        parts = sent["contents"][0]["parts"]
        prompt = next(part["text"] for part in parts if "text" in part)
        missing = [uri for uri in _file_uris(parts) if uri.rpartition("/")[2] not in self.server.state.files]
        with self.server.lock:
            self.server.state.prompts[hashlib.sha256(prompt.encode()).hexdigest()] += 1
            self.server.state.requests.append(sent)
        script = self.server.script
        time.sleep(script.seconds + (fault or {}).get("seconds", 0))
        if missing:
            self.fail(403, "PERMISSION_DENIED", NO_FILE.format(missing[0].rpartition("/")[2]))
        elif script.fail_prefix and prompt.startswith(script.fail_prefix):
            self.fail(503, "UNAVAILABLE", "The model is overloaded")
        else:
            schema = sent["generationConfig"].get("responseJsonSchema", {})
            text = script.answer or json.dumps(instance_of(schema))
            self.send(_answer(prompt, text, fault or {}))

    def fail(self, code: int, status: str, message: str, details: list[Any] | None = None, headers: Any = None) -> None:
        self.skip_body()
        error = {"code": code, "message": message, "status": status, "details": details or []}
        self.send_bytes(json.dumps({"error": error}).encode(), code=code, headers=headers)

    def send(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(json.dumps(value).encode(), headers=headers)

    def reset_after(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self.reset()

    def late(self, seconds: float, value: Any, headers: dict[str, str] | None = None) -> None:
        """Answer what is done already, after a while."""
        time.sleep(seconds)
        del self.send
        self.send(value, headers)

    def send_bytes(
        self,
        content: bytes,
        *,
        code: int = 200,
        headers: dict[str, str] | None = None,
        media_type: str = "application/json",
        promise: int = 0,
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(promise or len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.close_connection or bool(promise)

    def reset(self) -> None:
        """Break the connection off, so that the client's system reports a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def pieces(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
        self.headers.replace_header("Content-Length", "0") if "Content-Length" in self.headers else None

    def body(self) -> bytes:
        return b"".join(self.pieces())

    def skip_body(self) -> None:
        for _ in self.pieces():
            pass

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _file_uris(parts: list[dict[str, Any]]) -> list[str]:
    named = [part.get("fileData") or part.get("file_data") for part in parts]
    return [one.get("file_uri") or one.get("fileUri") for one in named if one]


def _answer(prompt: str, text: str, how: dict[str, Any]) -> dict[str, Any]:
    usage = {"promptTokenCount": len(prompt) // 4, "candidatesTokenCount": 7, "totalTokenCount": len(prompt) // 4 + 7}
    if how.get("do") == "blocked":
        return {"promptFeedback": {"blockReason": how.get("reason", "SAFETY")}, "usageMetadata": usage}
    candidate: dict[str, Any] = {"finishReason": how.get("reason", "STOP"), "index": 0}
    said = how.get("text", text)
    if said is not None:
        candidate["content"] = {"role": "model", "parts": [{"text": said}]}
    return {"candidates": [candidate], "usageMetadata": usage}


def instance_of(schema: dict[str, Any]) -> Any:
    """The smallest value that follows a simple schema."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: instance_of(schema["properties"][name]) for name in schema.get("required", [])}
    return {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "array": [], "null": None}[kind]


@contextmanager
def gemini_server() -> Iterator[GeminiServer]:
    """Run the server in a thread."""
    server = GeminiServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Run the server until it is killed; it says when it listens."""
    server = GeminiServer(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a test's terminal is for the run under test
    print(server.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
