"""Samples read by id from indexed shards: a `pread` for each file that is wanted, never an extraction."""

import os
from bisect import bisect_right
from collections.abc import Collection, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.shards.build import Indexed, index_shards
from tercet.data_pipelines.shards.find import find_shards
from tercet.data_pipelines.shards.open import OpenShard, most_open
from tercet.data_pipelines.shards.record import Record
from tercet.data_pipelines.shards.tar import DamagedShard, Missing
from tercet.data_pipelines.source import Files
from tercet.errors import UserError
from tercet.main_process import say
from tercet.modality import EXTENSIONS


class Shards:
    """The samples of a set of shards, by id; may be read from several threads, and sent to other processes."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = tuple(records)
        self._first = np.cumsum([0, *(record.samples for record in records)]).tolist()
        self._open = lru_cache(most_open())(OpenShard)

    def __reduce__(self) -> tuple[type["Shards"], tuple[Sequence[Record]]]:
        return type(self), (self.records,)

    def __len__(self) -> int:
        return int(self._first[-1])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return np.array([record.samples for record in self.records], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        state = xxh3_128()
        for record in self.records:
            state.update(os.fsencode(f"{os.path.basename(record.shard)}\0{record.size}\0{record.fingerprint}\0"))
        return state.hexdigest()

    @property
    def snapshot(self) -> str:
        return self.fingerprint

    def shard(self, id: int) -> str:
        return self._place(id)[0].shard

    def path(self, id: int, modality: str) -> str:
        return self.shard(id)

    def key(self, id: int) -> str:
        record, row = self._place(id)
        try:
            return self._open(record).key(row)
        except BadSample:  # the shard no longer exists, but faults of its samples still need a name
            return f"#{row}"

    def size(self, id: int, modality: str) -> int:
        record, row = self._place(id)
        try:
            return self._open(record).size(row, modality)
        except BadSample:
            return 0

    def prefetch(self, ids: Sequence[int]) -> None:
        """Does nothing: local files need no prefetching."""

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        names = frozenset(wanted)
        files: list[Files | BadSample] = []
        for record, row in map(self._place, ids):
            try:
                files.append(self._open(record).read(row, names))
            except BadSample as bad:
                files.append(bad)
        return files

    def _place(self, id: int) -> tuple[Record, int]:
        shard = bisect_right(self._first, id) - 1
        return self.records[shard], id - self._first[shard]


def open_shards(
    spec: str | Sequence[str],
    *,
    checksums: bool = False,
    missing: Missing = "fail",
    max_bad: float = 0.01,
) -> Shards:
    """Finds, indexes and opens the shards that a config names. Skips damaged ones up to a share, or none."""
    return open_found(find_shards(spec), checksums=checksums, missing=missing, max_bad=max_bad)


def open_found(
    found: Sequence[str], *, checksums: bool = False, missing: Missing = "fail", max_bad: float = 0.01
) -> Shards:
    indexed = index_shards(found, checksums=checksums)
    shards = Shards(usable(indexed, max_bad if missing == "skip" else 0.0))
    if not len(shards):
        known = ", ".join(EXTENSIONS)
        raise UserError(f"{found[0]} and the other shards contain no samples; known files: {known}")
    return shards


def usable(indexed: Sequence[Indexed], most: float) -> list[Record]:
    """The records of the complete shards, if no more than a share of all is damaged."""
    damaged = [each for each in indexed if isinstance(each, DamagedShard)]
    others = f" (and {len(damaged) - 1} more of {len(indexed)} shards)" if len(damaged) > 1 else ""
    if len(damaged) > most * len(indexed):
        bound = f"; data.max_bad = {most:g} allows no more to be skipped" if most else ""
        raise UserError(f"{damaged[0]}{others}{bound}")
    if damaged:
        say(f"skipped: {damaged[0]}{others}")
    return [each for each in indexed if isinstance(each, Record)]
