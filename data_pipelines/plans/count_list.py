"""Reads a whole list, and counts how often each sample of a source appears in an epoch.

Shape letters: N samples of the source, n lines of a block of the list.
"""

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.plans.listing import ListBlock, Listing
from tercet.data_pipelines.plans.order import Ints
from tercet.data_pipelines.source import Source
from tercet.errors import UserError

UNLISTED = 65_535  # larger than any count

Times = NDArray[np.unsignedinteger]
Resolved = tuple[Ints, Ints, Ints]  # lines, ids and counts


def counted(file: Listing, source: Source, *, part: bool = False) -> Times:
    """Reads the list. Each sample that it names must exist, and be listed once."""
    times_N = np.full(len(source), UNLISTED, dtype=np.uint16)
    resolve = KeyLookup(file, source, part) if file.by_key else IdLookup(file, source)
    for block in file.blocks():
        line_n, id_n, count_n = resolve(block)
        if (again := _first_repeated(times_N, id_n)) is not None:
            name = source.key(int(id_n[again])) if file.by_key else id_n[again]
            raise UserError(f"{file.place(int(line_n[again]))}: `{name}` is listed twice; remove one of the two")
        times_N[id_n] = count_n
    _check_keys(file, source)
    times_N[times_N == UNLISTED] = 0
    most = times_N.max(initial=0)
    if not most:
        raise UserError(f"{file.path} selects no sample of {source.shard(0)}; list some with a count above 0")
    return times_N.astype(np.uint8) if most <= np.iinfo(np.uint8).max else times_N


def _check_keys(file: Listing, source: Source) -> None:
    for line, id, key in file.witnesses():
        if source.key(id) != key:
            raise UserError(
                f"{file.place(line)}: the sample {id} has the key `{key}` here, but `{source.key(id)}` in "
                f"{source.shard(id)}: the data are others or changed, so make the list again"
            )


def _first_repeated(times_N: Times, id_n: Ints) -> int | None:
    """The index of the first line in a block whose id an earlier line names."""
    order_n = np.argsort(id_n, kind="stable")
    same = id_n[order_n][1:] == id_n[order_n][:-1]
    repeated = np.concatenate([order_n[1:][same], np.flatnonzero(times_N[id_n] != UNLISTED)])
    return int(repeated.min()) if len(repeated) else None


class IdLookup:
    """Checks that the source has the ids of a block."""

    def __init__(self, file: Listing, source: Source) -> None:
        self.file, self.source = file, source

    def __call__(self, block: ListBlock) -> Resolved:
        id_n = np.asarray(block.named, dtype=np.int64)
        (unknown,) = np.nonzero(id_n >= len(self.source))
        if len(unknown):
            place, id = self.file.place(int(block.line_n[unknown[0]])), id_n[unknown[0]]
            last = len(self.source) - 1
            raise UserError(f"{place}: {self.source.shard(0)} has no id {id}; ids go from 0 to {last}")
        return block.line_n, id_n, block.count_n


class KeyLookup:
    """Finds samples by their keys, in a table of hashes of all keys."""

    def __init__(self, file: Listing, source: Source, part: bool) -> None:
        self.file, self.source, self.part = file, source, part
        keys = (source.key(id) for id in range(len(source)))
        hash_N = np.fromiter(map(_hashed, keys), dtype=np.uint64, count=len(source))
        self._id_N = np.argsort(hash_N, kind="stable")
        self._hash_N = hash_N[self._id_N]

    def __call__(self, block: ListBlock) -> Resolved:
        """Drops keys that the source lacks, if it is a part."""
        id_n = np.array(
            [self._id(key, line) for key, line in zip(block.named, block.line_n.tolist(), strict=True)], dtype=np.int64
        )
        here = id_n >= 0
        return block.line_n[here], id_n[here], block.count_n[here]

    def _id(self, key: str, line: int) -> int:
        hashed = np.uint64(_hashed(key))
        begin, end = (int(np.searchsorted(self._hash_N, hashed, side)) for side in ("left", "right"))
        found = [int(id) for id in self._id_N[begin:end] if self.source.key(int(id)) == key]
        if len(found) > 1:
            raise UserError(
                f"{self.file.place(line)}: the key `{key}` names {len(found)} samples of the source; list ids instead"
            )
        if not found and not self.part:
            raise UserError(f"{self.file.place(line)}: {self.source.shard(0)} has no key `{key}`")
        return found[0] if found else -1


def _hashed(key: str) -> int:
    return xxh3_64_intdigest(key.encode("utf-8", "surrogateescape"))
