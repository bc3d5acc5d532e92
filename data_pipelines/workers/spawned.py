"""Processes for work on data outside of training. They import no torch, so they start quickly."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from tercet.errors import UserError
from tercet.plugins import with_plugins
from tercet.processes import FreshContext, follow_parent

AHEAD = 4  # tasks in advance for each process
CONTINUE = "run the same command again with fewer --workers; it continues where this one stopped"


@contextmanager
def spawned(
    count: int, task: str, fix: str, start: Callable[..., None] = follow_parent, *arguments: object
) -> Iterator[Executor | None]:
    """A pool of `count` processes, or None for one, in which case this process does the work."""
    if count < 2:
        yield None
        return
    pool = ProcessPoolExecutor(count, FreshContext(), *with_plugins(start, *arguments))
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(f"a process that {task} died, most often because memory ran out: {fix}") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
