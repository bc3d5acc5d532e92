"""Processes for what goes through data outside of training. They load no torch, and so start in a moment."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from tercet.errors import UserError
from tercet.plugins import with_plugins
from tercet.processes import FreshContext, follow_parent

AHEAD = 4  # pieces of work that are under way for each process


@contextmanager
def spawned(
    count: int, does: str, mend: str, start: Callable[..., None] = follow_parent, *arguments: object
) -> Iterator[Executor | None]:
    """A pool of so many processes; for a single one there is none, and this process does the work."""
    if count < 2:
        yield None
        return
    pool = ProcessPoolExecutor(count, FreshContext(), *with_plugins(start, *arguments))
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(f"a process that {does} died, most often because memory ran out: {mend}") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
