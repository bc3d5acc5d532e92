"""Who decodes: this thread, threads beside it, or processes. Work goes in by `submit`, and what it raises comes back.

Processes scale with the cores, for the interpreter runs in each of them; they come from a server that has loaded the
heavy packages once. Threads start at once and share one memory.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from tercet.errors import RankError
from tercet.machine import settle
from tercet.plugins import with_plugins
from tercet.processes import follow_parent, server

Kind = Literal["process", "thread"]

LOADED = "tercet.data_pipelines.batches.decode_worker"

Pool: TypeAlias = "tuple[Executor | None, Callable[..., Any]]"

_work: Callable[[Any], Any]  # what this process was hired for


@contextmanager
def worker_pool(kind: Kind, count: int, work: Callable[[Any], Any]) -> Iterator[Pool]:
    """A pool, or None for this thread, and the function to submit to it in place of `work`."""
    if count == 0:
        yield None, work
        return
    if kind == "thread":
        pool: Executor = ThreadPoolExecutor(count, thread_name_prefix="decode")
        call: Callable[..., Any] = work
    else:
        pool, call = ProcessPoolExecutor(count, server(LOADED), *with_plugins(_hire, work)), _call
    try:
        yield pool, call
    except BrokenProcessPool:
        raise RankError(
            "a process that decodes data died, most often because memory ran out: "
            "take fewer data.workers, or look for what killed it in the system's log"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _hire(work: Callable[[Any], Any]) -> None:
    """What a worker process keeps for as long as it lives."""
    global _work
    _work = work
    follow_parent()
    settle()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)  # the cores are shared out by the number of workers
    threadpool_limits(1)


def _call(item: Any) -> Any:
    return _work(item)
