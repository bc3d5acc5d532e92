"""Work done ahead by threads and handed over in the order that it was asked for.

Decoders and file reads release the interpreter's lock, so threads are enough, and they start at once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int) -> Iterator[Result]:
    """`map(work, items)` with at most `ahead` items under way beside the one awaited; no workers: in this thread.

    What `work` raises is raised here. Closing the iterator drops what has not begun and waits for what has.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    window: deque[Future[Result]] = deque()
    try:
        for item in items:
            window.append(pool.submit(work, item))
            if len(window) > ahead:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
