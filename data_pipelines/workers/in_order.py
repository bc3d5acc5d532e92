"""Work done ahead by a pool and handed over in the order that it was asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], pool: Executor | None, ahead: int
) -> Iterator[Result]:
    """`map(work, items)` with at most `ahead` items under way beside the one awaited; no pool: in this thread.

    Whoever is free takes the next item, so that a slow one holds up nothing but what is handed over after it. What
    `work` raises is raised here. Closing the iterator drops what has not begun.
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
