"""Values by sample, sharded over ranks: rank r of W owns the samples r, r + W, r + 2W, … of every source.

Each rank has at most ⌈n / W⌉ rows of a source of n samples, in main memory. The ids of a batch count through all
sources of a stage, so they change with the sources. A table therefore stores values by the source's fingerprint and the
id within the source. A source that a stage does not use keeps its values.

`read` takes ids on any device. The other methods take ids and values in main memory.

Shape letters: N samples that all ranks name, n samples that this rank owns, m samples of one source.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import gcd

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.distributed import World
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory

SAMPLES = "samples"  # the name, in a checkpoint, of a source's number of samples


class SampleTable(Memory):
    """Columns of values. `columns` gives the type of each column, and `first` its value at first, if that is not 0."""

    def __init__(
        self,
        columns: Mapping[str, torch.dtype],
        sources: Sequence[SourceIds],
        world: World,
        first: Mapping[str, float] | None = None,
    ) -> None:
        self.columns, self.world = dict(columns), world
        self.first = dict.fromkeys(columns, 0.0) | dict(first or {})
        self.samples: dict[str, int] = {}  # the number of samples by the source's fingerprint
        self.rows: dict[str, dict[str, Tensor]] = {}  # this rank's values by the source's fingerprint and the column
        self._sources = sources
        for one in sources:
            self._add(one.fingerprint, len(one.ids))

    def owned(self, id_N: Tensor) -> Tensor:
        """Which of these samples this rank owns."""
        owned_N = torch.zeros(len(id_N), dtype=torch.bool)
        for _, among_N, id_n in self._by_source(id_N):
            owned_N[among_N] = id_n % self.world.size == self.world.rank
        return owned_N

    def get(self, id_n: Tensor) -> dict[str, Tensor]:
        """The values of samples that this rank owns."""
        values = {name: torch.zeros(len(id_n), dtype=dtype) for name, dtype in self.columns.items()}
        for source, among_n, id_m in self._by_source(id_n):
            for name, value_n in values.items():
                value_n[among_n] = self.rows[source][name][id_m // self.world.size]
        return values

    def put(self, id_n: Tensor, values: Mapping[str, Tensor]) -> None:
        """Sets the values of samples that this rank owns. No sample may occur twice."""
        for source, among_n, id_m in self._by_source(id_n):
            for name, value_n in values.items():
                self.rows[source][name][id_m // self.world.size] = value_n[among_n].to(self.columns[name])

    def read(self, id_N: Tensor) -> dict[str, Tensor]:
        """The values of any samples, on the rank's device. All ranks must pass the same ids. A collective."""
        owned_N = self.owned(id_N.cpu())
        found = self.get(id_N.cpu()[owned_N])
        values = {}
        for name, dtype in self.columns.items():
            value_N = torch.zeros(len(id_N), dtype=dtype)
            value_N[owned_N] = found[name]
            values[name] = self.world.sum(value_N.to(self.world.device))
        return values

    def pieces(self, size: int) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
        """Yields all values in pieces of `size` samples of a source: its fingerprint, the first id, and the columns.

        A collective.
        """
        rank, ranks = self.world.rank, self.world.size
        for source, samples in sorted(self.samples.items()):
            for first in range(0, samples, size):
                ids = range(first, min(first + size, samples))
                own = slice(-(-(ids.start - rank) // ranks), -(-(ids.stop - rank) // ranks))
                values = {}
                for name, dtype in self.columns.items():
                    value_N = torch.zeros(len(ids), dtype=dtype)
                    value_N[(rank - first) % ranks :: ranks] = self.rows[source][name][own]
                    values[name] = self.world.sum(value_N.to(self.world.device)).cpu()
                yield source, first, values

    def state(self) -> Iterator[SavedTensor]:
        for source, samples in sorted(self.samples.items()):
            yield SavedTensor(f"{source}/{SAMPLES}", torch.tensor(samples))
            for name in self.columns:
                yield SavedTensor(f"{source}/{name}", self.rows[source][name], sharded=True)

    def restore(self, saved: SavedMemory) -> None:
        """Loads this rank's rows from the shards of the ranks that wrote the checkpoint, one shard at a time.

        Columns that the checkpoint lacks start as in a new run.
        """
        names = set(saved.names())
        for source in sorted({name.rpartition("/")[0] for name in names}):
            self._add(source, int(saved.read(f"{source}/{SAMPLES}")))
            known = [name for name in self.columns if f"{source}/{name}" in names]
            for rank in range(saved.ranks):
                if (rank - self.world.rank) % gcd(saved.ranks, self.world.size) == 0:  # else the shard has none of them
                    for name in known:
                        self._take(source, name, saved.read_shard(f"{source}/{name}", rank), rank, saved.ranks)

    def _take(self, source: str, name: str, value_m: Tensor, rank: int, ranks: int) -> None:
        id_m = rank + ranks * torch.arange(len(value_m))
        mine_m = id_m % self.world.size == self.world.rank
        self.rows[source][name][id_m[mine_m] // self.world.size] = value_m[mine_m]

    def _add(self, source: str, samples: int) -> None:
        owned = len(range(self.world.rank, samples, self.world.size))
        self.samples[source] = samples
        self.rows[source] = {
            name: torch.full((owned,), self.first[name], dtype=dtype) for name, dtype in self.columns.items()
        }

    def _by_source(self, id_N: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """For each source of the stage: its fingerprint, which samples belong to it, and their ids within it."""
        for one in self._sources:
            among_N = (id_N >= one.ids.start) & (id_N < one.ids.stop)
            yield one.fingerprint, among_N, id_N[among_N] - one.ids.start
