"""Starts work before its result is needed, in threads that exist only while there is work.

They are daemon threads, so that a network that does not answer cannot delay the end of a run.
"""

from collections.abc import Callable, Iterable
from threading import Lock, Thread

from tercet.errors import UserError


class Lookahead:
    """Calls `work` on numbers in the order of the requests, once for each number that is waiting or in progress.

    Errors are ignored here and not retried: the caller that needs the result does the work again and meets the error.
    """

    def __init__(self, work: Callable[[int], object], threads: int) -> None:
        self._work, self._threads = work, threads
        self._lock = Lock()
        self._waiting: dict[int, None] = {}  # in order
        self._under_way: set[int] = set()
        self._failed: set[int] = set()
        self._busy = 0

    def ask(self, numbers: Iterable[int]) -> None:
        with self._lock:
            passed_over = self._under_way | self._failed
            self._waiting.update(dict.fromkeys(number for number in numbers if number not in passed_over))
            more = min(len(self._waiting), self._threads - self._busy)
            self._busy += more
        for _ in range(more):
            Thread(target=self._run, name="lookahead", daemon=True).start()

    def _run(self) -> None:
        while (number := self._next()) is not None:
            try:
                self._work(number)
            except UserError:
                self._failed.add(number)
            self._under_way.discard(number)

    def _next(self) -> int | None:
        with self._lock:
            number = next(iter(self._waiting), None)
            if number is None:
                self._busy -= 1
                return None
            del self._waiting[number]
            self._under_way.add(number)
            return number
