"""A part of a set of shards, so that one set can give both training and validation samples.

A hash of the group splits samples, like rows of a table. That reads a file of every sample, which takes too long for a
large set: it is split by whole shards. Then samples of one group may be in both parts.

Shape letters: N samples of the whole set, n of the part.
"""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.bad_samples import BadSample
from tercet.data_pipelines.captions.groups import GroupReader
from tercet.data_pipelines.captions.reader import CaptionReader
from tercet.data_pipelines.manifests.reading import Reading
from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.shards.cache import cache_folder
from tercet.data_pipelines.source import Files, Source
from tercet.data_pipelines.split import Marks, Part, in_part, marks
from tercet.errors import UserError
from tercet.whole_file import whole_file

MANY_SAMPLES = 100_000  # with more, reading the groups would take minutes
MANY_SHARDS = 20  # with fewer, whole shards would be too coarse
READ_AT_ONCE = 256


class PartOfShards:
    """Some samples of a source, renumbered in the same order."""

    def __init__(self, whole: Source, part: Part, id_n: NDArray[np.int64]) -> None:
        self._whole, self._part, self._id_n = whole, part, id_n

    def __len__(self) -> int:
        return len(self._id_n)

    @property
    def counts(self) -> NDArray[np.int64]:
        ends = np.searchsorted(self._id_n, np.cumsum(self._whole.counts))
        count_N = np.diff(ends, prepend=0).astype(np.int64)
        return count_N[count_N > 0]

    @property
    def fingerprint(self) -> str:
        return f"{self._whole.fingerprint} {self._part[0]:g} {self._part[1]:g}"

    @property
    def snapshot(self) -> str:
        return self.fingerprint

    def shard(self, id: int) -> str:
        return self._whole.shard(int(self._id_n[id]))

    def key(self, id: int) -> str:
        return self._whole.key(int(self._id_n[id]))

    def path(self, id: int, modality: str) -> str:
        return self._whole.path(int(self._id_n[id]), modality)

    def size(self, id: int, modality: str) -> int:
        return self._whole.size(int(self._id_n[id]), modality)

    def prefetch(self, ids: Sequence[int]) -> None:
        self._whole.prefetch(self._id_n[ids].tolist())

    def read(self, ids: Sequence[int], wanted: Collection[str]) -> list[Files | BadSample]:
        return self._whole.read(self._id_n[ids].tolist(), wanted)


def too_large_for_groups(whole: Source) -> bool:
    return len(whole) > MANY_SAMPLES and len(whole.counts) >= MANY_SHARDS


def part_by_group(whole: Source, reading: Reading, part: Part) -> PartOfShards:
    return PartOfShards(whole, part, np.flatnonzero(in_part(_cached_marks(whole, reading), part)))


def part_by_shard(shards: Sequence[str], part: Part) -> list[str]:
    """Sorts the shards by a hash of their names, and takes those whose place lies in the part."""
    shuffled = sorted(range(len(shards)), key=lambda number: (_name_hash(shards[number]), number))
    first, last = (_cut(bound, len(shards)) for bound in part)
    if first >= last:
        raise UserError(
            f"none of the {len(shards)} shards lies in the part [{part[0]:g}, {part[1]:g}], which takes whole shards. "
            "Widen it, set `split_by: group`, or name the validation data as data.val"
        )
    return [shards[number] for number in sorted(shuffled[first:last])]


def _cut(bound: float, count: int) -> int:
    """The number of shards below a bound; at least one shard is on each side."""
    return round(bound * count) if bound in (0, 1) else min(max(round(bound * count), 1), count - 1)


def _name_hash(shard: str) -> bytes:
    return blake2b(os.fsencode(PurePosixPath(urlsplit(shard).path).name), digest_size=8).digest()


def _cached_marks(whole: Source, reading: Reading) -> Marks:
    """The hashes of all samples, read once and then kept in the cache."""
    spec = repr((whole.fingerprint, reading.split_by == "file", reading.group, sorted(reading.captions.items())))
    path = cache_folder() / "groups" / f"{blake2b(spec.encode(), digest_size=12).hexdigest()}.npy"
    with suppress(OSError, ValueError):
        kept_N: Marks = np.load(path, allow_pickle=False)
        return kept_N
    mark_N = _marks(whole, reading)
    # A cache that cannot be written costs time only.
    with suppress(OSError), whole_file(path) as draft, draft.open("wb") as file:
        np.save(file, mark_N, allow_pickle=False)
    return mark_N


def _marks(whole: Source, reading: Reading) -> Marks:
    group_of = GroupReader(reading.group, CaptionReader(reading.captions))
    starts = range(0, len(whole), READ_AT_ONCE)
    parts = [range(start, min(start + READ_AT_ONCE, len(whole))) for start in starts]
    group_N = np.full(len(whole), -1, dtype=np.int64)
    identity_N = np.empty(len(whole), dtype=np.uint64)
    for ids in with_progress(parts, "reading groups", len(parts)):
        some = slice(ids.start, ids.stop)
        identity_N[some] = [xxh3_64_intdigest(whole.key(id).encode("utf-8", "surrogateescape")) for id in ids]
        if reading.split_by != "file":
            group_N[some] = list(group_of.each(whole.read(ids, group_of.wanted)))
    return marks(identity_N, group_N)
