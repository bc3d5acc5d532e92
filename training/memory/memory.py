"""A memory: what outlives a step. It offers frozen vectors before a step and learns from a step that was applied.

Life of a memory in a stage:

1. `restore` takes what the last checkpoint holds of it.
2. Before each step, `frozen` gives vectors that terms may use, and `read` the values of samples.
3. After each applied step, `after` gets the batch and its outcome. A step that is skipped changes nothing.
4. A checkpoint saves what `state` yields.
5. At the end of the run, `finish` writes what it has learned of samples as columns.

Every method is a collective, called by all ranks in the same order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.terms import Gathered, Outcome
from tercet.training.checkpoint_reader import Origin
from tercet.training.config import RunConfig
from tercet.training.engine import Engine

NO_GROUP = torch.iinfo(torch.int64).min


@dataclass(frozen=True)
class StageContext:
    """What a memory is built from when a stage begins."""

    config: RunConfig
    engine: Engine
    dim: int  # of the joint space
    plan: Plan
    sources: tuple[SourceIds, ...]
    world: World


@dataclass(frozen=True)
class SavedTensor:
    """A tensor for a checkpoint: the same on all ranks, or `sharded`: each rank holds the rows that it owns."""

    name: str
    value: Tensor
    sharded: bool = False


@dataclass(frozen=True)
class SavedMemory:
    """What a checkpoint holds of one memory, under the names that its `state` gave."""

    origin: Origin
    prefix: str

    @property
    def ranks(self) -> int:
        """How many ranks wrote it."""
        return self.origin.ranks

    def names(self) -> list[str]:
        return self.origin.names(self.prefix)

    def read(self, name: str) -> Tensor:
        return self.origin.read(self.prefix + name)

    def read_shard(self, name: str, rank: int) -> Tensor:
        return self.origin.read_shard(self.prefix + name, rank)


def frozen_rows(z_Nd: Tensor, group_N: Tensor | None = None, id_N: Tensor | None = None) -> Gathered:
    """Vectors that belong to no item of the batch and to no rank. Anchors of the same group do not count them.

    Without `group_N`, they are of no group, so that they are negatives of every anchor.
    """
    none_N = torch.full((len(z_Nd),), -1, device=z_Nd.device)
    groups_N = torch.full_like(none_N, NO_GROUP) if group_N is None else group_N
    return Gathered(z_Nd, item_N=none_N, group_N=groups_N, id_N=none_N if id_N is None else id_N, rank_N=none_N)


class Memory:
    """The base of every memory: it offers, learns and keeps nothing."""

    def frozen(self, batch: Batch) -> Mapping[str, Gathered]:
        """Vectors for this step's terms, the same on all ranks, by the names that the config offers."""
        return {}

    def read(self, id_N: Tensor) -> Mapping[str, Tensor]:
        """Values of the samples with these ids, `[N]` each; all ranks ask for the same ids."""
        return {}

    def after(self, batch: Batch, outcome: Outcome) -> None:
        """Learns from a step that was applied."""

    def state(self) -> Iterator[SavedTensor]:
        yield from ()

    def restore(self, saved: SavedMemory) -> None:
        """Takes what a checkpoint holds. What it does not hold starts as in a new run."""

    def finish(self, folder: Path) -> None:
        """When the run ends, writes columns of values by sample into `folder`, which is this memory's own."""
