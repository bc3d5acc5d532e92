"""Files and tables to WebDataset shards, in order, with everything that was left out told by row.

While it runs, `plan.json` and `manifest.json.partial` stand in the folder; `manifest.json` once it is done. The same
command goes on where it was stopped, and another is refused.
"""

import fcntl
import os
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from tercet.data_pipelines.ahead import in_order
from tercet.data_pipelines.manifests.entry import LeftOut, Outcome
from tercet.data_pipelines.manifests.manifest import Manifest
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.journal import Journal, Packed, seal
from tercet.data_pipelines.pack.plan import Plan
from tercet.data_pipelines.pack.result import PARTIAL, begin, clear, finish
from tercet.data_pipelines.pack.sample import Members, pack_outcome
from tercet.data_pipelines.pack.workers import packers
from tercet.data_pipelines.shards.write import write_shard
from tercet.errors import UserError

CHUNK = 16  # rows that a worker takes at once
AHEAD = 4  # chunks under way for each worker

Made: TypeAlias = Members | LeftOut
Watch: TypeAlias = Callable[[int], None]  # hears how many more rows are done


def pack(plan: Plan, manifest: Manifest, config: PackConfig, out: Path, workers: int, watch: Watch) -> dict[str, Any]:
    """Writes what of the plan does not stand in `out` yet; returns its `manifest.json`."""
    with _alone(out):
        if not begin(out, plan):
            journal = Journal(out / PARTIAL)
            watch(sum(plan.counts[shard] for shard in journal.packed))
            for packed in _shards(plan, manifest, config, out, workers, journal.packed.keys(), watch):
                journal.append(packed)
            finish(out, plan, journal)
        return clear(out)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two at once in one folder would overwrite each other's shards."""
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        _lock(folder, out)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, out: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another `tercet data pack` writes into {out}; wait for it, or choose another folder"
        ) from error


def _shards(
    plan: Plan, manifest: Manifest, config: PackConfig, out: Path, workers: int, done: Container[int], watch: Watch
) -> Iterator[Packed]:
    """Every shard that is not done, each written as its rows come from the workers, in order."""
    with packers(workers) as pool:
        chunks = in_order(partial(_pack_chunk, config), _chunks(plan, manifest, done), pool, AHEAD * workers)
        for shard, group in groupby(chunks, key=itemgetter(0)):
            yield _write(out, shard, _watched((made for _, made in group), watch))


def _chunks(plan: Plan, manifest: Manifest, done: Container[int]) -> Iterator[tuple[int, list[Outcome]]]:
    """The rows of the shards to be written; a chunk never lies in two of them."""
    placed = ((plan.shard(position), entry) for position, entry in enumerate(manifest.entries()))
    for shard, group in groupby(placed, key=itemgetter(0)):
        if shard not in done:
            while chunk := [entry for _, entry in islice(group, CHUNK)]:
                yield shard, chunk


def _pack_chunk(config: PackConfig, chunk: tuple[int, list[Outcome]]) -> tuple[int, list[Made]]:
    shard, entries = chunk
    return shard, [pack_outcome(config, entry) for entry in entries]


def _watched(chunks: Iterable[list[Made]], watch: Watch) -> Iterator[Made]:
    for chunk in chunks:
        yield from chunk
        watch(len(chunk))


def _write(out: Path, shard: int, rows: Iterable[Made]) -> Packed:
    left_out: list[LeftOut] = []
    written = 0

    def samples() -> Iterator[Members]:
        nonlocal written
        for row in rows:
            if isinstance(row, LeftOut):
                left_out.append(row)
            else:
                written += 1
                yield row

    name = f"{shard:06d}.tar"
    kept = samples()
    first = next(kept, None)
    if first is None:
        return Packed(shard, name, 0, 0, "", tuple(left_out))
    write_shard(out / name, chain([first], kept))
    return Packed(shard, name, written, *seal(out / name), tuple(left_out))
