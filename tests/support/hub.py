"""A stand-in for the Hugging Face hub: enough of its API to list and download a repository."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(slots=True)
class StandInHub:
    """One repository, `org/repo`.  `asked` holds the paths of all requests."""

    files: dict[str, bytes]
    address: str = ""
    asked: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    """Digests to claim instead of the true ones."""

    def info(self) -> dict[str, object]:
        """Answer for /api/models/org/repo."""
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": "b",
                "lfs": {
                    "sha256": self.digests.get(name, hashlib.sha256(content).hexdigest()),
                    "size": len(content),
                    "pointerSize": 1,
                },
            }
            for name, content in self.files.items()
        ]
        return {"id": "org/repo", "sha": COMMIT, "siblings": siblings, "private": False}


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[StandInHub]:
    """Serve a repository on a free port of loopback."""
    hub = StandInHub(files=files)

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            hub.asked.append(path)
            if path.startswith("/api/models/org/repo"):
                self._send(json.dumps(hub.info()).encode())
            elif path.startswith(f"/org/repo/resolve/{COMMIT}/"):
                self._file(path.partition(f"{COMMIT}/")[2])
            else:
                self._send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

        def _file(self, name: str) -> None:
            content = hub.files[name]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(content, 200, {"X-Repo-Commit": COMMIT, "ETag": etag})

        def _send(
            self, body: bytes, status: int = 200, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
