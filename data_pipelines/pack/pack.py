"""Packs files and tables into WebDataset shards, in order, and lists every row that was left out.

While it runs, `plan.json` and `manifest.json.partial` are in the folder; afterwards `manifest.json`. The same command
resumes where it was stopped; a command with other options is refused.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from tercet.data_pipelines.manifests.entry import Outcome
from tercet.data_pipelines.manifests.manifest import Manifest
from tercet.data_pipelines.pack.config import PackConfig
from tercet.data_pipelines.pack.journal import Journal, Packed
from tercet.data_pipelines.pack.place import alone
from tercet.data_pipelines.pack.plan import PackPlan
from tercet.data_pipelines.pack.result import PARTIAL, begin, clear, finish
from tercet.data_pipelines.pack.sample import pack_outcome
from tercet.data_pipelines.pack.shard import Made, chunks, write_packed
from tercet.data_pipelines.workers.in_order import in_order
from tercet.data_pipelines.workers.spawned import AHEAD, CONTINUE, spawned

CHUNK = 16  # rows that a worker takes at once

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
        with spawned(workers, "packs", CONTINUE) as pool:
            rows = chunks(self.plan, self.manifest.entries(), done, CHUNK)
            made = in_order(partial(_pack_chunk, self.config), rows, pool, AHEAD * workers)
            for shard, group in groupby(made, key=itemgetter(0)):
                yield write_packed(self.plan, shard, self.out, _watched((rows for _, rows in group), watch))


def _pack_chunk(config: PackConfig, chunk: tuple[int, list[Outcome]]) -> tuple[int, list[Made]]:
    shard, entries = chunk
    return shard, [pack_outcome(config, entry) for entry in entries]


def _watched(chunks: Iterable[list[Made]], watch: Watch) -> Iterator[Made]:
    for chunk in chunks:
        yield from chunk
        watch(len(chunk))
