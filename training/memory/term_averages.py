"""The moving averages of a term whose objective has `averages`. They are the same on all ranks."""

from collections.abc import Iterator

import torch

from tercet.data_pipelines.sample import Batch
from tercet.models.losses.objective import Objective
from tercet.models.losses.terms import Outcome
from tercet.models.term_config import TermConfig
from tercet.training.checkpoints.writer import SavedTensor
from tercet.training.memory.memory import Memory, SavedMemory


class TermAverages(Memory):
    """The averages of the objective. Each is a number at first; its new values may have any shape."""

    def __init__(self, term: TermConfig, objective: Objective, device: torch.device) -> None:
        self.term = term.name
        self.values = {name: torch.tensor(value, device=device) for name, value in objective.averages.items()}

    def after(self, batch: Batch, outcome: Outcome) -> None:
        self.values = outcome.averages[self.term]

    def state(self) -> Iterator[SavedTensor]:
        for name, value in self.values.items():
            yield SavedTensor(name, value if value.ndim else value.reshape(1))

    def restore(self, saved: SavedMemory) -> None:
        for name in self.values.keys() & set(saved.names()):
            value = saved.read(name).to(self.values[name])
            self.values[name] = value.squeeze() if len(value) == 1 else value


def averages_of(term: str) -> str:
    """The name of the memory of a term's averages. Those that recipes name have no hyphen."""
    return f"averages-{term}"
