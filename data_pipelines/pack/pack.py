"""Packs files and tables into WebDataset shards, in order, and lists every row that was left out.

While it runs, `plan.json` and `manifest.json.partial` are in the folder; afterwards `manifest.json`. The same command
resumes where it was stopped; a command with other options is refused.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from tercet.data_pipelines.manifests.entry import LeftOut, Outcome
from tercet.data_pipelines.manifests.manifest import Manifest
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.journal import Journal, Packed, seal
from tercet.data_pipelines.pack.place import alone
from tercet.data_pipelines.pack.plan import PackPlan
from tercet.data_pipelines.pack.result import PARTIAL, begin, clear, finish
from tercet.data_pipelines.pack.sample import pack_outcome
from tercet.data_pipelines.shards.write import SampleFiles, write_shard
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, spawned

CHUNK = 16  # rows that a worker takes at once
FIX = "run the same command again with fewer --workers; it continues where this one stopped"

Made: TypeAlias = SampleFiles | LeftOut
Watch: TypeAlias = Callable[[int], None]  # is called with the number of further rows done


@dataclass(frozen=True)
class Packing:
    """A plan, its source, and the folder of the shards."""

    plan: PackPlan
    manifest: Manifest
    config: PackConfig
    out: Path

    def run(self, workers: int, watch: Watch) -> dict[str, Any]:
        """Writes the shards that the folder does not have yet; returns its `manifest.json`."""
        with alone(self.out):
            if not begin(self.out, self.plan):
                journal = Journal(self.out / PARTIAL)
                watch(sum(map(self.plan.count, journal.packed)))
                for packed in self._shards(journal.packed.keys(), workers, watch):
                    journal.append(packed)
                finish(self.out, self.plan, journal)
            return clear(self.out)

    def _shards(self, done: Container[int], workers: int, watch: Watch) -> Iterator[Packed]:
        """Each that is not done, written while its rows come from the workers."""
        with spawned(workers, "packs", FIX) as pool:
            made = in_order(partial(_pack_chunk, self.config), self._chunks(done), pool, AHEAD * workers)
            for shard, group in groupby(made, key=itemgetter(0)):
                yield self._write(shard, _watched((rows for _, rows in group), watch))

    def _chunks(self, done: Container[int]) -> Iterator[tuple[int, list[Outcome]]]:
        """The rows of the shards to be written; a chunk never lies in two of them."""
        placed = ((self.plan.shard(position), entry) for position, entry in enumerate(self.manifest.entries()))
        for shard, group in groupby(placed, key=itemgetter(0)):
            if shard not in done:
                while chunk := [entry for _, entry in islice(group, CHUNK)]:
                    yield shard, chunk

    def _write(self, shard: int, rows: Iterable[Made]) -> Packed:
        """A shard whose rows were all left out is not written."""
        name, left_out = f"{shard:06d}.tar", list[LeftOut]()
        kept = _kept(rows, left_out)
        first = next(kept, None)
        if first is None:
            return Packed(shard, name, 0, 0, "", tuple(left_out))
        write_shard(self.out / name, chain([first], kept))
        return Packed(shard, name, self.plan.count(shard) - len(left_out), *seal(self.out / name), tuple(left_out))


def _pack_chunk(config: PackConfig, chunk: tuple[int, list[Outcome]]) -> tuple[int, list[Made]]:
    shard, entries = chunk
    return shard, [pack_outcome(config, entry) for entry in entries]


def _watched(chunks: Iterable[list[Made]], watch: Watch) -> Iterator[Made]:
    for chunk in chunks:
        yield from chunk
        watch(len(chunk))


def _kept(rows: Iterable[Made], left_out: list[LeftOut]) -> Iterator[SampleFiles]:
    for row in rows:
        if isinstance(row, LeftOut):
            left_out.append(row)
        else:
            yield row
