"""The values by sample of a term whose objective has `columns`, such as a temperature of each picture and caption.

They are read before each step and written after each applied one. A sample that is in a batch several times, or has
several rows of a field, gets the mean of its new values, which is the same on any number of ranks.

Shape letters: N new values of all ranks, n those of samples that this rank owns, u these samples without duplicates.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tercet.data_pipelines.batches.batches import SourceIds
from tercet.data_pipelines.columns import PIECE, Column, write_column
from tercet.data_pipelines.sample import Batch
from tercet.distributed import World
from tercet.models.losses.objective import Objective
from tercet.models.losses.terms import Outcome
from tercet.models.term_config import TermConfig
from tercet.training.memory.table import SampleTable


class TermValues(SampleTable):
    """A table with the objective's columns for each field of the term, as `FIELD.COLUMN`, 4 bytes each."""

    def __init__(self, term: TermConfig, objective: Objective, sources: Sequence[SourceIds], world: World) -> None:
        first = {f"{field}.{name}": value for field in term.between for name, value in objective.columns.items()}
        super().__init__(dict.fromkeys(first, torch.float32), sources, world, first)
        self.term = term.name

    def after(self, batch: Batch, outcome: Outcome) -> None:
        new: defaultdict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for update in outcome.updates[self.term]:
            for name, value_N in update.values.items():
                new[name].append((update.id_N, value_N))
        for name, parts in new.items():
            id_N, value_N = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
            own_N = self.owned(id_N)
            id_u, index_n, count_u = torch.unique(id_N[own_N], return_inverse=True, return_counts=True)
            total_u = torch.zeros(len(id_u), dtype=torch.float64).index_add_(0, index_n, value_N[own_N].double())
            self.put(id_u, {name: total_u / count_u})

    def finish(self, folder: Path) -> None:
        """Writes the values of all samples that have been in a step as columns of their source."""
        for source, first, found in self.pieces(PIECE):
            seen = torch.stack([value != self.first[name] for name, value in found.items()]).any(dim=0)
            if self.world.first and seen.any():
                values = {name: value[seen].numpy() for name, value in found.items()}
                write_column(folder, source, Column(first + torch.nonzero(seen)[:, 0].numpy(), values))


def memory_of(term: str) -> str:
    """The name of a term's memory. Those that recipes name have no hyphen."""
    return f"term-{term}"
