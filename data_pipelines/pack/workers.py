"""Processes that decode and encode for the one that writes. They load no torch, and so start in a moment."""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

from tercet.errors import UserError
from tercet.plugins import with_plugins
from tercet.processes import follow_parent


@contextmanager
def packers(count: int) -> Iterator[Executor | None]:
    """A pool of so many processes; for a single one there is none, and this process does the work."""
    if count <= 1:
        yield None
        return
    pool = ProcessPoolExecutor(count, get_context("spawn"), *with_plugins(follow_parent))
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "a process that packs died, most often because memory ran out: run the same command again, which goes on "
            "where this one stopped, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
