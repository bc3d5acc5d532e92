"""Processes from a server that has loaded heavy packages once, and so start in milliseconds; or with nothing loaded.

None of them runs the caller's script again, as multiprocessing would have it: what they work with is imported by name,
so that a script may train at its top level.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from threading import Lock, Thread
from typing import Any

try:
    from multiprocessing.context import ForkServerContext as ServerContext
    from multiprocessing.context import ForkServerProcess as ServerProcess
except ImportError:  # Windows: each process starts anew
    from multiprocessing.context import SpawnContext as ServerContext  # type: ignore[assignment]
    from multiprocessing.context import SpawnProcess as ServerProcess  # type: ignore[assignment]

_loaded: set[str] = set()
_starting = Lock()


@contextmanager
def _nameless() -> Iterator[None]:
    """Meanwhile the caller's script has no name by which it could be run."""
    with _starting:
        script = vars(sys.modules["__main__"])
        names: dict[str, Any] = {name: script[name] for name in ("__file__", "__spec__") if name in script}
        script.update(dict.fromkeys(names))
        try:
            yield
        finally:
            script.update(names)


class _Process(ServerProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        with _nameless():
            return ServerProcess._Popen(process_obj)


class _Context(ServerContext):
    Process = _Process


class _Fresh(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        with _nameless():
            return SpawnProcess._Popen(process_obj)


class FreshContext(SpawnContext):
    """For processes that begin with nothing loaded, whatever the server has."""

    Process = _Fresh


def server(*modules: str) -> ServerContext:
    """The context to start processes in. What is asked for before the first of them is loaded ahead."""
    context = _Context()
    _loaded.update(modules)
    context.set_forkserver_preload(sorted(_loaded))
    return context


def follow_parent() -> None:
    """Leaves interrupts to the process that started this one, and ends with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)
