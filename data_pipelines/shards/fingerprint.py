"""Whether a shard has changed since it was indexed, judged by its size and a few of its blocks."""

import os

import numpy as np
from xxhash import xxh3_128

from tercet.system import BINARY, pread

BLOCKS, BLOCK = 8, 4096


def fingerprint(shard: str) -> str:
    """A hash over the size and blocks spread evenly from the first to the last."""
    descriptor = os.open(shard, BINARY)
    try:
        return fingerprint_of(descriptor)
    finally:
        os.close(descriptor)


def fingerprint_of(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    state = xxh3_128(str(size).encode())
    for offset in np.linspace(0, max(size - BLOCK, 0), BLOCKS, dtype=np.int64).tolist():
        state.update(pread(descriptor, BLOCK, offset))
    return state.hexdigest()
