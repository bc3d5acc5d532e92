"""Summaries of any number of values in bounded memory: distributions, frequent words and examples.

All three give the same result for the same values in the same order, for any number of processes: nothing is drawn from
a shared generator.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tercet.data_pipelines.seeding import keys

Item = TypeVar("Item")

ACCURACY = 0.01


def marks(ids: ArrayLike) -> NDArray[np.uint64]:
    """Numbers by which a sample of the ids can be taken, always the same."""
    return keys("survey", 0, 0, ids)


class Distribution:
    """Values from 0 up, counted in bins that are 2 % wide: quantiles are right within 1 %.

    After DDSketch (Masson et al., 2019), without its limit on the number of bins: 2,000 span twenty powers of ten.
    """

    _gamma = math.log((1 + ACCURACY) / (1 - ACCURACY))

    def __init__(self) -> None:
        self.bins: Counter[int | None] = Counter()  # None: zero
        self.count = 0
        self.sum = 0.0
        self.least, self.most = math.inf, -math.inf
        self.whole = True  # whether all values are whole numbers

    def add(self, value: float) -> None:
        self.bins[math.ceil(math.log(value) / self._gamma) if value > 0 else None] += 1
        self.count += 1
        self.sum += value
        self.least, self.most = min(self.least, value), max(self.most, value)
        self.whole = self.whole and value == math.floor(value)

    def merge(self, other: "Distribution") -> None:
        self.bins.update(other.bins)
        self.count += other.count
        self.sum += other.sum
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.whole = self.whole and other.whole

    def quantile(self, share: float) -> float:
        rank = share * (self.count - 1)
        for low, high, count in self.spans():
            rank -= count
            if rank < 0:
                middle = 2 * low * high / (low + high) if high else 0.0  # no further than 1 % from either
                return round(middle) if self.whole else middle
        return self.most

    def spans(self) -> Iterator[tuple[float, float, int]]:
        """The bins that are not empty, ascending: where each begins and ends, and how many values it holds."""
        for bin in sorted(self.bins, key=lambda bin: -math.inf if bin is None else bin):
            low, high = (0.0, 0.0) if bin is None else (math.exp((bin - 1) * self._gamma), math.exp(bin * self._gamma))
            yield max(low, self.least), min(high, self.most), self.bins[bin]

    def to_json(self) -> dict[str, float | int]:
        if not self.count:
            return {"count": 0}
        quantiles = {f"p{percent}": self.quantile(percent / 100) for percent in (1, 5, 25, 50, 75, 95, 99)}
        found = {"min": self.least, **quantiles, "max": self.most, "mean": self.sum / self.count}
        return {"count": self.count, **{name: float(f"{value:.6g}") for name, value in found.items()}}


class Frequent:
    """Counts the most frequent of any number of different things.

    After Misra and Gries (1982), in the batches of Agarwal et al. (2012): when there are too many counters, the largest
    count beyond the capacity is subtracted from all of them. No count is too small by more than `lost`.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._counts: Counter[str] = Counter()
        self.lost = 0

    def add(self, things: Iterable[str] | Mapping[str, int]) -> None:
        self._counts.update(things)
        if len(self._counts) > 2 * self._capacity:
            self._drop()

    def merge(self, other: "Frequent") -> None:
        self.lost += other.lost
        self.add(other._counts)

    def total(self) -> int:
        return self._counts.total()

    def most_common(self, number: int) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda thing: (-thing[1], thing[0]))[:number]

    def _drop(self) -> None:
        bound = heapq.nlargest(self._capacity + 1, self._counts.values())[-1]
        self.lost += bound
        self._counts = Counter({thing: count - bound for thing, count in self._counts.items() if count > bound})


class Bottom(Generic[Item]):
    """The items of the lowest marks: a fair sample of all that were offered, in the order of their ids."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: list[tuple[int, int, Item]] = []  # a heap whose first has the highest mark

    def offer(self, mark: int, id: int, item: Item) -> None:
        if len(self._kept) < self._capacity:
            heapq.heappush(self._kept, (-mark, -id, item))
        elif (-mark, -id) > self._kept[0][:2]:
            heapq.heapreplace(self._kept, (-mark, -id, item))

    def merge(self, other: "Bottom[Item]") -> None:
        for mark, id, item in other._kept:
            self.offer(-mark, -id, item)

    def __iter__(self) -> Iterator[Item]:
        return (item for *_, item in sorted(self._kept, key=lambda kept: -kept[1]))
