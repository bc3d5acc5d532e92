"""Child processes: from a server that has loaded heavy packages once, so that each starts in milliseconds, or fresh.

None of them runs the caller's script again, as multiprocessing would: what they work with is imported by name, so that
a script may train at its top level. SIGINT and SIGTERM do not reach them. A terminal, a launcher or a cluster sends
these to every process at once, and the main process still needs its workers to stop in good order.
"""

import multiprocessing
import multiprocessing.resource_tracker
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
except ImportError:  # Windows: each process starts afresh
    from multiprocessing.context import SpawnContext as ServerContext  # type: ignore[assignment]
    from multiprocessing.context import SpawnProcess as ServerProcess  # type: ignore[assignment]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHIELDS = hasattr(signal, "sigwaitinfo")  # which tells who sent a signal; neither Windows nor macOS has it

_loaded: set[str] = set()
_starting = Lock()


@contextmanager
def _shielded() -> Iterator[None]:
    """Meanwhile SIGINT and SIGTERM are blocked. A process that starts now inherits that."""
    if not SHIELDS:
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # else it starts later and lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _nameless() -> Iterator[None]:
    """Meanwhile the caller's script has no name by which multiprocessing could run it."""
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
        with _nameless(), _shielded():
            return ServerProcess._Popen(process_obj)


class _Context(ServerContext):
    Process = _Process


class _Fresh(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        with _nameless(), _shielded():
            return SpawnProcess._Popen(process_obj)


class FreshContext(SpawnContext):
    """For processes that start with nothing loaded, whatever the server has loaded."""

    Process = _Fresh


def server(*modules: str) -> ServerContext:
    """The context to start processes in. The server loads the modules that are named before its first process."""
    context = _Context()
    _loaded.update(modules)
    context.set_forkserver_preload(sorted(_loaded))
    return context


def follow_parent() -> None:
    """Ends this process when its parent ends or asks it to. Signals from elsewhere change nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
        if SHIELDS:
            Thread(target=_end_when_asked_by, args=(parent.pid,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _end_when_asked_by(parent: int) -> None:
    """A broken pool ends its other workers by SIGTERM."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(1)
