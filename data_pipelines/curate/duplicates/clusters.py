"""Clusters of samples that are the same, from equal files and from similar fingerprints.

Similar hashes name candidates, and a closer look at both decides. Duplicates of duplicates are in one cluster.

Shape letters: N samples in the order of their ids, V hashes of a sample, R samples that are compared, Q of these at a
time, P pairs.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tercet.data_pipelines.duplicates.near import Hashes, Near, distance

CLOSE = 4  # bits in which the hashes of candidates differ at most
MOST = 32  # candidates of a sample that are looked at: those with the nearest hashes
AT_ONCE = 64  # samples whose candidates are found together

Rows = NDArray[np.int64]
Same = Callable[[int, int], bool]


class Clusters:
    """Which rows belong together. The name of a cluster is its first row."""

    def __init__(self, count: int) -> None:
        self._above_N = np.arange(count)

    def first(self, row: int) -> int:
        while self._above_N[row] != row:
            self._above_N[row] = row = self._above_N[self._above_N[row]]
        return row

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.first(one), self.first(other)))
        self._above_N[high] = low

    def join_equal(self, code_n: NDArray[np.uint64], row_n: Rows) -> None:
        """Joins rows with the same code."""
        _, first_n, inverse_n = np.unique(code_n, return_index=True, return_inverse=True)
        for row, first in zip(row_n.tolist(), row_n[first_n][inverse_n].tolist(), strict=True):
            if row != first:
                self.join(row, first)

    def join_similar(self, row_R: Rows, hashes: Sequence[NDArray[np.uint64]], same: Same) -> None:
        """Compares the first row of each cluster among `row_R`. `hashes`: kinds of hashes `[R, V]`, the whole first."""
        first_R = np.array([self.first(row) == row for row in row_R.tolist()], dtype=bool)
        row_R, hashes = row_R[first_R], [kind[first_R] for kind in hashes]
        for one, other in candidates(hashes):
            row, near = int(row_R[one]), int(row_R[other])
            if self.first(row) != self.first(near) and same(row, near):
                self.join(row, near)

    @property
    def first_N(self) -> Rows:
        return np.array([self.first(row) for row in range(len(self._above_N))], dtype=np.int64)


def candidates(hashes: Sequence[NDArray[np.uint64]]) -> Iterator[tuple[int, int]]:
    """Pairs of which the whole of one is near some view of the other, by any kind of hash."""
    near = [Near(kind.ravel(), CLOSE) for kind in hashes]
    for start in range(0, len(hashes[0]), AT_ONCE):
        found = [_nearest(one, kind, start) for one, kind in zip(near, hashes, strict=True)]
        query_P, other_P, bits_P = np.concatenate(found, axis=1)
        order = np.lexsort((other_P, bits_P, query_P))
        seen: dict[int, set[int]] = {}
        for query, other in zip(query_P[order].tolist(), other_P[order].tolist(), strict=True):
            known = seen.setdefault(query, set())
            if query != other and other not in known and len(known) < MOST:
                known.add(other)
                yield query, other


def _nearest(near: Near, hash_RV: NDArray[np.uint64], start: int) -> Rows:
    """`[3, P]`: a sample, another one, and in how many bits their hashes differ."""
    whole_Q: Hashes = hash_RV[start : start + AT_ONCE, 0]
    query_P, known_P = near.pairs(whole_Q)
    bits_P = distance(whole_Q[query_P], hash_RV.ravel()[known_P])
    return np.stack([query_P + start, known_P // hash_RV.shape[1], bits_P])
