"""Random numbers that depend only on (purpose, seed, epoch, item), and not on ranks, workers or where a run resumed.

Both generators jump to any key at once: Philox is a keyed bijection of its counter, and SplitMix64 (Steele et al.,
2014) hashes a whole array of items.
"""

from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FRACTION = 2.0**-53


def keyed(purpose: str, seed: int, epoch: int = 0, item: int = 0) -> np.random.Generator:
    """A generator for one purpose, item and epoch."""
    key = np.array([crc32(purpose.encode()), seed], dtype=np.uint64)
    counter = np.array([0, epoch, item, 0], dtype=np.uint64)  # Philox counts its draws in the first word
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def keys(purpose: str, seed: int, epoch_N: ArrayLike, item_N: ArrayLike) -> NDArray[np.uint64]:
    """A 64-bit hash for each item in its epoch."""
    key = np.full(np.shape(item_N), crc32(purpose.encode()), dtype=np.uint64)
    for word in (seed, epoch_N, item_N):
        key = splitmix(key + GOLDEN + np.asarray(word).astype(np.uint64))
    return key


def uniforms(purpose: str, seed: int, epoch_N: ArrayLike, item_N: ArrayLike, count: int) -> NDArray[np.float64]:
    """`count` uniform numbers in [0, 1) for each item in its epoch."""
    step_C = np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
    word_NC = splitmix(keys(purpose, seed, epoch_N, item_N)[..., None] + step_C)
    fraction_NC: NDArray[np.float64] = (word_NC >> np.uint64(11)) * FRACTION
    return fraction_NC


def key_of(purpose: str, seed: int) -> int:
    """The hash that `keys` returns for item 0 of epoch 0. For one number, Python is ten times as fast as NumPy."""
    word = crc32(purpose.encode())
    for number in (seed, 0, 0):
        word = mixed(word + int(GOLDEN) + number)
    return word


def draws_of(purpose: str, seed: int, count: int) -> list[float]:
    """The numbers that `uniforms` returns for item 0 of epoch 0."""
    word = key_of(purpose, seed)
    return [(mixed(word + step * int(GOLDEN)) >> 11) * FRACTION for step in range(1, count + 1)]


def splitmix(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: NDArray[np.uint64] = word ^ (word >> np.uint64(31))
    return hashed


def mixed(word: int) -> int:
    """`splitmix` of the lowest 64 bits of a number."""
    word &= 2**64 - 1
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return word ^ (word >> 31)
