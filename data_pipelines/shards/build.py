"""Indexes the shards of a set that have no valid index yet, in parallel.

A run that was killed resumes where it was. The ranks of a run share the work without communication: each begins at
another shard, and skips shards that have an index by then.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.progress import with_progress
from tercet.data_pipelines.shards.address import is_url, redacted
from tercet.data_pipelines.shards.fingerprint import fingerprint
from tercet.data_pipelines.shards.index import ShardIndex, arrange
from tercet.data_pipelines.shards.record import (
    Record,
    find_record,
    load_index,
    places,
    records_of_equal_size,
    save_record,
)
from tercet.data_pipelines.shards.tar import DamagedShard, members
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, spawned
from tercet.errors import UserError
from tercet.main_process import say
from tercet.system import cores, pread

LOOKUP_THREADS = 8  # threads: a network file system answers many requests at once
LOOKUPS_PER_TASK = 256
SHARDS_PER_WORKER = 8  # fewer are indexed sooner than a process starts

Indexed = Record | DamagedShard


def index_shards(shards: Sequence[str], *, checksums: bool = False, workers: int | None = None) -> list[Indexed]:
    """The record of each shard, or its damage instead. With checksums, all payloads are read."""
    if remote := [shard for shard in shards if is_url(shard)]:
        raise UserError(
            f"{redacted(remote[0])} is remote, and is indexed when it is fetched; name shards on this machine"
        )
    found = dict(zip(shards, _look_up(shards, checksums), strict=True))
    missing = [shard for shard, indexed in found.items() if indexed is None]
    _report_changed(missing)
    found.update(_index(_rotated(missing), checksums, workers or _cores()))
    return [indexed for indexed in found.values() if indexed is not None]


def index_shard(shard: str, checksums: bool = False) -> Indexed:
    """Scans a shard and saves its index, unless it has one already."""
    try:
        if record := _valid_record(shard, checksums):
            return record
        before = fingerprint(shard)
        index, census = arrange(members(shard))
        if fingerprint(shard) != before:
            raise DamagedShard(shard, "it changed while it was read")
        if same := _record_of_the_same_files(shard, index):
            return same
        if checksums:
            with open(shard, "rb") as file:
                index = index.with_checksums(partial(_digest, file.fileno()))
        return save_record(shard, index, census)
    except DamagedShard as damaged:
        return damaged
    except OSError as error:
        return DamagedShard(shard, f"it cannot be read ({error.strerror})")


def _record_of_the_same_files(shard: str, index: ShardIndex) -> Record | None:
    """A record with checksums that lists the same files: its checksums will find the samples that changed."""
    checked = (record for record in records_of_equal_size(shard) if record.checksums)
    return next((record for record in checked if load_index(record).lists_the_files_of(index)), None)


def _digest(descriptor: int, offset: int, size: int) -> int:
    return xxh3_64_intdigest(pread(descriptor, size, offset))


def _valid_record(shard: str, checksums: bool) -> Record | None:
    record = find_record(shard)
    return record if record and (record.checksums or not checksums) else None


def _look_up(shards: Sequence[str], checksums: bool) -> Iterator[Indexed | None]:
    """Gives many shards to each task, because starting a task takes longer than a lookup."""

    def look(some: Sequence[str]) -> list[Indexed | None]:
        return [_look_up_one(shard, checksums) for shard in some]

    parts = [shards[start : start + LOOKUPS_PER_TASK] for start in range(0, len(shards), LOOKUPS_PER_TASK)]
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        yield from chain.from_iterable(threads.map(look, parts))


def _look_up_one(shard: str, checksums: bool) -> Indexed | None:
    try:
        return _valid_record(shard, checksums)
    except OSError as error:
        return DamagedShard(shard, f"it cannot be read ({error.strerror})")


def _index(shards: Sequence[str], checksums: bool, workers: int) -> Iterator[tuple[str, Indexed]]:
    index = partial(index_shard, checksums=checksums)
    processes = min(workers, len(shards) // SHARDS_PER_WORKER)
    with spawned(processes, "indexes shards", "run the same command again to continue") as pool:
        indexed = in_order(index, shards, pool, AHEAD * processes)
        yield from zip(shards, with_progress(indexed, "indexing shards", len(shards)), strict=True)


def _report_changed(missing: Sequence[str]) -> None:
    changed = [shard for shard in missing if any(map(os.path.exists, places(shard))) and not find_record(shard)]
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        say(f"{changed[0]}{others}: changed since the last index; indexing again")


def _rotated(shards: Sequence[str]) -> list[str]:
    """The shards, beginning at another one on each rank."""
    start = len(shards) * int(os.environ.get("RANK", 0)) // int(os.environ.get("WORLD_SIZE", 1))
    return [*shards[start:], *shards[:start]]


def _cores() -> int:
    """This process's share of the cores."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
