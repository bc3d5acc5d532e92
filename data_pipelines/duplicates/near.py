"""Finds 64-bit hashes that differ in a few bits without comparing all pairs.

Cut into one band more than bits may differ, two near hashes agree in at least one whole band (Manku et al., 2007).

Shape letters: N known hashes, Q queries, P pairs.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FURTHEST = 6  # bits
Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


class Near:
    """Finds those of its hashes that are at most `furthest` bits from others. Fewer bits are faster."""

    def __init__(self, hash_N: Hashes, furthest: int = FURTHEST) -> None:
        self._hash_N, self._furthest = hash_N, furthest
        edges = np.linspace(0, 64, furthest + 2).astype(np.uint64)
        self._edges = list(pairwise(edges))
        bands = [_band(hash_N, low, high) for low, high in self._edges]
        row = np.uint32 if len(hash_N) < 2**32 else np.int64
        self._order = [np.argsort(band_N, kind="stable").astype(row) for band_N in bands]
        self._sorted = [band_N[order_N] for band_N, order_N in zip(bands, self._order, strict=True)]

    def pairs(self, hash_Q: Hashes) -> tuple[Rows, Rows]:
        """The rows of the queries and of the known hashes near them, each pair once."""
        found = [self._in_band(hash_Q, band) for band in range(self._furthest + 1)]
        pair_P = np.unique(np.concatenate(found))
        return pair_P // len(self._hash_N), pair_P % len(self._hash_N)

    def _in_band(self, hash_Q: Hashes, band: int) -> Rows:
        """Each near pair that agrees in the band, as one number."""
        band_Q = _band(hash_Q, *self._edges[band])
        query_P, known_P = spread(self._sorted[band], self._order[band], band_Q)
        near_P = distance(hash_Q[query_P], self._hash_N[known_P]) <= self._furthest
        pair_P: Rows = query_P[near_P] * len(self._hash_N) + known_P[near_P]
        return pair_P


def spread(sorted_N: NDArray[np.generic], order_N: NDArray[np.integer], query_Q: NDArray[np.generic]) -> Rows:
    """`[2, P]`: each row of a query with each row of an equal known value."""
    first_Q, last_Q = (np.searchsorted(sorted_N, query_Q, side=side) for side in ("left", "right"))
    count_Q = last_Q - first_Q
    query_P = np.repeat(np.arange(len(query_Q)), count_Q)
    nth_P = np.arange(len(query_P)) - np.repeat(np.cumsum(count_Q) - count_Q, count_Q)
    return np.stack([query_P, order_N[first_Q[query_P] + nth_P]])


def distance(one_P: Hashes, other_P: Hashes) -> NDArray[np.int64]:
    """How many bits differ."""
    bytes_P8 = (one_P ^ other_P)[:, None].view(np.uint8)
    differ_P: NDArray[np.int64] = ONES[bytes_P8].sum(1, dtype=np.int64)
    return differ_P


def _band(hash_N: Hashes, low: np.uint64, high: np.uint64) -> NDArray[np.unsignedinteger]:
    """In the smallest type, because all bands are in memory."""
    most = (np.uint64(1) << (high - low)) - np.uint64(1)
    banded: NDArray[np.unsignedinteger] = ((hash_N >> low) & most).astype(np.min_scalar_type(most))
    return banded
