"""A function over the parts of a data set, in parallel processes; results come in order, whoever was done first.

Parts are the same for any number of processes, and so is whatever is folded from their results. No torch is loaded, so
that the processes start in a moment.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from tercet.data_pipelines.ahead import in_order
from tercet.errors import UserError
from tercet.plugins import with_plugins
from tercet.processes import follow_parent

Part = TypeVar("Part")
Result = TypeVar("Result")

SAMPLES = 256  # of a part
AHEAD = 4  # parts that wait for each process

_work: Callable[[Any], Any]  # what this process was started for


def walk(work: Callable[[Part], Result], parts: Sequence[Part], workers: int, purpose: str) -> Iterator[Result]:
    """`map(work, parts)`; with a single worker in this process."""
    if workers < 2:
        yield from _shown(map(work, parts), len(parts), purpose)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), *with_plugins(_start, work)) as pool:
        try:
            yield from _shown(in_order(_call, parts, pool, AHEAD * workers), len(parts), purpose)
        except BrokenProcessPool:
            raise UserError(
                "a process that reads samples died, most often because memory ran out; take fewer --workers"
            ) from None


def parts_of(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + SAMPLES] for start in range(0, len(ids), SAMPLES)]


def _shown(results: Iterable[Result], total: int, purpose: str) -> Iterable[Result]:
    console = Console(stderr=True)
    return track(results, purpose, total, console=console, transient=True, disable=not sys.stderr.isatty())


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    follow_parent()


def _call(part: Any) -> Any:
    return _work(part)
