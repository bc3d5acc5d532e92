"""Processes from a server that has loaded heavy packages once: each starts in milliseconds, and inherits no thread."""

import multiprocessing
import os
import signal
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from threading import Thread

_loaded: set[str] = set()


def server(*modules: str) -> ForkServerContext:
    """The context to start processes in. What is asked for before the first of them is loaded ahead."""
    context = multiprocessing.get_context("forkserver")
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
