"""Which sample stands at a position: a pure function, so that the loader's state is one integer.

Positions run on over the epochs; each epoch is a permutation of all samples, and a batch may straddle two.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.keyed import keyed


@lru_cache(maxsize=4)
def permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    ids = keyed("order", seed, epoch).permutation(count)
    ids.setflags(write=False)
    return ids


@dataclass(frozen=True)
class Order:
    """A shuffle of `count` samples that starts afresh in each epoch."""

    count: int
    seed: int

    def epoch(self, position: int) -> int:
        return position // self.count

    def at(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        return int(permutation(self.count, self.seed, epoch)[place])

    def slice(self, start: int, stop: int) -> NDArray[np.int64]:
        """The ids at positions `start` up to `stop`, over as many epochs as they span."""
        parts = [np.empty(0, dtype=np.int64)]
        for epoch in range(start // self.count, -(-stop // self.count)):
            first = epoch * self.count
            parts.append(permutation(self.count, self.seed, epoch)[max(start - first, 0) : stop - first])
        return np.concatenate(parts)
