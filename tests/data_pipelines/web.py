"""A small web server for tests, which fails on request."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALL = 20.0  # seconds; far more than any test waits


class Web:
    """The pages by path, the faults of the next requests for a path, and the number of requests."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.pages: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: Counter[str] = Counter()
        self.over = threading.Event()

    def put(self, path: str, page: bytes, *faults: str) -> str:
        self.pages[path] = page
        self.faults[path] = list(faults)
        return self.url + path


class Handler(BaseHTTPRequestHandler):
    def __init__(self, web: Callable[[], Web], *rest: object) -> None:
        self.web = web()
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.web.asked[path] += 1
        page, faults = self.web.pages.get(path), self.web.faults.get(path)
        if page is None:
            self.send_error(404)
            return
        fault = faults.pop(0) if faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        self.send_response(200)
        if fault != "no length":
            self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if fault == "slow":
            for start in range(0, len(page), len(page) // 8 + 1):
                self.web.over.wait(0.1)
                self.wfile.write(page[start : start + len(page) // 8 + 1])
            return
        self.wfile.write(page[: len(page) // 2])
        if fault == "stalls":
            self.web.over.wait(STALL)
        elif fault != "cut short":
            self.wfile.write(page[len(page) // 2 :])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Web]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, lambda: web))
    server.daemon_threads = True
    web = Web(server.server_port)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield web
    finally:
        web.over.set()
        server.shutdown()
        server.server_close()
