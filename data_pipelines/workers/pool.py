"""Decodes in this thread, in other threads, or in processes.

Processes scale with the cores, because each has its own interpreter. A fork server that has loaded the heavy packages
once starts them. Threads start at once and share memory.
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

_work: Callable[[Any], Any]  # what this worker process does


@contextmanager
def worker_pool(kind: Kind, count: int, work: Callable[[Any], Any]) -> Iterator[Pool]:
    """A pool, or None for this thread, and the function to submit to it instead of `work`."""
    if count == 0:
        yield None, work
        return
    if kind == "thread":
        pool: Executor = ThreadPoolExecutor(count, thread_name_prefix="decode")
        call: Callable[..., Any] = work
    else:
        pool, call = ProcessPoolExecutor(count, server(LOADED), *with_plugins(_start_worker, work)), _call
    try:
        yield pool, call
    except BrokenProcessPool:
        raise died() from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def died() -> RankError:
    return RankError(
        "a process that decodes data died, most often because memory ran out: "
        "lower data.workers, or look in the system's log for what killed it"
    )


def _start_worker(work: Callable[[Any], Any]) -> None:
    """Runs once in each worker process."""
    global _work
    _work = work
    follow_parent()
    settle()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)  # `data.workers` decides how many cores are used
    threadpool_limits(1)


def _call(item: Any) -> Any:
    return _work(item)
