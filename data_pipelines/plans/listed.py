"""The order of a list: in an epoch, each sample appears as often as its count says.

The list is divided into passes: the first has every listed sample once, the second those with a count of at least 2,
and so on. The samples of one pass in one shard are shuffled like a shard (see `Shuffled`). So samples of one shard are
still read together, and the appearances of a sample are spread over the epoch. A list that has every sample once
gives the same order as no list.

Shape letters: n positions, S shards of the source, V shards of all passes, N samples of the source, L those of a
later pass.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.plans.count_list import Times
from tercet.data_pipelines.plans.order import Ints, Shuffled


class Listed:
    """The samples of a list, shuffled anew in each epoch."""

    def __init__(self, counts: Ints, times_N: Times, seed: int, streams: int = 256, window: int = 4096) -> None:
        self._times_N, self._end_S = times_N, np.cumsum(counts)
        self._begin_S = self._end_S - counts
        self._pass_V, self._shard_V, size_V = passes(counts, times_N)
        self._first_V = np.cumsum(size_V) - size_V
        self._order = Shuffled(size_V, seed, streams, window)
        self._passes = int(self._pass_V.max(initial=0)) + 1
        self._ids = lru_cache(maxsize=2048)(self._ids_of)
        self.samples = self._order.samples

    def epoch(self, position: int) -> int:
        return self._order.epoch(position)

    def piece(self, position_n: Ints) -> Ints:
        return self._order.piece(position_n)

    def appearance(self, position_n: Ints) -> Ints:
        number_n = self._pass_V[self._places(position_n)[0]]
        appearance_n: Ints = position_n // self.samples * self._passes + number_n
        return appearance_n

    def at(self, position_n: Ints) -> Ints:
        shard_n, row_n = self._places(position_n)
        id_n = np.empty_like(position_n)
        for shard in np.unique(shard_n).tolist():
            here = shard_n == shard
            id_n[here] = self._ids(shard)[row_n[here]]
        return id_n

    def _places(self, position_n: Ints) -> tuple[NDArray[np.intp], Ints]:
        """The shard of a pass that holds each position, and the row within it."""
        place_n = self._order.at(position_n)
        shard_n = np.searchsorted(self._first_V, place_n, side="right") - 1
        return shard_n, place_n - self._first_V[shard_n]

    def _ids_of(self, shard: int) -> Ints:
        begin, end = (int(of[self._shard_V[shard]]) for of in (self._begin_S, self._end_S))
        ids: Ints = begin + np.flatnonzero(self._times_N[begin:end] > self._pass_V[shard])
        return ids


def passes(counts: Ints, times_N: Times) -> tuple[Ints, Ints, Ints]:
    """The pass, the shard and the size of each shard of all passes. The first pass has all shards of the source."""
    end_S = np.cumsum(counts)
    shards = np.arange(len(counts))
    parts = [(np.zeros_like(shards), shards, kept_in(counts, times_N))]
    again_L = np.flatnonzero(np.asarray(times_N) > 1)
    number = 1
    while len(again_L):
        filled, size = np.unique(np.searchsorted(end_S, again_L, side="right"), return_counts=True)
        parts.append((np.full_like(filled, number), filled, size))
        number += 1
        again_L = again_L[times_N[again_L] > number]
    first, second, third = (np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True))
    return first, second, third


def kept_in(counts: Ints, times_N: Times) -> Ints:
    """How many samples of each shard the list selects."""
    bounds = np.concatenate([[0], np.cumsum(counts)]).tolist()
    kept = [np.count_nonzero(times_N[begin:end]) for begin, end in pairwise(bounds)]
    return np.array(kept, dtype=np.int64)
