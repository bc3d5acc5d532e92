"""Logs which part of a benchmark is running. Writes to stderr, because stdout may be JSON. Imports no torch."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tercet.main_process import say

Part = TypeVar("Part")


def announced(parts: Sequence[Part], name: Callable[[Part], str] = str) -> Iterator[Part]:
    """Yields the parts. Before each, the main process logs its name and how many parts follow."""
    for done, part in enumerate(parts):
        say(f"measuring {name(part)} ({len(parts) - done - 1} more after it)")
        yield part
