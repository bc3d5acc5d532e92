"""Measures samples per second of several sides, which take turns."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from itertools import islice
from statistics import median

Side = Callable[[], Generator[int, None, None]]  # starts workers, and yields the size of each batch
WARM = 3  # batches before the measurement, in which workers start and queues fill


def pace(side: Side, batches: int) -> float:
    with closing(side()) as sizes:
        for _ in islice(sizes, WARM):
            pass
        start = time.perf_counter()
        samples = sum(islice(sizes, batches))
        return samples / (time.perf_counter() - start)


def paces(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The measurement of each side in each round."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            measured[name].append(measure())
    return measured


def ratio(ours: list[float], peer: list[float]) -> float:
    return median(one / other for one, other in zip(ours, peer, strict=True))
