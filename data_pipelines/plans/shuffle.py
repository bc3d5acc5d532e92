"""Permutations that are computed for single elements, and never stored.

A Feistel network permutes the bits of the element, and is repeated until the result lies in the domain (cycle walking,
Black and Rogaway, 2002), so any number of elements can be permuted. Each element may have its own permutation.

Shape letters: n elements.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tercet.data_pipelines.seeding import GOLDEN, splitmix

ROUNDS = 8
FEWEST = 64  # a smaller network is not uniform over permutations


def shuffled(element_n: NDArray[np.int64], count_n: ArrayLike, key_n: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each element of 0 … count - 1 goes, under the permutation of its key."""
    count_n = np.broadcast_to(np.asarray(count_n, dtype=np.int64), element_n.shape)
    bits_n = np.ceil(np.log2(np.maximum(count_n, FEWEST))).astype(np.uint64)
    goes_n: NDArray[np.int64] = element_n.copy()
    out = np.arange(len(element_n))
    while len(out):
        goes_n[out] = _once(goes_n[out], bits_n[out], key_n[out])
        out = out[goes_n[out] >= count_n[out]]
    return goes_n


def _once(element_n: NDArray[np.int64], bits_n: NDArray[np.uint64], key_n: NDArray[np.uint64]) -> NDArray[np.int64]:
    """One pass through the network, in which the low and the high bits change each other in turn."""
    low_bits_n = bits_n >> np.uint64(1)
    low_mask_n = (np.uint64(1) << low_bits_n) - np.uint64(1)
    high_mask_n = (np.uint64(1) << (bits_n - low_bits_n)) - np.uint64(1)
    low_n = element_n.astype(np.uint64) & low_mask_n
    high_n = element_n.astype(np.uint64) >> low_bits_n
    for turn in range(ROUNDS):
        key_n = key_n + GOLDEN
        if turn % 2:
            low_n = (low_n ^ splitmix(high_n + key_n)) & low_mask_n
        else:
            high_n = (high_n ^ splitmix(low_n + key_n)) & high_mask_n
    goes_n: NDArray[np.int64] = (high_n << low_bits_n | low_n).astype(np.int64)
    return goes_n
