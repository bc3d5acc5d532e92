"""Applies a function to the parts of a dataset in parallel processes; results come in order.

The parts are the same for any number of processes, and so are the results.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, spawned
from tercet.processes import follow_parent

Part = TypeVar("Part")
Result = TypeVar("Result")

SAMPLES = 256  # of a part

_work: Callable[[Any], Any]  # what this process was started for


def walk(work: Callable[[Part], Result], parts: Sequence[Part], workers: int, purpose: str) -> Iterator[Result]:
    """`map(work, parts)`; with a single worker in this process."""
    with spawned(workers, "reads samples", "take fewer --workers", _start, work) as pool:
        results = in_order(_call if pool else work, parts, pool, AHEAD * workers)
        yield from with_progress(results, purpose, len(parts))


def parts_of(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + SAMPLES] for start in range(0, len(ids), SAMPLES)]


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    follow_parent()


def _call(part: Any) -> Any:
    return _work(part)
