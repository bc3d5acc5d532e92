"""Randomness keyed by what it is for: the same draw at any world size, on any worker, after any resume.

Philox is a keyed bijection of its counter, so that each (purpose, seed, epoch, item) opens a stream of its own without
any stream being run through first.
"""

from zlib import crc32

import numpy as np


def keyed(purpose: str, seed: int, epoch: int = 0, item: int = 0) -> np.random.Generator:
    """The generator of one purpose for one item in one epoch."""
    key = np.array([crc32(purpose.encode()), seed], dtype=np.uint64)
    counter = np.array([0, epoch, item, 0], dtype=np.uint64)  # Philox counts its draws in the first word
    return np.random.Generator(np.random.Philox(counter=counter, key=key))
