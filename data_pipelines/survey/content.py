"""Finds equal items among any number by 64-bit hashes of their bytes.

Hashes are in memory up to a limit, and then in buckets on disk by their first bits, so that equal ones are in the same
bucket, and each bucket is sorted alone. Two different items share a hash once in 2⁶⁴ pairs.
"""

from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from xxhash import xxh3_64_intdigest

BUCKETS = 64
HELD = 2**21  # hashes in memory

ROW = np.dtype([("hash", np.uint64), ("id", np.int64)])


def content_hash(content: bytes) -> int:
    return xxh3_64_intdigest(content)


class Equals:
    """Collects hashes with ids, and returns the ids that share a hash."""

    def __init__(self, held: int = HELD) -> None:
        self._limit = held
        self._rows: list[NDArray[np.void]] = []
        self._held = 0
        self._buckets: list[IO[bytes]] = []

    def add(self, hashes: ArrayLike, ids: ArrayLike) -> None:
        hash_N = np.asarray(hashes, dtype=np.uint64)
        rows = np.empty(len(hash_N), dtype=ROW)
        rows["hash"], rows["id"] = hash_N, ids
        self._rows.append(rows)
        self._held += len(rows)
        if self._held > self._limit:
            self._spill()

    def groups(self) -> Iterator[NDArray[np.int64]]:
        """Ascending ids of each group of at least two."""
        if self._buckets:
            self._spill()
        for rows in map(_read, self._buckets) if self._buckets else [self._taken()]:
            yield from _groups(rows)

    def _taken(self) -> NDArray[np.void]:
        rows = np.concatenate([np.empty(0, dtype=ROW), *self._rows])
        self._rows, self._held = [], 0
        return rows

    def _spill(self) -> None:
        self._buckets = self._buckets or [TemporaryFile() for _ in range(BUCKETS)]  # noqa: SIM115
        rows = self._taken()
        bucket_N = rows["hash"] >> np.uint64(64 - BUCKETS.bit_length() + 1)
        order = np.argsort(bucket_N, kind="stable")
        ends = np.searchsorted(bucket_N[order], np.arange(BUCKETS), side="right")
        for bucket, part in zip(self._buckets, np.split(rows[order], ends[:-1]), strict=True):
            bucket.write(part.tobytes())


def _read(bucket: IO[bytes]) -> NDArray[np.void]:
    bucket.seek(0)
    return np.frombuffer(bucket.read(), dtype=ROW)


def _groups(rows: NDArray[np.void]) -> Iterator[NDArray[np.int64]]:
    rows = np.unique(rows)  # sorted by hash, then id, without repetitions
    starts = np.flatnonzero(np.r_[True, np.diff(rows["hash"]) != 0]) if len(rows) else np.empty(0, np.int64)
    sizes = np.diff(np.r_[starts, len(rows)])
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        yield rows["id"][start : start + size]
