"""One stage of a run, ready to train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tercet.data_pipelines.batches.batches import Batches
from tercet.data_pipelines.sample import Batch
from tercet.training.config import RunConfig
from tercet.training.engines.engine import Engine
from tercet.training.loop.step import Step
from tercet.training.memory.memories import Memories


@dataclass(frozen=True)
class Chosen:
    """The batch that a step trains on, and what the metrics tell about its selection, by name."""

    batch: Batch
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One stage of a run, ready to train. `steps` are the stage's steps, counted from the start of the run."""

    name: str
    index: int
    config: RunConfig
    engine: Engine
    take: Step
    memories: Memories
    loader: Batches
    steps: range
    select: Callable[[Batch, int], Chosen] = lambda drawn, step: Chosen(drawn)  # of a super-batch
    retrieve: Callable[[Batch], Batch] = lambda drawn: drawn  # adds the fields of soft retrieval
