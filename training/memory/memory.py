"""The interface of a memory, which keeps values from step to step.

In a stage, the run calls a memory's methods in this order:

1. `restore` loads the memory's tensors from the last checkpoint.
2. Before each step, `frozen` returns vectors that terms may use, `read` values of samples, and `prototypes` the
   clusters of samples.
3. After each applied step, `after` gets the batch and its outcome. A skipped step changes nothing.
4. At an episode, `episode` gets the vectors of samples and returns what to keep of them, and `recall` takes it from the
   folder of the episode. A resumed run calls only `recall`, after `restore`.
5. For a checkpoint, `state` yields the tensors to save.
6. At the end of the run, `finish` writes the memory's values of samples as columns.

Every method is a collective: all ranks call it in the same order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.fields import FieldSpec
from tercet.data_pipelines.plans.plan import Plan
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.problem import Prototypes
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Outcome
from tercet.training.checkpoints.reader import Origin
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.config import RunConfig
from tercet.training.engines.engine import Engine
from tercet.training.memory.episode import Episode, Learned, Recalled


@dataclass(frozen=True)
class StageContext:
    """The arguments of `MemoryConfig.build`."""

    config: RunConfig
    engine: Engine
    dim: int  # of the joint space
    plan: Plan
    sources: tuple[SourceIds, ...]
    world: World
    fields: Mapping[str, FieldSpec]  # those that the stage's terms use
    name: str = ""  # of the memory


@dataclass(frozen=True)
class SavedMemory:
    """The tensors of one memory in a checkpoint, by the names that its `state` gave them."""

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


class Memory:
    """The base class of memories. Its methods do nothing.

    `fields_left_out`: the fields of which the memory needs the vectors of samples that a selection left out.
    """

    fields_left_out: tuple[str, ...] = ()

    def frozen(self, batch: Batch) -> Mapping[str, Rows]:
        """Vectors for the terms of this step, by field, as in the config's `fields_offered`. The same on all ranks."""
        return {}

    def read(self, id_N: Tensor) -> Mapping[str, Tensor]:
        """Values of the samples with these ids, `[N]` each. All ranks must pass the same ids."""
        return {}

    def prototypes(self, field: str, rows: Rows, frozen: Mapping[str, Rows]) -> tuple[Prototypes, Tensor] | None:
        """The prototypes that rows of a field are compared with, and the cluster of each of these rows `[N]`, −1 if it
        has none; or `[N, K]`, how likely each prototype is, all 0 if that is unknown. Returns None before the first
        clustering. The same on all ranks, which pass the same rows.

        `frozen`: all vectors that memories offer in this step, as `NAME.FIELD`.
        """
        return None

    def leave_out(self, rows: Mapping[str, Rows]) -> None:
        """Before a step, gets the vectors of the samples that its selection left out, by field. While the rule chooses,
        there are none."""

    def after(self, batch: Batch, outcome: Outcome) -> None:
        """Learns from a step that was applied."""

    def episode(self, episode: Episode) -> Learned:
        """Computes what the memory needs from the vectors of an episode. Changes nothing; `recall` does."""
        return Learned()

    def recall(self, recalled: Recalled) -> None:
        """Takes what `episode` returned."""

    def state(self) -> Iterator[SavedTensor]:
        yield from ()

    def restore(self, saved: SavedMemory) -> None:
        """Loads the memory's tensors from a checkpoint. Those that it lacks start as in a new run."""

    def finish(self, folder: Path) -> None:
        """At the end of the run, writes columns of values by sample to `folder`, which no other memory uses."""
