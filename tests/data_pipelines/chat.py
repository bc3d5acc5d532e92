"""A small server with chat completions for tests, which fails on request."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STALL = 20.0  # seconds; far more than any test waits


@dataclass
class Chat:
    """`answer` gets the number of the request and its prompt, and returns the text of the answer or a fault.

    Faults: a status, with what Retry-After or Location says after a blank (`429 7`); `stalls`, `cut short`, `hangs up`.
    """

    url: str
    answer: Callable[[int, str], str] = lambda number, prompt: "[]"
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.asked]


class Handler(BaseHTTPRequestHandler):
    def __init__(self, chat: Callable[[], Chat], *rest: object) -> None:
        self.chat = chat()
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.chat.paths.append(f"GET {self.path}")
        self._send(404, {}, {})

    def do_POST(self) -> None:
        chat = self.chat
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with chat.lock:
            chat.asked.append(request)
            chat.keys.append(self.headers["Authorization"])
            chat.paths.append(self.path)
            number = len(chat.asked)
        said = chat.answer(number, request["messages"][0]["content"])
        status, _, after = said.partition(" ")
        if status.isdigit():
            header = "Location" if status.startswith("3") else "Retry-After"
            self._send(int(status), {"error": {"message": "not now"}}, {header: after} if after else {})
        elif said == "stalls":
            chat.over.wait(STALL)
        elif said == "hangs up":
            self.connection.close()
        elif self.path != "/v1/chat/completions":
            self._send(404, {"error": "no such page"}, {})
        else:
            body = {"choices": [{"message": {"role": "assistant", "content": said}}]}
            self._send(200, body, {}, cut=said == "cut short")

    def _send(self, status: int, body: object, headers: dict[str, str], cut: bool = False) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chatting(answer: Callable[[int, str], str]) -> Iterator[Chat]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, lambda: chat))
    server.daemon_threads = True
    chat = Chat(f"http://127.0.0.1:{server.server_port}/v1", answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield chat
    finally:
        chat.over.set()
        server.shutdown()
        server.server_close()
