"""All memories of a stage, by name. The name is the prefix of the vectors that a memory offers and of its tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.sample import Batch
from tercet.models.losses.objective import build_term
from tercet.models.losses.rows import Rows
from tercet.models.losses.terms import Known, Outcome
from tercet.training.checkpoints.reader import MEMORY, Origin
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.episode import Episode, Learned, Recalled
from tercet.training.memory.memory import Memory, SavedMemory, StageContext
from tercet.training.memory.term_averages import TermAverages, averages_of
from tercet.training.memory.term_values import TermValues, memory_of


class Memories:
    """Calls every memory at each event of a run, always in the same order."""

    def __init__(self, memories: Mapping[str, Memory]) -> None:
        self.by_name = dict(sorted(memories.items()))

    def add(self, name: str, memory: Memory, origin: Origin | None) -> None:
        """Adds a memory that the recipe does not name, such as that of a selection, and restores it."""
        self.by_name = dict(sorted({**self.by_name, name: memory}.items()))
        if origin:
            memory.restore(SavedMemory(origin, f"{MEMORY}/{name}/"))

    def known(self, batch: Batch) -> Known:
        """What the terms of a step may use: the vectors that memories offer, and the values of samples."""
        frozen = {
            f"{name}.{field}": rows
            for name, memory in self.by_name.items()
            for field, rows in memory.frozen(batch).items()
        }
        averages = {one.term: one.values for one in self.by_name.values() if isinstance(one, TermAverages)}
        return Known(
            frozen,
            lambda term, id_N: self.by_name[memory_of(term)].read(id_N),
            averages,
            lambda name, field, rows: self.by_name[name].prototypes(field, rows, frozen),
        )

    @property
    def fields_left_out(self) -> list[str]:
        """The fields of which some memory needs the vectors of samples that a selection left out."""
        return sorted({field for memory in self.by_name.values() for field in memory.fields_left_out})

    def leave_out(self, rows: Mapping[str, Rows]) -> None:
        for memory in self.by_name.values():
            memory.leave_out(rows)

    def after(self, batch: Batch, outcome: Outcome) -> None:
        for memory in self.by_name.values():
            memory.after(batch, outcome)

    def episode(self, episode: Episode) -> dict[str, Learned]:
        return {name: memory.episode(episode) for name, memory in self.by_name.items()}

    def recall(self, folder: Path, sources: Sequence[SourceIds]) -> None:
        """Each memory takes what it kept of an episode, if it kept anything."""
        for name, memory in self.by_name.items():
            if (folder / name).is_dir():
                memory.recall(Recalled(folder / name, sources))

    def state(self) -> Iterator[SavedTensor]:
        for name, memory in self.by_name.items():
            for saved in memory.state():
                yield replace(saved, name=f"{MEMORY}/{name}/{saved.name}")

    def restore(self, origin: Origin) -> None:
        for name, memory in self.by_name.items():
            memory.restore(SavedMemory(origin, f"{MEMORY}/{name}/"))

    def finish(self, folder: Path) -> None:
        """Each memory writes its results to its own subfolder of `folder`."""
        for name, memory in self.by_name.items():
            memory.finish(folder / name)

    def whole(self, name: str) -> dict[str, Tensor]:
        """The tensors of one memory, by name. They must be the same on all ranks. Empty if there is no such memory."""
        return {saved.name: saved.value for saved in self.by_name[name].state()} if name in self.by_name else {}


NO_MEMORIES = Memories({})


def build_memories(context: StageContext) -> Memories:
    """The memories that the recipe names, and those of terms whose objectives keep values of samples or averages."""
    configs = context.config.all_memories
    named = {name: config.build(replace(context, name=name)) for name, config in configs.items()}
    objectives = [(term, build_term(term)) for term in context.config.terms]
    kept = {
        memory_of(term.name): TermValues(term, objective, context.sources, context.world)
        for term, objective in objectives
        if objective.columns
    }
    averaged = {
        averages_of(term.name): TermAverages(term, objective, context.world.device)
        for term, objective in objectives
        if objective.averages
    }
    return Memories({**named, **kept, **averaged})
