"""Which part of a benchmark is being measured. On stderr, because the results may be JSON. Imports no torch."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tercet.main_process import say

Part = TypeVar("Part")


def announced(parts: Sequence[Part], name: Callable[[Part], str] = str) -> Iterator[Part]:
    """The parts one by one. Before each, the main process says which one it is and how many follow it."""
    for done, part in enumerate(parts):
        say(f"measuring {name(part)} ({len(parts) - done - 1} more after it)")
        yield part
