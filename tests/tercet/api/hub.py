"""A hub on this machine: just enough of the interface of huggingface.co to receive a commit."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """Keeps the files of each repository, whether it is private, the paths of requests, and the tokens of commits."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str] = set()
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._noted()
        name = self.path.removeprefix("/api/models/").partition("/revision/")[0]
        if name not in self.server.private:
            return self._reply({"error": "Repository not found"}, 404)
        self._reply({"id": name, "private": self.server.private[name], "sha": "0" * 40, "siblings": [], "tags": []})

    def do_POST(self) -> None:
        self._noted()
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") == "Bearer wrong":
            return self._reply({"error": "Invalid credentials"}, 401)
        if self.path.endswith("/repos/create"):
            return self._create(json.loads(body))
        name = "/".join(self.path.split("/")[3:5])
        if self.path.endswith("/validate-yaml"):
            return self._reply({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            return self._reply(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]}
            )
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                value = line["value"]
                self.server.files.setdefault(name, {})[value["path"]] = base64.b64decode(value["content"])
        self._reply({"commitUrl": f"{self.server.url}/{name}/commit/1", "commitOid": "1" * 40, "success": True})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization')}/{asked['name']}" if asked.get("organization") else asked["name"]
        if name in self.server.private:
            return self._reply(
                {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}, 409
            )
        self.server.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
        self._reply({"url": f"{self.server.url}/{name}", "name": name})

    def _noted(self) -> None:
        self.server.paths.append(self.path)
        if "/commit/" in self.path:
            self.server.tokens.add(str(self.headers.get("Authorization")))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
