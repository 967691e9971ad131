"""A server of the OpenAI protocol for embeddings: hashed words, or another server behind it; with faults on request.

As a process: `python -m ingest_pipeline_tests.embedding_server PORT [UPSTREAM]`. `GET /_state` says what was asked, and
`POST /_script` arranges the next faults.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections import Counter, deque
from typing import Any

import numpy as np

DIMENSION = 32
FAULTS = (
    "429", "429 after 1", "429 quota", "500", "503 after 1", "cut", "drip", "html", "reversed", "short", "empty", "nan",
    "zero", "dimension", "reset", "401", "404", "not json", "doubled",
)  # fmt: skip


def hashed(text: str, dimension: int = DIMENSION) -> list[float]:
    """A vector of a text's words; not of unit norm."""
    vector = np.zeros(dimension)
    for word in text.lower().split() or [""]:
        vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % dimension] += 1
    return [float(number) for number in vector]


class EmbeddingServer(http.server.ThreadingHTTPServer):
    """Counts what it is asked, and fails as it is told to."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0, *, upstream: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = upstream
        self.script: deque[str] = deque()
        """Faults of the next calls, in their order."""
        self.rejects = ""
        """A call with a text that contains this is answered by 400."""
        self.fails_on = ""
        """A call with a text that contains this is answered by 500."""
        self.message = "as told"
        """Of the errors in the script."""
        self.delay_seconds = 0.0
        self.slow_seconds = 1.5
        """How long the fault `slow` holds a call, which is then answered."""
        self.calls = 0
        self.asked: Counter[str] = Counter()
        """How often each text was answered."""
        self.begun: Counter[str] = Counter()
        """How often each text was asked for."""
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """What `INGEST_EMBEDDER_URL` is to be."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def state(self) -> dict[str, Any]:
        """What was asked so far."""
        with self.lock:
            return {
                "calls": self.calls, "asked": dict(self.asked), "begun": dict(self.begun),
                "most_at_once": self.most_at_once,
            }  # fmt: skip

    def start(self) -> EmbeddingServer:
        """Serve in a thread."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self


class _Handler(http.server.BaseHTTPRequestHandler):
    server: EmbeddingServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self._send(200, self.server.state())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/_script":
            for name, value in body.items():
                setattr(self.server, name, deque(value) if name == "script" else value)
            self._send(200, {})
            return
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        with self.server.lock:
            self.server.calls += 1
            self.server.begun.update(texts)
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
            fault = self.server.script.popleft() if self.server.script else ""
        try:
            time.sleep(self.server.slow_seconds if fault == "slow" else self.server.delay_seconds)
            self._answer(body, texts, "" if fault == "slow" else fault)
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def _answer(self, body: dict[str, Any], texts: list[str], fault: str) -> None:
        rejects, fails_on = self.server.rejects, self.server.fails_on
        if rejects and any(rejects in text for text in texts):
            self._error(400, "this input is not allowed")
            return
        if fails_on and any(fails_on in text for text in texts):
            self._error(500, "input is too large to process")
            return
        if fault.startswith("429"):
            self._rate_limited(fault)
            return
        if fault in ("500", "401", "404") or fault.startswith("503"):
            headers = {"Retry-After": "1"} if fault.endswith("after 1") else {}
            self._error(int(fault[:3]), self.server.message, headers)
            return
        if fault == "reset":
            self._reset()
            return
        if fault in ("html", "not json"):
            self._raw(b"<html><body>Bad gateway</body></html>" if fault == "html" else b"{not json")
            return
        answer = self._upstream(body) if self.server.upstream else self._own(body, texts)
        self._faulty(answer, fault, texts)

    def _own(self, body: dict[str, Any], texts: list[str]) -> dict[str, Any]:
        dimension = int(body.get("dimensions") or DIMENSION)
        data = [
            {"object": "embedding", "index": number, "embedding": hashed(text, dimension)}
            for number, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        return {
            "object": "list", "model": body["model"], "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }  # fmt: skip

    def _upstream(self, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.server.upstream}/embeddings", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return dict(json.load(response))

    def _faulty(self, answer: dict[str, Any], fault: str, texts: list[str]) -> None:
        data = answer["data"]
        if fault == "reversed":
            data.reverse()
        elif fault == "short":
            data.pop()
        elif fault == "empty":
            data.clear()
        elif fault == "doubled":
            data[-1]["index"] = 0 if len(data) > 1 else 1
        elif fault in ("nan", "zero"):
            data[0]["embedding"] = [float("nan") if fault == "nan" else 0.0] * len(data[0]["embedding"])
        elif fault == "dimension":
            data[0]["embedding"].append(1.0)
        whole = json.dumps(answer).encode()
        if fault == "cut":
            self._raw(whole[: len(whole) // 2])
            return
        if fault == "drip":
            self._drip(whole)
            return
        if fault in ("", "reversed"):
            with self.server.lock:
                self.server.asked.update(texts)
        self._raw(whole)

    def _rate_limited(self, fault: str) -> None:
        code = "insufficient_quota" if fault.endswith("quota") else "rate_limit_exceeded"
        self._error(429, "too many", {"Retry-After": "1"} if fault.endswith("after 1") else {}, code=code)

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None, *, code: str = "") -> None:
        self._send(status, {"error": {"message": message, "type": "error", "code": code or None}}, headers)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._raw(json.dumps(body).encode(), status, headers)

    def _raw(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError, http.client.HTTPException):
            pass  # who asked was killed

    def _drip(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.1)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


if __name__ == "__main__":
    server = EmbeddingServer(int(sys.argv[1]), upstream=sys.argv[2] if len(sys.argv) > 2 else "")
    print(server.url, flush=True)
    server.serve_forever()
