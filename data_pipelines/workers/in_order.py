"""Runs work in a pool ahead of time, and yields the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], pool: Executor | None, ahead: int
) -> Iterator[Result]:
    """Like `map(work, items)`, but a pool works on up to `ahead` items in advance. Without a pool, this thread works.

    Any free worker takes the next item, so a slow item delays only the results after it. An exception of `work` is
    raised here. Closing the iterator cancels the items that no worker has begun.
    """
    if pool is None:
        yield from map(work, items)
        return
    window: deque[Future[Result]] = deque()
    try:
        for item in items:
            window.append(pool.submit(work, item))
            if len(window) > ahead:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        for future in window:
            future.cancel()
