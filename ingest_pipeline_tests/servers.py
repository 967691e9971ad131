"""Real servers for tests: SeaweedFS's S3, a proxy that cuts and stalls what passes, a small web server."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret-never-to-be-logged"
IDENTITIES = (
    f'{{"identities": [{{"name": "test", "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}],'
    ' "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}'
)


def free_port() -> int:
    """A port that nobody listens on; SeaweedFS listens on it plus 10,000, too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: int = server.getsockname()[1]
        if port < 50_000:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + 10_000)):
                return port


class Seaweed:
    """`weed server -s3` on ports of its own; its data outlives a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._others = [free_port() for _ in range(3)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where S3 is spoken."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until a bucket can be made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "s3.json").write_text(IDENTITIES)
        master, volume, filer = self._others
        log = (self.folder / "weed.log").open("ab")
        self._process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "weed"), "server", f"-dir={self.folder}", "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1", "-s3", f"-s3.port={self.port}", f"-s3.config={self.folder / 's3.json'}",
                f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
                "-s3.port.iceberg=0", "-s3.port.lance=0",  # fixed ports: two servers at once would collide
                "-master.volumeSizeLimitMB=64", "-volume.max=400", "-volume.fileSizeLimitMB=256",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 120
        while not self._takes_buckets():
            assert time.monotonic() < deadline, (self.folder / "weed.log").read_text()[-2000:]
            time.sleep(0.5)

    def _takes_buckets(self) -> bool:
        try:
            files = filesystem(self.endpoint)
            if not files.exists("ready"):
                files.call_s3("create_bucket", Bucket="ready")
            files.call_s3("put_object", Bucket="ready", Key="probe", Body=b"x")
        except Exception:
            return False
        return True

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def filesystem(endpoint: str) -> Any:
    """An s3fs of the test's own, to put things into buckets."""
    import s3fs

    return s3fs.S3FileSystem(
        key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=endpoint, skip_instance_cache=True,
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 2, "read_timeout": 30},
    )  # fmt: skip


@dataclass
class Faults:
    """What the proxy does to the next answers: each number cuts one answer after so many bytes."""

    cuts: list[int] = field(default_factory=list)
    stall_after: int | None = None
    """Answers stop here, the connection stays open."""
    refuse: bool = False
    """Connections are closed at once."""
    passed: int = 0
    connections: int = 0


class FaultProxy:
    """A TCP proxy to one port, which does what `faults` says."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.faults = Faults()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """What to ask instead of the server."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """No more connections."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.faults.connections += 1
            if self.faults.refuse:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        cut = self.faults.cuts.pop(0) if self.faults.cuts else None
        sent = 0
        with contextlib.suppress(OSError):
            while piece := server.recv(16 * 1024):
                stall = self.faults.stall_after
                if stall is not None and sent + len(piece) > stall:
                    time.sleep(60)
                if cut is not None and sent + len(piece) > cut:
                    client.sendall(piece[: cut - sent])
                    break
                client.sendall(piece)
                sent += len(piece)
                self.faults.passed += len(piece)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _copy(origin: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := origin.recv(64 * 1024):
            target.sendall(piece)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with what the server's `pages` say: a body, or a function that writes whatever it likes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        found = self.server.pages.get(self.path)  # type: ignore[attr-defined]
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))  # type: ignore[attr-defined]
        if callable(found):
            found(self, body)
            return
        content = b"not here" if found is None else found
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{abs(hash(content))}"')
        self.send_header("Content-Type", "text/html" if content.lstrip().startswith(b"<") else "text/plain")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def web_server(pages: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """Serve these paths; yield the server's URL and the list of what it was asked."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.pages, server.asked = pages, []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
